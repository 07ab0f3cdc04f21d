"""A tiny figure from its measurements to the page, and what is measured once."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from whichmin.cli.main import main
from whichmin.papers import measure, registry
from whichmin.papers.claims import Claim
from whichmin.papers.drawing import adaptivity
from whichmin.papers.figure import PaperFigure, Size, measurement
from whichmin.papers.reproduce import reproduce
from whichmin.papers.theory import lemmas, two_metrics


def cells(size):
    common = size.on("digits") | {"n_train": 12, "n_test": 8, "until": 0.05, "depth": 1, "scale": 1.0}
    return [
        measurement(measure.minimizer, **common, kind=kind, width=512, seed=seed, optimizer="sgd")
        for kind in size.kinds
        for seed in range(2)
    ]


TINY = PaperFigure(
    "which-minimizer",
    "tiny",
    "tiny",
    "a tiny figure",
    "Nothing much.",
    cells,
    (
        Claim("Errors are not negative.", "test error", lambda t: list(t["test_loss"]), "at least", -10.0),
        Claim("Errors are large.", "test error", lambda t: list(t["test_loss"]), "at least", 1e6),
        Claim("Of predictions.", "interpolator", lambda t: list(t.get("interpolator", [])), "at least", 0.0),
        Claim("Of nothing.", "nothing", lambda t: [], "at least", 0.0),
    ),
    adaptivity,
    chosen=("Everything.",),
    refine=lambda table: table.assign(rule="GD"),
)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(registry, "figures", lambda: {TINY.path: TINY})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduced")


def test_from_measurements_to_the_page(folder):
    (found,) = reproduce(["tiny"], folder, Size(), workers=0)
    assert {kind: len(table) for kind, table in found.tables.items()} == {"predicted": 2, "trained": 2}
    assert [v.answer for v in found.verdicts["predicted"]] == ["agrees", "disagrees", "agrees", "undecided"]
    predicted, trained = (found.tables[kind]["test_loss"] for kind in ("predicted", "trained"))
    assert (predicted / trained).between(0.5, 2).all()
    table = pd.read_csv(folder / "which-minimizer" / "tiny.csv")
    assert len(table) == 4
    assert "test" not in table, "arrays are not in the table"
    for ending in ("png", "svg"):
        assert (folder / "which-minimizer" / f"tiny.{ending}").stat().st_size > 1000
    page = (folder / "reproduction.html").read_text(encoding="utf-8")
    assert page.index("Errors are large.") < page.index("Of nothing.") < page.index("Errors are not negative.")
    assert "Everything." in page
    claims = pd.read_csv(folder / "claims.csv")
    assert set(claims["answer"]) == {"agrees", "disagrees", "undecided"}


def test_what_is_measured_is_not_measured_again(folder, monkeypatch):
    reproduce(["tiny"], folder, Size(), workers=0)

    def again(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr(measure.Measurement, "compute", again)
    (found,) = reproduce(["tiny"], folder, Size(), workers=0)
    assert len(found.to_frame()) == 4


def test_measurements_that_fail_are_said(tmp_path, monkeypatch):
    bad = [
        measurement(measure.minimizer, **cell.arguments | {"optimizer": "adam:lr=monotony"}) for cell in cells(Size())
    ]
    monkeypatch.setattr(registry, "figures", lambda: {TINY.path: replace(TINY, cells=lambda _: bad)})
    (found,) = reproduce(["tiny"], tmp_path, Size(), workers=0)
    assert len(found.failures) == 4
    assert "lr is 'monotony'" in found.failures[0]
    assert found.told_failures == (*found.failures[:2], f"2 more measurements of {TINY.path}")
    assert "What failed" in (tmp_path / "reproduction.html").read_text(encoding="utf-8")


def test_the_command(folder, capsys):
    assert main(["reproduce", "tiny", "--quick", "--out", str(folder), "--workers", "0"]) == 0
    said = capsys.readouterr().out
    assert said.index("disagrees: which-minimizer/tiny") < said.index(
        "agrees: which-minimizer/tiny, predicted: Errors are not"
    )
    assert main(["reproduce", "tiny", "--quick", "--predicted", "--json", "--out", str(folder), "--workers", "0"]) == 0
    claims = json.loads(capsys.readouterr().out)["claims"]
    assert {claim["kind"] for claim in claims} == {"predicted"}
    assert main(["reproduce", "--list"]) == 0
    assert capsys.readouterr().out == "which-minimizer/tiny  (tiny): a tiny figure\n"


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([], "say which figures"),
        (["tiny", "--all"], "say which figures"),
        (["fig99"], "there is no figure 'fig99'; there are which-minimizer/tiny"),
        (["tiny", "--predicted", "--trained"], "leave both out"),
    ],
)
def test_bad_input(tokens, said, capsys):
    assert main(["reproduce", *tokens]) == 2
    assert said in capsys.readouterr().err


def test_two_metrics_part_only_overparameterized_models():
    assert two_metrics(seed=0, points=160).numbers["distance"] < 1e-6
    assert two_metrics(seed=0, points=20).numbers["distance"] > 0.01


@pytest.mark.parametrize("depth", [1, 2])
def test_lemma_4_holds_without_biases_only(depth):
    on = {"data": "digits", "n_train": 20, "n_test": 10, "width": 16, "seed": 0, "depth": depth}
    plain, biased = (lemmas(**on, bias=bias).numbers for bias in (False, True))
    assert plain["homogeneity"] < 1e-10 < 0.05 < biased["homogeneity"]
    assert max(plain["interpolators"], biased["interpolators"]) < 1e-8

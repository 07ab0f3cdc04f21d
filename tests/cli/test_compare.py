"""``whichmin compare`` through the entry point, on a problem that is predicted in a blink."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest

from oracles.comparisons import comparison
from whichmin.report.comparison import by_size, finding, interval, verdict
from whichmin.report.numbers import number, percent

SMALL = ["--hidden", "64", "--n-train", "20", "--n-test", "10", "--until", "1e-2", "--dtype", "float64", "--seeds", "2"]
TWO = ["--optimizer", "sgd,adagrad:lr=0.03"]


def test_a_table_and_a_report(cli, tmp_path):
    code, out, err = cli("compare", *SMALL, *TWO)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["test", "error", "(MSE)", "predicted"]
    assert [line.split()[0] for line in lines[1:3]] == ["sgd", "adagrad"]
    assert any(line.startswith("sgd – adagrad ") for line in lines)
    assert "2 seeds cannot tell at level 0.05" in " ".join(out.split())
    report = tmp_path / "whichmin-out" / "compare.html"
    assert lines[-1] == f"report: {report}"
    assert "sgd – adagrad" in report.read_text(encoding="utf-8")
    assert (report.parent / "compare.csv").read_text().startswith("one,other,rms_distance_predicted,")


@pytest.mark.usefixtures("undrawn")
def test_one_object_with_batches_and_training(cli, tmp_path):
    code, out, err = cli(
        "compare", *SMALL, *TWO, "--steps", "30", "--batch-size", "none,5", "--train", "--out", "there", "--json"
    )
    assert code == 0, err
    said = json.loads(out)
    assert list(said["test_error"]) == ["predicted", "trained"]
    names = ["sgd, full batch", "sgd, batch 5", "adagrad, full batch", "adagrad, batch 5"]
    assert list(said["test_error"]["trained"]) == names
    assert len(said["pairs"]) == 6
    assert 0 < said["pairs"][0]["trained"]["paired"]["error"] < 1e-3
    assert said["pairs"][0]["predicted"]["paired"]["distance"]["mean"] > 0
    assert said["report"] == str(tmp_path / "there" / "compare.html")
    assert len(list((tmp_path / "there" / "runs").iterdir())) == 16


@pytest.mark.usefixtures("undrawn")
def test_of_cross_entropy(cli, tmp_path):
    code, out, err = cli("compare", *SMALL, *TWO, "--loss", "cross-entropy", "--train", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["config"]["loss"] == "cross-entropy"
    for kind in ("predicted", "trained"):
        for name in ("sgd", "adagrad"):
            assert 0 < said["test_error"][kind][name]["mean"] < math.log(2), "better than to know nothing"
            assert 0.5 < said["accuracy"][kind][name]["mean"] <= 1
    text = (tmp_path / "whichmin-out" / "compare.html").read_text(encoding="utf-8")
    assert "test error, trained" in text
    assert "The test error is the cross-entropy on the test set" in text


def test_of_a_loss_without_a_minimizer_there_is_no_aim_but_the_users(cli, answered):
    asked = answered(comparison())
    for tokens in (["--steps", "9"], ["--until", "0.2"]):
        cli("compare", "--loss", "cross-entropy", *tokens)
    assert [(options["until"], options["steps"]) for _, options in asked] == [(None, 9), (0.2, None)]


def test_a_number_of_steps_takes_the_place_of_the_default_aim(cli, answered):
    asked = answered(comparison())
    for tokens in ([], ["--steps", "9"], ["--steps", "9", "--until", "0.2"]):
        cli("compare", *tokens)
    assert [(options["until"], options["steps"]) for _, options in asked] == [(1e-3, None), (None, 9), (0.2, 9)]


@pytest.mark.usefixtures("undrawn")
def test_a_choice_that_diverges_fails_alone(cli):
    code, out, err = cli("compare", *SMALL, "--steps", "40", "--optimizer", "sgd,sgd:lr=100,adagrad:lr=0.03")
    assert code == 1, err
    assert "sgd lr=100, seed 0 could not be predicted: lr = 100 diverges" in " ".join(out.split())
    assert "Failed as well: seed 1." in " ".join(out.split())
    assert "sgd lr=half – adagrad" in out


@pytest.fixture
def answered(monkeypatch):
    """The command answers with a comparison whose every number differs from every other."""
    asked = []

    def answer(found):
        monkeypatch.setattr(
            "whichmin.studies.compare.compare", lambda *args, **options: asked.append((args, options)) or found
        )
        return asked

    return answer


def cells(line):
    """The cells of a line of a table: intervals are one each."""
    return re.split(r"\s{2,}", line.strip())


@pytest.mark.parametrize("trained", [True, False])
def test_every_number_stands_in_its_column(cli, answered, trained):
    found = comparison(trained=trained)
    answered(found)
    code, out, err = cli("compare", *SMALL, *TWO)
    assert code == 0, err
    lines = out.splitlines()
    kinds = ["predicted", "trained"] if trained else ["predicted"]
    for first, title, of in ((0, "test error (MSE)", found.test_error_of), (5, "accuracy", found.accuracy_of)):
        assert cells(lines[first]) == [title, *kinds]
        for line, name in zip(lines[first + 1 : first + 4], found.names, strict=True):
            assert cells(line) == [name, *(interval(of(getattr(found, kind))[name]) for kind in kinds)]
    titles = ["error", "p", "different", "shared", "p", "beyond the seed", "flips"]
    assert cells(lines[10]) == ["distance of outputs", *kinds, *titles]
    for line, ((one, other), pair) in zip(lines[11:14], by_size(found), strict=True):
        best = pair.trained if trained else pair.predicted
        distances = [interval(getattr(pair, kind).paired.distance) for kind in kinds]
        paired = [number(pair.predicted.paired.error), number(best.paired.p_adjusted), verdict(best.paired)]
        shared = best.systematic
        beyond = [interval(shared.distance), number(shared.p_adjusted), verdict(shared)]
        assert cells(line) == [f"{one} – {other}", *distances, *paired, *beyond, percent(best.flips)]
    assert " ".join(" ".join(finding(found)).split()) in " ".join(out.split())
    assert "note: a note" in lines


@pytest.mark.usefixtures("undrawn")
def test_every_number_stands_under_its_key(cli, answered):
    found = comparison(failed=(5, 6))
    answered(found)
    code, out, _ = cli("compare", *SMALL, *TWO, "--batch-size", "none,5", "--level", "0.1", "--json")
    assert code == 1
    said = json.loads(out)
    for kind in ("predicted", "trained"):
        expected = found.test_error_of(getattr(found, kind))
        assert said["test_error"][kind] == {name: vars(estimate) for name, estimate in expected.items()}
        right = found.accuracy_of(getattr(found, kind))
        assert said["accuracy"][kind] == {name: vars(estimate) for name, estimate in right.items()}
    assert [(pair["one"], pair["other"]) for pair in said["pairs"]] == list(found.pairs)
    for pair, known in zip(said["pairs"], found.pairs.values(), strict=True):
        for kind in ("predicted", "trained"):
            effect = getattr(known, kind)
            answers = {"different": effect.paired.significant, "significant": effect.systematic.significant}
            assert pair[kind] == dataclasses.asdict(effect) | answers
    assert said["failures"] == [vars(failure) for failure in found.failures]
    assert said["notes"] == ["a note"]
    assert (said["config"]["batch_size"], said["config"]["level"]) == ([None, 5], 0.1)


@pytest.mark.usefixtures("undrawn")
def test_options_reach_the_question(cli, answered, tmp_path):
    asked = answered(comparison())
    (tmp_path / "c.toml").write_text('seeds = 9\nuntil = 0.5\nbatch_size = [4, "none"]\n')
    cli("compare", "--seeds", "3", "--steps", "11", "--tol", "0.03", "--level", "0.2", "--seed", "7", "--train")
    cli("compare", "--config", "c.toml", "--optimizer", "sgd:lr=1,adam:lr=2", "--no-train")
    (first, options), (second, from_file) = asked
    assert first[3] == 3
    assert {k: options[k] for k in ("train", "until", "steps", "tol", "level")} == {
        "train": True,
        "until": None,
        "steps": 11,
        "tol": 0.03,
        "level": 0.2,
    }
    assert all(recipe.seed == 7 for recipe in first[2].values())
    assert list(first[2]) == ["sgd", "sgd momentum=0.9", "adam", "adagrad", "rmsprop"]
    assert second[3] == 9
    assert (from_file["train"], from_file["until"]) == (False, 0.5)
    assert [(name, recipe.batch_size) for name, recipe in second[2].items()] == [
        ("sgd, batch 4", 4),
        ("sgd, full batch", None),
        ("adam, batch 4", 4),
        ("adam, full batch", None),
    ]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--optimizer", "sgd,adma"], "optimizer 'adma' is not known; did you mean"),
        (["--optimizer", "sgd"], "got 1 recipe; expected"),
        (
            ["--optimizer", "sgd,adam", "--batch-size", "some"],
            "--batch-size is 'some'; expected sizes such as none,10",
        ),
        (["--optimizer", "sgd,adam", "--batch-size", "0"], "batch_size is 0"),
        (["--seeds", "1"], "a single seed where their differences are asked for"),
        (["--level", "2"], "level is 2.0; expected a number between 0 and 1"),
        (["--hidden", "wide"], "--hidden is 'wide'; expected widths"),
        (["--data", "digist"], "there is no data set 'digist'"),
    ],
)
def test_bad_input(cli, tokens, said):
    code, out, err = cli("compare", *tokens)
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err

"""``whichmin mitigate`` through the entry point, on a problem that is predicted in a blink."""

from __future__ import annotations

import json

import pytest

import whichmin as wm
from oracles.builders import make_mitigation
from whichmin.report.mitigation import finding

SMALL = ["--hidden", "64", "--n-train", "30", "--n-test", "10", "--until", "1e-2", "--dtype", "float64"]
FEW = ["--methods", "centered,subtract"]


def test_tables_a_report_and_a_result(cli, tmp_path):
    code, out, err = cli("mitigate", *SMALL, *FEW)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["MSE", "validation", "validation,"]
    assert [line.split("  ")[0] for line in lines[1:5]] == ["interpolator", "as it is", "centered", "subtract"]
    assert lines[-1] == f"report: {tmp_path / 'whichmin-out' / 'mitigate.html'}"
    saved = wm.Mitigation.load(tmp_path / "whichmin-out" / "mitigation")
    assert " ".join(finding(saved)) in " ".join(out.split())
    assert saved.validation.n_test == 6
    assert saved.task.n == 24


@pytest.mark.usefixtures("undrawn")
def test_one_object_of_several_initializations(cli, tmp_path):
    code, out, err = cli(
        "mitigate",
        *SMALL,
        *FEW,
        "--seeds",
        "2",
        "--train",
        "centered",
        "--validation",
        "0.5",
        "--json",
        "--out",
        "there",
    )
    assert code == 0, err
    said = json.loads(out)
    assert len(said["seeds"]) == 2
    first, second = (of["remedies"] for of in said["seeds"])
    assert [row["method"] for row in first] == ["interpolator", "as_it_is", "centered", "subtract"]
    assert first[2]["validation_trained"] is not None
    assert first[3]["validation_trained"] is None
    assert first[1]["validation_predicted"] != second[1]["validation_predicted"]
    assert said["config"]["validation"] == 0.5
    assert (tmp_path / "there" / "mitigate-1.html").is_file()
    assert (tmp_path / "there" / "mitigation-1" / "config.json").is_file()


@pytest.fixture
def asked(monkeypatch):
    """The command answers with a result of its own, and keeps what it was asked."""
    calls = []
    monkeypatch.setattr(
        "whichmin.mitigation.mitigate.mitigate", lambda *args, **options: calls.append(options) or make_mitigation()
    )
    return calls


@pytest.mark.usefixtures("undrawn")
def test_options_reach_the_question(cli, asked):
    code, _, err = cli(
        "mitigate",
        "--n-train",
        "30",
        "--steps",
        "50",
        "--level",
        "0.2",
        "--budget",
        "9",
        "--tol",
        "0.05",
        "--train",
        "none",
    )
    assert code == 0, err
    expected = {
        "methods": "all", "train": "none", "validation": 0.2, "level": 0.2, "budget": 9.0, "until": None, "steps": 50,
        "tol": 0.05, "progress": True,
    }  # fmt: skip
    assert asked == [expected]
    cli("mitigate", "--loss", "cross-entropy", "--steps", "50")
    assert asked[-1]["until"] is None


@pytest.mark.usefixtures("undrawn")
def test_an_interruption_leaves_what_is_finished(cli, monkeypatch, tmp_path):
    import dataclasses

    part = dataclasses.replace(make_mitigation(), interrupted=True)
    monkeypatch.setattr("whichmin.mitigation.mitigate.mitigate", lambda *args, **options: part)
    code, _, err = cli("mitigate", "--n-train", "30")
    assert code == 130
    report = tmp_path / "whichmin-out" / "mitigate.html"
    assert f"interrupted: what was finished is in {report}." in err
    assert report.is_file()
    assert wm.Mitigation.load(tmp_path / "whichmin-out" / "mitigation").interrupted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "centred"], "Did you mean 'centered'?"),
        (["--optimizer", "sgd:lr=1,adam"], "got 2 values of --optimizer; remedies are tried for one network and"),
        (["--validation", "1.5"], "expected a share between 0 and 1"),
        (["--train", "some"], "expected 'best', 'all', 'none', or some of the methods"),
        (["--budget", "0"], "expected a positive number of seconds"),
    ],
)
def test_bad_input(cli, options, message):
    code, _, err = cli("mitigate", "--n-train", "30", *options)
    assert code == 2
    assert message in err

"""``whichmin leave-out`` through the entry point, on a problem that is predicted in a blink."""

from __future__ import annotations

import json

import pytest

from whichmin.cli.leave_out import read
from whichmin.errors import ConfigError

SMALL = ["--hidden", "64", "--n-train", "12", "--n-test", "10", "--dtype", "float64", "--until", "3e-2", "--tol", "0.1"]


def test_a_table_and_a_report(cli, tmp_path):
    code, out, err = cli("leave-out", *SMALL)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[2].split()[:4] == ["without", "rows", "test", "error"]
    assert len([line for line in lines if line.startswith("group ")]) == 12
    assert "Of 12 training rows, each left out alone," in " ".join(out.split())
    report = tmp_path / "whichmin-out" / "leave-out.html"
    assert lines[-1] == f"report: {report}"
    assert "What would be without these rows?" in report.read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn")
def test_one_object(cli, tmp_path):
    asked = ["--groups", "0,3;5", "--batch-size", "4", "--steps", "6", "--batches", "redrawn", "--out", "there"]
    code, out, err = cli("leave-out", *SMALL, *asked, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert [group["rows"] for group in said["groups"]] == [[0, 3], [5]]
    assert said["config"]["batches"] == "redrawn"
    assert said["groups"][0]["error"] >= 0
    assert said["test_error"] > 0
    assert said["report"] == str(tmp_path / "there" / "leave-out.html")


@pytest.mark.usefixtures("undrawn")
def test_finished_groups_are_kept(cli, tmp_path, monkeypatch):
    asked = ["--groups", "2", "--optimizer", "adam:lr=1e-2", "--steps", "5"]
    code, first, err = cli("leave-out", *SMALL, *asked)
    assert code == 0, err
    kept = {place.name.rpartition("-")[0] for place in (tmp_path / "whichmin-out" / "runs").iterdir()}
    assert kept == {"leave-out", "leave-out-plan"}
    monkeypatch.setattr("whichmin.studies.leaving_out.answers._answer", None)
    code, again, err = cli("leave-out", *SMALL, *asked)
    assert code == 0, err
    assert again == first


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--groups", "some"], "--groups is 'some'"),
        (["--groups", "0,0"], "group 0 has row 0 twice"),
        (["--groups", "12,13"], "group 0 has row 12"),
        (["--seeds", "2"], "got 2 seeds; rows are left out of one initialization: leave --seeds out, or name one"),
        (["--optimizer", "sgd,adam"], "got 2 values of --optimizer; rows are left out for one network and one way"),
        (["--scale", "1,2", "--lr", "1,2"], "compare them with whichmin compare --scale … --lr …."),
        (["--workers", "0"], "--workers is 0"),
        (["--budget", "0"], "budget is 0"),
    ],
)
def test_what_is_refused(cli, asked, message):
    code, out, err = cli("leave-out", *SMALL, *asked)
    assert (code, out) == (2, "")
    assert message in err


def test_groups_as_they_are_written():
    assert read("each") == "each"
    assert read("12") == 12
    assert read("0,5,7;12") == [[0, 5, 7], [12]]
    with pytest.raises(ConfigError, match="expected each, a number of random halves, or row numbers"):
        read("0-5")

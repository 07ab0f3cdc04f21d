"""The file beside a report: it asks the same again, and says where what it was made with is not the same any more."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime, timedelta

import pytest

from whichmin.cli.record import Record, to_toml
from whichmin.studies.experiment import Experiment

from .conftest import SMALL

#: What is not the same again: how long it took, and where it is.
TIMES = ("seconds_train", "seconds_predict", "speedup", "seconds", "extra_seconds", "config", "report", "csv", "toml")
PLACES = ("comparison_report", "comparison_csv")
ASKED = {
    "explain": [*SMALL, "--seeds", "2,0", "--optimizer", "sgd:lr=0.1234567891,adam:betas=0.8/0.99,lr=0.01"],
    "predict": [*SMALL, "--seeds", "2", "--scale", "0.9,1", "--batch-size", "none,5", "--steps", "4", "--lr", "0.1"],
    "compare": [*SMALL[2:], "--seeds", "2", "--optimizer", "sgd,sgd:lr=0.5", "--level", "0.2", "--hidden", "64,40-40"],
    "mitigate": [*SMALL, "--methods", "centered,subtract", "--train", "none", "--validation", "0.3", "--level", "0.1"],
    "leave-out": [*SMALL, "--groups", "0,3;5", "--tol", "0.1", "--batch-size", "7", "--steps", "9", "--lr", "0.1"],
    "linear": ["--n-train", "4", "--inputs", "9", "--outputs", "2", "--seeds", "5,6", "--hidden", "30,20"],
}


def without_times(said):
    if isinstance(said, dict):
        return {name: without_times(value) for name, value in said.items() if name not in TIMES + PLACES}
    return [without_times(value) for value in said] if isinstance(said, list) else said


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ASKED)
def test_the_same_again(cli, tmp_path, command):
    code, out, err = cli(command, *ASKED[command], "--out", "first", "--json")
    assert code == 0, err
    file = tmp_path / "first" / f"{command}.toml"
    code, again, err = cli(command, "--config", str(file), "--out", "second", "--json")
    assert code == 0, err
    first, second = json.loads(out), json.loads(again)
    assert without_times(first) == without_times(second)
    assert first["config"] == second["config"]
    written, rewritten = (
        tomllib.loads((tmp_path / name / f"{command}.toml").read_text()) for name in ("first", "second")
    )
    dates = [datetime.fromisoformat(of["made"].pop("date")) for of in (written, rewritten)]
    assert all(date.utcoffset() == timedelta(0) for date in dates)
    assert written == rewritten
    page = (tmp_path / "first" / f"{command}.html").read_text()
    made = tomllib.loads(file.read_text())["made"]
    for text in (f"whichmin {command}", made["fingerprint"], f"torch {made['versions']['torch']}", str(file)):
        assert text in page


@pytest.mark.usefixtures("undrawn")
def test_what_differs_is_said(cli, tmp_path):
    assert cli("explain", *SMALL, "--seeds", "1")[0] == 0
    file = tmp_path / "whichmin-out" / "explain.toml"
    made = tomllib.loads(file.read_text())["made"]
    text = file.read_text().replace(made["versions"]["torch"], "1.0").replace("n_train = 20", "n_train = 22")
    (tmp_path / "other.toml").write_text(text)
    code, out, err = cli("predict", "--config", "other.toml")
    assert code == 0, err
    said = " ".join(out.split())
    assert "note: other.toml was written by whichmin explain, and this is whichmin predict." in said
    assert "note: The data are not those of other.toml: their fingerprint is" in said
    assert f"and was {made['fingerprint']}." in said
    assert f"Versions are not those of other.toml: torch {made['versions']['torch']} (was 1.0)." in said
    page = (tmp_path / "whichmin-out" / "predict.html").read_text()
    assert "Versions are not those of other.toml" in page


@pytest.mark.usefixtures("undrawn")
def test_commands_do_not_replace_each_others_files(cli, tmp_path):
    small = [*SMALL, "--steps", "2", "--seeds", "2", "--optimizer", "sgd,adam"]
    for command in ("explain", "predict", "compare"):
        assert cli(command, *small)[0] == 0
    names = {path.name for path in (tmp_path / "whichmin-out").iterdir() if path.is_file()} - {"store.json"}
    kinds = ("explain", "explain-comparison", "predict", "predict-comparison", "compare")
    files = {f"{kind}.{ending}" for kind in kinds for ending in ("html", "csv")}
    assert names == files | {"explain.toml", "predict.toml", "compare.toml"}


def test_values_as_toml_has_them():
    values = {"a": 'say "ä"\n\\', "b": [1, None, True], "c": 1e-05, "d": [[600, 600], [128]], "e": {"x y": 2.0}}
    read = tomllib.loads("\n".join(f"{name} = {to_toml(value)}" for name, value in values.items()))
    assert read == values | {"b": [1, "none", True]}


def test_data_are_named_by_their_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "homes.csv").touch()
    for data, expected in (("homes.csv", str(tmp_path / "homes.csv")), ("digits", "digits"), ("openml:61",) * 2):
        Record("explain", {"data": data, "n_test": None}, {}).write(tmp_path)
        read = tomllib.loads((tmp_path / "explain.toml").read_text())
        assert read == {"data": expected, "made": {}}


def test_the_page_names_networks_as_the_command_line_does(tmp_path):
    record = Record("explain", Experiment(hidden=[[8, 8], [16]]).to_dict(), {"fingerprint": "f", "versions": {}})
    assert record.page(tmp_path)["hidden"] == ["8-8", "16"]

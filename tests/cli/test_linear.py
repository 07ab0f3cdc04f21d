"""``whichmin linear`` through the entry point, on a problem that is solved in a blink."""

from __future__ import annotations

import importlib
import json
import math

import pytest
import torch

from oracles import linear_networks

SMALL = ["--n-train", "4", "--inputs", "9", "--outputs", "2", "--seeds", "2"]
ONE = ["--hidden", "40"]
SWEEP = ["--hidden", "40,20,80", "--exponents", "0.4,0.5"]


STUDY = importlib.import_module("whichmin.linear.study")


@pytest.fixture
def answered(monkeypatch):
    """The command answers with one study; what it was asked."""
    asked = []

    def study(X, Y, **options):
        asked.append((X, Y, options))
        return linear_networks.study()

    monkeypatch.setattr(STUDY, "study", study)
    return asked


def test_a_table_and_a_report(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(STUDY, "FRACTIONS", (0.5,))
    monkeypatch.setattr("whichmin.jobs.progress.DELAY", 0.0)
    code, out, err = cli("linear", *SMALL, *SWEEP)
    assert code == 0, err
    assert "width sweep" in err
    assert "note: the initialization is off the invariant set" in out
    lines = out.splitlines()
    assert lines[0].split() == ["guaranteed", "tight", "measured"]
    assert lines[1].startswith("rate of the loss")
    assert any(line.startswith("a = 0.5") for line in lines)
    report = tmp_path / "whichmin-out" / "linear.html"
    assert lines[-1] == f"report: {report}"
    assert "<html" in report.read_text(encoding="utf-8")
    assert (report.parent / "linear.csv").read_text().startswith("quantity,guaranteed,tight,measured\n")


@pytest.mark.usefixtures("undrawn")
def test_one_object(cli, tmp_path, answered):
    code, out, err = cli("linear", *SMALL, *SWEEP, "--out", "there", "--json")
    assert code == 0, err
    said = json.loads(out)
    measured = {row["quantity"]: row for row in said["table"]}
    rate = measured["rate of the loss"]
    assert rate["guaranteed"] <= rate["tight"] <= rate["measured"]
    assert [fit["exponent"] for fit in said["fits"]["solution_distances"]] == [0.4, 0.5]
    assert said["report"] == str(tmp_path / "there" / "linear.html")


@pytest.mark.usefixtures("undrawn")
def test_no_sweep(cli, monkeypatch):
    monkeypatch.setattr(STUDY, "FRACTIONS", (0.5,))
    code, out, err = cli("linear", *SMALL, *ONE, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["fits"] == {}
    assert said["config"]["hidden"] == [[40]]
    assert said["table"][0]["measured"] > said["table"][0]["guaranteed"] > 0
    numbers = [v for row in said["table"] for k, v in row.items() if k != "quantity" and v is not None]
    assert not any(math.isnan(v) for v in numbers)


@pytest.mark.usefixtures("undrawn")
def test_options_reach_the_study(cli, answered):
    code, _, err = cli("linear", *SMALL, *SWEEP, "--exponent", "0.4", "--network-seed", "3")
    assert code == 0, err
    for seed in ("0", "1"):
        tokens = ["--data", "digits", "--n-train", "3", "--data-seed", seed, *ONE]
        assert cli("linear", *tokens)[0] == 0
    (X, Y, options), (digits, labels, plain), (drawn, *_) = answered
    assert plain["network_seed"] == 0
    assert (plain["width"], plain["widths"]) == (40, ())
    assert not torch.equal(digits, drawn), "of another seed"
    assert (X.shape, Y.shape) == ((4, 9), (4, 2))
    expected = {"width": 40, "exponent": 0.4, "network_seed": 3, "seeds": 2}
    expected |= {"widths": [40, 20, 80], "exponents": [0.4, 0.5]}
    assert {name: options[name] for name in expected} == expected
    assert (digits.shape, labels.shape) == ((3, 64), (3, 10))
    assert float(digits.max()) == 1.0


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--hidden", "wide"], "--hidden is 'wide'; expected widths such as 2048"),
        (["--hidden", "20-20"], "expected widths of one hidden layer each, such as --hidden 100,400,1600"),
        (["--exponents", "a,b"], "--exponents is 'a,b'; expected numbers separated by commas"),
        (["--n-train", "0"], "got 0 points, 25 inputs, 3 outputs; expected one of each at least"),
        (["--data", "digist"], "there is no data set 'digist'"),
        (["--inputs", "many"], 'unable to convert "many" into int'),
    ],
)
def test_bad_input(cli, tokens, said):
    code, out, err = cli("linear", *tokens)
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("undrawn")
def test_a_place_that_cannot_be_written_to(cli, tmp_path, answered):
    (tmp_path / "file").touch()
    code, out, err = cli("linear", *SMALL, *ONE, "--out", "file")
    assert code == 2
    assert out == ""
    assert "whichmin: error: cannot write " in err


@pytest.mark.usefixtures("undrawn")
def test_a_file_of_the_same_options(cli, tmp_path, answered):
    (tmp_path / "c.toml").write_text("hidden = [[30], [60]]\nseeds = [3, 4]\ninputs = 9\nclasses = [0, 1]\n")
    code, _, err = cli("linear", "--config", "c.toml", "--seeds", "5", "--data", "digits")
    assert code == 0, err
    ((X, Y, options),) = answered
    assert (options["width"], options["widths"], options["seeds"]) == (30, [30, 60], 5)
    assert (X.shape, Y.shape) == ((10, 64), (10, 1))
    (tmp_path / "c.toml").write_text("optimizer = 'adam'\n")
    code, _, err = cli("linear", "--config", "c.toml")
    assert code == 2
    assert "c.toml has the unknown key 'optimizer'" in err


@pytest.mark.usefixtures("undrawn")
def test_the_default_widths(cli, answered):
    assert cli("linear")[0] == 0
    ((_, _, options),) = answered
    assert (options["width"], sorted(options["widths"])) == (200, [100, 200, 400, 800, 1600, 3200, 6400])

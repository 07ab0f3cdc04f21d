"""A study and its command."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from cyclopts import App

from oracles import linear_networks
from whichmin import linear
from whichmin.cli.linear import linear as command
from whichmin.errors import ConfigError
from whichmin.linear.descent import largest_step
from whichmin.linear.study import measured_rate


@pytest.fixture
def answer():
    return linear_networks.study()


def test_measured_is_within_guaranteed(answer):
    table = answer.to_frame().set_index("quantity")
    rate = table.loc["rate of the loss"]
    assert rate.guaranteed <= rate.tight <= rate.measured
    late = table.loc["rate of the loss near the optimum"]
    assert late.tight <= late.measured
    distance = table.loc["distance to minimum norm at the end"]
    assert distance.measured <= distance.tight <= distance.guaranteed
    assert table.loc["the same, on the invariant set"].measured < 1e-7
    near, off = (float(answer.flows[k].solution_distances[-1]) for k in ("near it", "random"))
    assert 1e-4 < near < off


def test_descents_drift_in_proportion_to_the_step(answer):
    drifts = [float(run.imbalance_drift[-1]) for run in answer.descents.values()]
    assert drifts[0] / drifts[1] == pytest.approx(10, rel=0.5)
    assert drifts[1] / drifts[2] == pytest.approx(10, rel=0.2)


def test_a_study_starts_where_it_says(answer):
    X, Y = linear.example(4, 9, 2)
    delta = {k: linear.analyze_weights(*run.at(0), X, Y).invariant_distance for k, run in answer.flows.items()}
    assert delta["near it"] == pytest.approx(0.1 * delta["random"], rel=1e-6)
    assert delta["on the invariant set"] < 1e-12
    assert delta["random"] == pytest.approx(answer.analysis.invariant_distance)
    start = answer.flows["random"]
    limit = largest_step(start._problem, start._states[0])
    for fraction, run in answer.descents.items():
        assert float(run.times[1] - run.times[0]) / fraction / limit == pytest.approx(
            max(1, run.evaluations // 200), rel=1e-9
        )
        assert float(run.times[-1]) == pytest.approx(min(float(start.times[-1]), 500 * limit), abs=fraction * limit)
    assert list(answer.descents) == [0.5, 0.05, 0.005]


def test_measured_rates_are_the_least_mean_rate_and_the_late_one():
    times = torch.linspace(0, 30, 301).double()
    run = SimpleNamespace(times=times, gaps=3.0 * (0.99 * torch.exp(-2 * times) + 0.01 * torch.exp(-times)))
    relative = run.gaps / run.gaps[0]
    early = -relative[1:].log() / times[1:]
    assert measured_rate(run) == pytest.approx(float(early[relative[1:] > 1e-12].min()))
    inside = (relative < 1e-4) & (relative > 1e-8)
    first, *_, last = relative[inside].log().tolist()
    assert measured_rate(run, late=True) == pytest.approx((first - last) / (0.1 * (int(inside.sum()) - 1)))
    assert 1.0 < measured_rate(run) < 1.25
    assert math.isnan(measured_rate(SimpleNamespace(times=times, gaps=torch.ones(301).double()), late=True))


def run(*tokens):
    app = App(name="whichmin", result_action="return_value")
    app.command(command, name="linear")
    return app(["linear", *tokens], exit_on_error=False, print_error=False)


SMALL = ("--n-train", "4", "--inputs", "8", "--outputs", "2", "--width", "30", "--seeds", "2")


def test_the_command_prints_a_table_and_writes_the_report(tmp_path, capsys):
    assert run(*SMALL, "--widths", "20,40", "--exponents", "0.5", "--out", str(tmp_path)) == 0
    captured = capsys.readouterr()
    assert "guaranteed" in captured.out
    assert "a = 0.5" in captured.out
    assert "note: the initialization is off the invariant set" in captured.out
    assert "width sweep" in captured.err
    assert (tmp_path / "report.html").is_file()


@pytest.mark.usefixtures("undrawn")
def test_the_command_speaks_json(tmp_path, capsys):
    run(*SMALL, "--widths", "none", "--json", "--out", str(tmp_path))
    said = json.loads(capsys.readouterr().out)
    assert said["config"]["width"] == 30
    assert said["fits"] == {}
    assert said["table"][0]["measured"] > said["table"][0]["guaranteed"] > 0
    assert not any(math.isnan(v) for row in said["table"] for k, v in row.items() if k != "quantity" and v is not None)


@pytest.mark.usefixtures("undrawn")
def test_the_command_takes_data(tmp_path, capsys):
    assert run("--data", "digits", "--n-train", "3", "--width", "60", "--widths", "none", "--out", str(tmp_path)) == 0
    assert "rate of the loss" in capsys.readouterr().out


@pytest.mark.parametrize("tokens", [("--widths", "wide"), ("--exponents", "a,b"), ("--n-train", "0")])
def test_the_command_says_what_it_cannot_use(tokens, tmp_path):
    with pytest.raises(ConfigError, match="expected"):
        run(*tokens, "--out", str(tmp_path))

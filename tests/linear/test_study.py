"""A study: guaranteed beside measured."""

import math
from types import SimpleNamespace

import pytest
import torch

from oracles import linear_networks
from whichmin import linear
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

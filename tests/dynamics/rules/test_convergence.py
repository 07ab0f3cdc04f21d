"""How fast training converges on the linearized network."""

from __future__ import annotations

import math

import numpy as np
import pytest

from oracles.frozen import RULES, Frozen, rule
from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.dynamics.rules.higher_momentum import TwoTerms
from whichmin.dynamics.rules.momentum import Momentum
from whichmin.dynamics.rules.nesterov import ScheduledNesterov
from whichmin.recipe.schedule import Schedule

LR = 0.04
LINEAR = {name: rule(RULES[name]) for name in ("descent", "heavy ball", "constant nesterov", "two terms", "dampened")}
LINEAR |= {"negative terms": rule(RULES["negative terms"])}
LINEAR |= {"flow": GradientDescent(0.3, flow=True)}
LINEAR |= {f"heavy-ball flow, {m}": Momentum(LR, flow=True, momentum=m) for m in (0.9, 0.2)}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_rate_is_what_a_step_leaves(name):
    described = LINEAR[name]
    frozen = Frozen.make(2)
    rates = described.convergence(frozen.spectrum, 2 / 7)
    assert rates.kind == "linear"
    assert rates.exponent == math.inf
    assert 0 < rates.factor < 1
    assert float((frozen.spectrum.eigenvalues - rates.slowest).abs().min()) == 0
    motion = frozen.at_rest(described)
    span = 24 / -math.log(rates.factor)  # the loss falls by e^{−24} over it
    first, last = (max(motion.loss(round(part * span) + k) for k in range(60)) for part in (0.5, 1.0))
    assert (last / first) ** (1 / (round(span) - round(0.5 * span))) == pytest.approx(rates.factor, rel=0.02)


def test_the_rate_of_gradient_descent_by_hand():
    frozen = Frozen.make(2)
    values = frozen.spectrum.eigenvalues.numpy()
    rates = GradientDescent(0.2).convergence(frozen.spectrum, 2 / 7)
    assert rates.slowest == values[-1]
    assert rates.factor == pytest.approx((1 - 0.2 * 2 / 7 * values[-1]) ** 2, rel=1e-12)
    fast = GradientDescent(1.99 / (2 / 7 * values[0])).convergence(frozen.spectrum, 2 / 7)
    assert fast.slowest == values[0], "the largest is the slowest near the limit of stability"
    assert fast.factor == pytest.approx(0.99**2, rel=1e-10)


def test_the_best_damping_is_twice_the_root_of_the_smallest():
    frozen = Frozen.make(2)
    best = 2 * math.sqrt(2 / 7 * float(frozen.spectrum.eigenvalues[-1]))
    rates = [
        Momentum(LR, flow=True, momentum=1 - b * math.sqrt(LR)).convergence(frozen.spectrum, 2 / 7).factor
        for b in (0.8 * best, best, 1.2 * best)
    ]
    assert rates[1] < min(rates[0], rates[2])
    assert rates[1] == pytest.approx(math.exp(-best * math.sqrt(LR)), rel=1e-6)


@pytest.mark.parametrize(
    "described",
    [
        GradientDescent(0.1, schedule=Schedule(lr=lambda k: 0.1)),
        Momentum(0.1, momentum=0.9, schedule=Schedule(batches=lambda k: np.arange(2))),
        TwoTerms(0.1, betas=(0.1, 0.1), weight_decay=0.1),
    ],
)
def test_no_rate_is_told_where_none_is_known(described):
    assert described.convergence(Frozen.make().spectrum, 2 / 7) is None


@pytest.mark.parametrize("r", [1.0, 3.0, 5.0])
def test_the_rate_of_a_scheduled_flow_is_sublinear(r):
    """``test_flows`` measures the exponent."""
    spectrum = Frozen.make(rank=5).spectrum
    rates = ScheduledNesterov(LR, flow=True, r=r).convergence(spectrum, 2 / 7)
    assert (rates.kind, rates.exponent, rates.factor) == ("sublinear", r, 1.0)
    assert rates.slowest == float(spectrum.eigenvalues[4])


@pytest.mark.parametrize("share", [0.3, 0.95])
@pytest.mark.parametrize("r", [1.0, 3.0])
def test_the_rate_of_discrete_steps_of_a_schedule_is_linear_in_the_end(r, share):
    """Measured over late steps of the mode that the rate names; beyond z = 1 the largest eigenvalue may be slowest."""
    spectrum, gamma = Frozen.make(rank=5).spectrum, 2 / 7
    rule = ScheduledNesterov(1.0, r=r)
    rule = ScheduledNesterov(share * rule.limit(float(spectrum.eigenvalues[0]), gamma), r=r)
    rates = rule.convergence(spectrum, gamma)
    assert rates.kind == "linear"
    z = rule.lr * gamma * rates.slowest
    state, sizes = np.array([1.0, 0.0]), []
    for k in range(10**8, 10**8 + 6000):
        A, B = rule.matrices(k, rule.lr)
        state = A @ state + B * (z / rule.lr) * state[0]
        state, size = state / np.linalg.norm(state), float(np.log(np.linalg.norm(state)))
        sizes.append(size)
    assert np.mean(sizes[1000:]) == pytest.approx(np.log(rates.factor) / 2, rel=3e-2, abs=3e-4)

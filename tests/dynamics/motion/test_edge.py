"""Beyond the limit of stability: one law, whatever the rule and however its steps are made."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from oracles.frozen import Quadratic
from whichmin.dynamics.motion.edge import BELOW_LIMIT, driven_share
from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.momentum import Momentum
from whichmin.dynamics.rules.nesterov import ScheduledNesterov
from whichmin.kernels.modes import Spectrum
from whichmin.recipe.schedule import Schedule

ALL_ROWS = np.arange(2)
#: Gradient descent of lr = 1, made in every way there is.
DESCENTS: dict[str, LinearRule] = {
    "closed": GradientDescent(1.0),
    "decay": GradientDescent(1.0, weight_decay=1e-12),
    "scheduled": GradientDescent(1.0, schedule=Schedule(lr=lambda k: 1.0)),
    "batches": GradientDescent(1.0, schedule=Schedule(lambda k: ALL_ROWS, 1)),
    "batches, decay": GradientDescent(1.0, schedule=Schedule(lambda k: ALL_ROWS, 1), weight_decay=1e-12),
    "no momentum": Momentum(1.0, momentum=0.0),
}


def from_rest(rule, values):
    values = torch.as_tensor(values, dtype=torch.float64)
    spectrum = Spectrum(torch.diag(values), 1.0, 2e-16)
    objective = Quadratic(np.zeros(len(values)), 1.0)
    return rule.motion(Start.at_rest(spectrum, objective, np.ones(len(values)), rule.state_vectors))


@pytest.mark.parametrize("z", [2.0001, 2.02, 2.5, 3.0, 50.0])
@pytest.mark.parametrize("name", DESCENTS)
def test_a_mode_beyond_the_limit_is_multiplied_by_one_number(name, z):
    motion = from_rest(DESCENTS[name], [z, 0.5])
    factor = -min(1 / (z - 1), 2 * BELOW_LIMIT - 1)
    for t in (1, 2, 3, 10, 51):
        assert motion.residual(t)[0] == pytest.approx(factor**t, rel=1e-9, abs=1e-11)
        assert motion.residual(t)[1] == pytest.approx(0.5**t, rel=1e-9, abs=1e-11)
        assert 1 + z * motion.coefficients(t)[0, 0] == pytest.approx(factor**t, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", DESCENTS)
def test_a_mode_just_below_the_limit_is_not_touched(name):
    motion = from_rest(DESCENTS[name], [1.999, 0.5])
    assert motion.residual(20)[0] == pytest.approx(0.999**20, rel=1e-9)


@pytest.mark.parametrize("ratio", [1.01, 1.3, 4.0])
@pytest.mark.parametrize("rule", [Momentum(0.1, momentum=0.9), Momentum(0.1, momentum=0.5, nesterov=True)])
def test_momentum_beyond_its_own_limit_is_that_of_the_mirrored_eigenvalue(rule, ratio):
    limit = rule.largest_stable(0, 1.0)
    share = min(1 / (2 * ratio - 1), BELOW_LIMIT / ratio)
    beyond, mirrored = (from_rest(rule, [value]) for value in (ratio * limit, ratio * share * limit))
    for t in (1, 2, 7, 40):
        assert beyond.residual(t)[0] == pytest.approx(mirrored.residual(t)[0], rel=1e-9, abs=1e-12)


def test_a_schedule_is_judged_by_the_rate_of_each_step():
    rates = [0.5, 2.5, 2.5, 0.5]
    motion = from_rest(GradientDescent(0.5, schedule=Schedule(lr=lambda k: rates[k])), [1.0])
    seen = [motion.residual(t)[0] for t in range(5)]
    factors = [b / a for a, b in itertools.pairwise(seen)]
    assert factors == pytest.approx([0.5, -1 / 1.5, -1 / 1.5, 0.5], rel=1e-12)


def test_nothing_beyond_the_limit_is_no_share():
    assert driven_share(np.array([2.0, 1.0]), 2.0) is None
    assert driven_share(np.array([2.0, 1.0]), math.inf) is None
    share = driven_share(np.array([4.0, 2.0, 1.0]), 2.0)
    assert share.tolist() == pytest.approx([1 / 3, 1, 1])


def test_a_flow_has_no_edge():
    for rule in (GradientDescent(1.0, flow=True), ScheduledNesterov(1.0, flow=True)):
        assert abs(from_rest(rule, [1e4]).residual(3.0)[0]) < 1

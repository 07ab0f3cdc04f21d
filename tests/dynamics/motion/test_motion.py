"""Laws of every rule whose motion is known in function space, against the optimizer run in parameter space."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from oracles.frozen import COURSES, DECAYED, LR, RULES, SGD, Frozen, rule
from oracles.linear_rules import distance
from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.motion.recursion import RecursionMotion
from whichmin.errors import DivergenceError
from whichmin.optimizers import HigherMomentum, Nesterov
from whichmin.recipe.schedule import Schedule

ALL = RULES | DECAYED
EVERY = pytest.mark.parametrize("name", ALL)
PLAIN = pytest.mark.parametrize("name", RULES)
ON_EVERY_COURSE = pytest.mark.parametrize("course", COURSES)
SHAPES = ({}, {"rank": 4}, {"rank": 5, "parameters": 5})
#: Every shape in closed form and, one of them, step by step.
ON_COURSES_AND_SHAPES = pytest.mark.parametrize(
    ("course", "shape"),
    [*(("full", shape) for shape in SHAPES), *zip(list(COURSES)[1:], SHAPES, strict=True)],
    ids=str,
)


def close(a, b):
    return distance(torch.as_tensor(a), torch.as_tensor(b))


@EVERY
@ON_COURSES_AND_SHAPES
def test_it_is_the_optimizer(name, course, shape):
    frozen = Frozen.make(**shape)
    described = rule(ALL[name], course)
    motion, trained = frozen.at_rest(described), frozen.train(ALL[name], 120, course)
    assert close(motion.residual(0), frozen.r0) < 1e-13, "no time is rest"
    assert not motion.coefficients(0).any()
    assert np.array_equal(motion.weights(0), np.eye(len(motion.weights(0))))
    assert motion.displacement(0) == 0
    assert motion.loss(0) == pytest.approx(float(frozen.r0.square().mean()), rel=1e-13)
    for t in (120, 1, 2, 3, 10, 97):  # not in order: what was made before is made again
        residual = frozen.residual(trained[t])
        assert close(motion.residual(t), residual) < 1e-10
        assert motion.loss(t) == pytest.approx(float(residual.square().mean()), rel=1e-9, abs=1e-20)
        assert close(frozen.state(motion, t, frozen.origin(described))[0], trained[t]) < 1e-10


@EVERY
@ON_EVERY_COURSE
def test_stopping_and_going_on_is_going_through(name, course):
    frozen, described = Frozen.make(1), rule(ALL[name], course)
    motion, trained = frozen.at_rest(described), frozen.train(ALL[name], 60, course)
    state, at = frozen.origin(described), 0
    for leg in (1, 5, 14, 40):
        before = state[0]
        state = frozen.state(motion, leg, state)
        at += leg
        assert close(motion.residual(leg), frozen.residual(trained[at])) < 1e-10
        assert close(state[0], trained[at]) < 1e-10
        if name in RULES:
            assert motion.displacement(leg) == pytest.approx(float((state[0] - before).norm()), abs=1e-10)
        motion = frozen.going_on(described, motion, leg, state)
    assert at == 60


@PLAIN
@ON_EVERY_COURSE
def test_how_far_the_parameters_moved(name, course):
    frozen, described = Frozen.make(2), rule(RULES[name], course)
    motion, trained = frozen.at_rest(described), frozen.train(RULES[name], 80, course)
    moved = (trained - frozen.theta).norm(dim=1)
    for t in (1, 2, 30, 80):
        assert motion.displacement(t) == pytest.approx(float(moved[t]), abs=1e-10)
    first = int((moved >= 0.7 * moved[5]).nonzero()[0])
    assert motion.first_moved(0.7 * float(moved[5]), 80, flow=False) == first
    assert motion.first_moved(100.0, 80, flow=False) == 80


@PLAIN
@pytest.mark.parametrize(("course", "begin"), [("full", 0), *((course, 20) for course in COURSES)])
def test_how_long_the_way_of_the_parameters_was(name, course, begin):
    """The sum of all steps, which with momentum swing back; also where something is remembered at the start."""
    frozen, described = Frozen.make(2), rule(RULES[name], course)
    trained = frozen.train(RULES[name], begin + 30, course)[begin:]
    motion = frozen.at_rest(described)
    if begin:
        state = frozen.state(motion, begin, frozen.origin(described))
        motion = frozen.going_on(described, motion, begin, state)
    times, lengths = motion.travelled(30.0)
    assert times.tolist() == list(range(1, 31))
    np.testing.assert_allclose(lengths, trained.diff(dim=0).norm(dim=1).cumsum(0), rtol=1e-9)


@PLAIN
@ON_COURSES_AND_SHAPES
def test_the_limit_is_that_of_gradient_descent(name, course, shape):
    """Whatever the rule, the batches and the rates."""
    frozen = Frozen.make(3, **shape)
    motion = frozen.at_rest(rule(RULES[name], course))
    shortest = torch.linalg.pinv(frozen.J) @ -frozen.r0
    theta = frozen.J.T @ torch.from_numpy(motion.coefficients(math.inf)[0])
    assert close(theta, shortest) < 1e-9
    assert close(motion.residual(math.inf), frozen.r0 + frozen.J @ shortest) < 1e-9
    assert motion.displacement(math.inf) == pytest.approx(float(shortest.norm()), rel=1e-9)


@PLAIN
@pytest.mark.parametrize("course", ["full", "batches"])
def test_the_limit_from_midway(name, course):
    frozen, described = Frozen.make(3), rule(RULES[name], course)
    first = frozen.at_rest(described)
    state = frozen.state(first, 20, frozen.origin(described))
    second = frozen.going_on(described, first, 20, state)
    theta, within = frozen.state(second, math.inf, state)[0], torch.linalg.pinv(frozen.J) @ frozen.J
    expected = frozen.theta - torch.linalg.pinv(frozen.J) @ frozen.r0
    assert close(second.residual(math.inf), torch.zeros(7)) < 1e-9
    assert close(within @ theta, within @ expected) < 1e-7
    # What no output sees has died out like the momentum, Nesterov's only like a power of the steps.
    assert close(theta, expected) < (1e-3 if "nesterov" in name and "constant" not in name else 1e-9)


@pytest.mark.parametrize("name", ["descent λ", "heavy ball λ", "two terms λ"])
def test_the_limit_with_weight_decay_is_a_ridge_regression(name):
    """Of L + λ/2·‖θ‖², the function that torch's weight decay descends."""
    frozen, described = Frozen.make(4), rule(DECAYED[name])
    motion = frozen.at_rest(described)
    gamma, decay = 2 / 7, described.weight_decay
    H = gamma * frozen.J.T @ frozen.J + decay * torch.eye(12, dtype=torch.float64)
    theta = torch.linalg.solve(H, gamma * frozen.J.T @ (frozen.J @ frozen.theta - frozen.r0))
    assert close(frozen.state(motion, math.inf, frozen.origin(described))[0], theta) < 1e-9
    assert close(motion.residual(math.inf), frozen.residual(theta)) < 1e-9


@ON_EVERY_COURSE
@pytest.mark.parametrize(
    "without",
    [
        partial(HigherMomentum, lr=LR, betas=(0.0, 0.0)),
        partial(Nesterov, lr=LR, r=1e13),
        partial(SGD, momentum=1e-14, dampening=0.0),
        partial(SGD, momentum=1e-14, nesterov=True),
    ],
)
def test_without_momentum_it_is_gradient_descent(without, course):
    frozen = Frozen.make(5)
    a, b = (frozen.at_rest(rule(f, course)) for f in (without, SGD))
    for t in (1, 2, 9, 50):
        assert close(a.residual(t), b.residual(t)) < 1e-10
        assert close(a.coefficients(t)[0], b.coefficients(t)[0]) < 1e-10


def test_one_momentum_in_two_descriptions():
    frozen = Frozen.make(5)
    a = frozen.at_rest(rule(partial(SGD, momentum=0.7)))
    b = frozen.at_rest(rule(partial(HigherMomentum, lr=LR, betas=(0.7, 0.0))))
    for t in (1, 2, 9, 50):
        assert close(a.coefficients(t)[0], b.coefficients(t)[0]) < 1e-10


@EVERY
@pytest.mark.parametrize("course", ["full", "both"])
def test_the_order_of_the_data_does_not_matter(name, course):
    frozen, described = Frozen.make(6), rule(ALL[name], course)
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    place = order.argsort().numpy()
    moved = Frozen(frozen.J[order], frozen.theta, frozen.r0[order])
    rows = described.schedule.batches
    batches = None if rows is None else lambda k: place[rows(k)]
    renamed = replace(described, schedule=replace(described.schedule, batches=batches))
    a, b = frozen.at_rest(described), moved.at_rest(renamed)
    for t in (1, 2, 33):
        assert close(a.residual(t)[order.numpy()], b.residual(t)) < 1e-11
        assert close(a.coefficients(t)[:, order.numpy()], b.coefficients(t)) < 1e-11


@EVERY
def test_step_by_step_is_the_closed_form(name):
    """A schedule that does not change anything, or batches of all rows."""
    frozen, described = Frozen.make(7, rank=5), rule(ALL[name])
    closed = frozen.at_rest(described)
    for schedule in (Schedule(lr=lambda k: LR), Schedule(batches=lambda k: np.arange(7))):
        steps = frozen.at_rest(replace(described, schedule=schedule))
        assert type(steps) is RecursionMotion
        for t in (1, 2, 100, 700):
            assert close(closed.residual(t), steps.residual(t)) < 1e-10
            a, b = (torch.from_numpy(np.ascontiguousarray(m.coefficients(t))) @ frozen.J for m in (closed, steps))
            assert close(a, b) < 1e-10
            assert close(closed.weights(t), steps.weights(t)) < 1e-10
        until = 1.01 * closed.loss(60)
        assert closed.first_below(until) == steps.first_below(until)


@PLAIN
@ON_EVERY_COURSE
def test_the_first_step_below_is_that_of_a_scan(name, course):
    frozen, described = Frozen.make(8), rule(RULES[name], course)
    motion = frozen.at_rest(described)
    mse = frozen.train(RULES[name], 400, course)
    mse = torch.stack([frozen.residual(theta).square().mean() for theta in mse])
    if described.state_vectors and course == "full" and "negative" not in name:
        assert (mse[1:] > mse[:-1]).any(), "with momentum the error does not fall all the time"
    every = described.schedule.eval_every
    looked_at = [k for k in range(1, 401) if k % every == 0]
    for until in (float(mse[0]) * part for part in (0.999, 0.5, 0.2, 0.05, 1e-2, 1e-3)):
        first = next((k for k in looked_at if mse[k] < until), None)
        if first is not None:
            assert motion.first_below(until) == first
    assert float(mse.min()) < 0.05 * float(mse[0])


@pytest.mark.parametrize("name", ["heavy ball", "constant nesterov", "nesterov", "two terms"])
def test_a_dip_of_the_error_is_found(name):
    """A training error that is only reached in a dip, after which it rises again."""
    frozen = Frozen.make(8)
    mse = torch.stack([frozen.residual(t).square().mean() for t in frozen.train(RULES[name], 600)])
    dips = [k for k in range(2, 599) if mse[k] < mse[k - 1] and mse[k] < mse[k + 1] and mse[k] < mse[:k].min()]
    assert dips
    motion = frozen.at_rest(rule(RULES[name]))
    for k in dips[:5]:
        assert motion.first_below(float(mse[k]) * 1.0000001) == k
        assert motion.first_below(float(mse[k]) * 0.9999999) > k


@pytest.mark.parametrize(
    ("name", "course"), [*((name, "full") for name in RULES), ("descent", "scheduled"), ("descent", "batches")]
)
def test_an_error_out_of_reach_is_never_reached(name, course):
    frozen = Frozen.make(9, rank=4)
    motion = frozen.at_rest(rule(RULES[name], course))
    floor = float((frozen.r0 - frozen.J @ (torch.linalg.pinv(frozen.J) @ frozen.r0)).square().mean())
    assert motion.first_below(0.999 * floor) == math.inf
    assert motion.first_below(floor + 0.3 * (motion.loss(0) - floor)) < math.inf


@PLAIN
@pytest.mark.parametrize("beyond", [1.5, 4.0])
def test_beyond_the_limit_of_stability_what_oscillates_dies_out(name, beyond):
    """In real training it does not diverge along a path; its average is followed, and ends at the interpolator."""
    described = rule(RULES[name])
    frozen = Frozen.make(10, largest=beyond * described.limit(1.0, 1.0) / LR)
    motion = frozen.at_rest(described)
    end = 4000
    moved = frozen.J @ (frozen.state(motion, end, frozen.origin(described))[0] - frozen.theta)
    assert close(motion.residual(end), frozen.r0 + moved) < 1e-9, "coefficients and residual tell of one θ"
    assert close(motion.residual(end), torch.zeros(7)) < 1e-3


def test_batches_that_diverge_are_an_error():
    frozen = Frozen.make(11, largest=9.9)  # a batch's own kernel is beyond its limit
    motion = frozen.at_rest(rule(SGD, "batches"))
    with pytest.raises(DivergenceError, match=r"diverges: after \d+ steps the predicted training MSE is .*larger bat"):
        motion.residual(5000)


def test_where_batches_diverge_is_counted_from_the_start_of_training():
    frozen = Frozen.make(11, largest=9.9)
    described = rule(SGD, "batches")
    first = frozen.at_rest(described)
    second = frozen.going_on(described, first, 30, frozen.state(first, 30, frozen.origin(described)))
    reached = []
    for motion in (first, second):
        with pytest.raises(DivergenceError, match="diverges") as raised:
            motion.residual(5000)
        reached.append(int(re.search(r"after (\d+) steps", str(raised.value))[1]))
    mse = [frozen.residual(theta).square().mean() for theta in frozen.train(SGD, max(reached), "batches")]
    assert reached == [next(k for k, e in enumerate(mse) if e > 1e6 * mse[begin]) for begin in (0, 30)]
    assert 30 < reached[0] < reached[1]


def test_a_start_is_at_rest():
    start = Start.at_rest(Frozen.make().spectrum, Frozen.make().objective, np.ones(7), 2, np.full(7, 3.0))
    assert (start.steps, start.pushed.shape, start.gram.shape) == (0, (3, 7), (2, 2))
    assert (start.pushed[0] == 3).all()
    assert not start.pushed[1:].any()
    assert not start.gram.any()

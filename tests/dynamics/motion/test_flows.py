"""The flows of momentum against integrated differential equations."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import whichmin as wm
from oracles.frozen import SGD, Frozen, rule
from oracles.linear_rules import Dense, distance, problem, sgd
from whichmin.dynamics.motion.closed_form import ClosedFormMotion
from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.rules.momentum import Momentum
from whichmin.dynamics.rules.nesterov import BesselMotion, ScheduledNesterov
from whichmin.optimizers import Nesterov

LR = 0.04  # √lr = 0.2 of the time of a step
FLOWS = {
    "heavy ball": Momentum(LR, flow=True, momentum=0.9),  # b = 0.5
    "strongly damped": Momentum(LR, flow=True, momentum=0.2),
    "nesterov": ScheduledNesterov(LR, flow=True),
    "r=1": ScheduledNesterov(LR, flow=True, r=1.0),
    "r=2": ScheduledNesterov(LR, flow=True, r=2.0),
    "r=5": ScheduledNesterov(LR, flow=True, r=5.0),
}
EVERY = pytest.mark.parametrize("name", FLOWS)


def damping(described, tau):
    if isinstance(described, ScheduledNesterov):
        return described.r / tau if tau else 0.0
    return (1 - described.momentum) / math.sqrt(described.lr)


def integrate(described, frozen, t, *, steps=0.0, theta=None, velocity=None):
    """θ and θ̇ at time τ = √lr·(steps + t), from θ and θ̇ at √lr·steps."""
    J, r0 = frozen.J.numpy(), frozen.r0.numpy()
    origin, gamma, P = frozen.theta.numpy(), 2 / 7, len(frozen.theta)
    theta = origin if theta is None else theta
    velocity = np.zeros(P) if velocity is None else velocity
    tau0 = math.sqrt(described.lr) * steps
    tau1 = math.sqrt(described.lr) * (steps + t)
    if tau0 == 0 and isinstance(described, ScheduledNesterov):  # (r/τ) θ̇ is r θ̈ at the start: θ̈ = −∇L/(1 + r)
        tau0 = 1e-4
        pull = -gamma * J.T @ (r0 + J @ (theta - origin)) / (1 + described.r)
        theta, velocity = theta + pull * tau0**2 / 2, pull * tau0

    def field(tau, s):
        x, v = s[:P], s[P:]
        return np.concatenate([v, -damping(described, tau) * v - gamma * J.T @ (r0 + J @ (x - origin))])

    end = solve_ivp(field, (tau0, tau1), np.concatenate([theta, velocity]), method="DOP853", rtol=1e-12, atol=1e-13)
    return end.y[:P, -1], end.y[P:, -1]


@EVERY
@pytest.mark.parametrize("t", [0.3, 4.0, 61.7])
def test_it_solves_its_equation(name, t):
    described, frozen = FLOWS[name], Frozen.make(rank=5)
    motion = frozen.at_rest(described)
    assert isinstance(motion, BesselMotion if isinstance(described, ScheduledNesterov) else ClosedFormMotion)
    theta, velocity = integrate(described, frozen, t)
    residual = frozen.residual(torch.from_numpy(theta))
    assert distance(torch.from_numpy(motion.residual(t)), residual) < 1e-8
    assert motion.loss(t) == pytest.approx(float(residual.square().mean()), rel=1e-7)
    state = frozen.state(motion, t, frozen.origin(described))
    assert distance(state[0], torch.from_numpy(theta)) < 1e-8
    assert distance(state[1], torch.from_numpy(-velocity)) < 1e-8
    assert motion.displacement(t) == pytest.approx(float(np.linalg.norm(theta - frozen.theta.numpy())), rel=1e-7)


@EVERY
@pytest.mark.parametrize("begun", [0.7, 12.0])
def test_it_restarts_midway(name, begun):
    described, frozen = FLOWS[name], Frozen.make(rank=5)
    motion = frozen.at_rest(described)
    state = frozen.state(motion, begun, frozen.origin(described))
    second = frozen.going_on(described, motion, begun, state)
    assert distance(torch.from_numpy(second.residual(0)), torch.from_numpy(motion.residual(begun))) < 1e-12
    for t in (0.1, 3.0, 40.0):
        there, whole = frozen.state(second, t, state), frozen.state(motion, begun + t, frozen.origin(described))
        assert distance(there, whole) < 1e-10
        residual = torch.from_numpy(second.residual(t))
        assert distance(residual, torch.from_numpy(motion.residual(begun + t))) < 1e-10
        assert second.displacement(t) == pytest.approx(float((there - state)[0].norm()), rel=1e-8)


@EVERY
def test_it_restarts_with_any_velocity(name):
    """One that acts on what the outputs do not see, too."""
    described, frozen = FLOWS[name], Frozen.make(rank=4)
    g = torch.Generator().manual_seed(1)
    theta, velocity = (torch.randn(12, generator=g, dtype=torch.float64) for _ in range(2))
    pushed = torch.stack([torch.zeros(7).double(), frozen.J @ -velocity]).numpy()
    gram = (velocity @ velocity).reshape(1, 1).numpy()
    start = Start(frozen.spectrum, frozen.objective, frozen.residual(theta).numpy(), 9.0, pushed, gram)
    motion, before = described.motion(start), torch.stack([theta, -velocity])
    for t in (0.5, 20.0):
        expected, _ = integrate(described, frozen, t, steps=9.0, theta=theta.numpy(), velocity=velocity.numpy())
        found = frozen.state(motion, t, before)[0]
        assert distance(found, torch.from_numpy(expected)) < 1e-8
        assert motion.displacement(t) == pytest.approx(float((found - theta).norm()), rel=1e-8)


@EVERY
def test_the_limit_is_that_of_gradient_descent(name):
    described, frozen = FLOWS[name], Frozen.make(rank=5)
    motion = frozen.at_rest(described)
    shortest = -torch.linalg.pinv(frozen.J) @ frozen.r0
    assert distance(frozen.J.T @ torch.from_numpy(motion.coefficients(math.inf)[0]), shortest) < 1e-9
    assert distance(torch.from_numpy(motion.residual(math.inf)), frozen.r0 + frozen.J @ shortest) < 1e-9


@EVERY
def test_the_first_crossing_is_the_first(name):
    """The error oscillates: it may cross many times."""
    described, frozen = FLOWS[name], Frozen.make()
    motion = frozen.at_rest(described)
    times = np.arange(0.05, 150, 0.05)
    seen = np.array([motion.loss(t) for t in times])
    for part in (0.5, 0.1, 0.02):
        until = part * motion.loss(0)
        first = times[np.flatnonzero(seen < until)[0]]
        t = motion.first_below(until)
        assert first - 0.05 - 1e-9 <= t <= first
        assert motion.loss(t) < until <= motion.loss(t * (1 - 1e-6))


@pytest.mark.parametrize(
    ("steps", "flow", "order"),
    [
        (lambda lr: partial(torch.optim.SGD, lr=lr, momentum=1 - 0.5 * math.sqrt(lr)), "heavy ball", 1),
        (lambda lr: partial(Nesterov, lr=lr), "nesterov", 1),
    ],
)
def test_steps_become_the_flow(steps, flow, order):
    """At the time τ = 6 and fixed b, with an error of first order in √lr."""
    frozen = Frozen.make(1)
    errors = []
    for n in (100, 200, 400, 800):
        lr = (6.0 / n) ** 2
        described = Momentum(lr, flow=True, momentum=1 - 0.5 * math.sqrt(lr))
        if flow == "nesterov":
            described = ScheduledNesterov(lr, flow=True)
        there = frozen.at_rest(described).residual(n)
        errors.append(float(np.abs(frozen.at_rest(rule(steps(lr))).residual(n) - there).max()))
    measured = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(m - order) < 0.15 for m in measured), (errors, measured)


@pytest.mark.parametrize("r", [1.0, 2.0, 3.0, 5.0])
def test_the_amplitude_of_a_mode_falls_like_a_power(r):
    """t^{−r/2}, and so the loss like t^{−r}."""
    described, frozen = ScheduledNesterov(LR, flow=True, r=r), Frozen.make(rank=1)
    motion = frozen.at_rest(described)
    floor = motion.loss(math.inf)
    peaks = [max((motion.loss(t) - floor, t) for t in begun + np.arange(0, 60, 0.1)) for begun in (200.0, 3200.0)]
    (early, t0), (late, t1) = peaks
    assert math.log(early / late) / math.log(t1 / t0) == pytest.approx(r, rel=0.01)


@pytest.mark.parametrize("optimizer", [partial(SGD, momentum=0.9), partial(Nesterov, lr=0.2)], ids=["sgd", "nesterov"])
def test_a_prediction_of_a_flow(optimizer):
    model, task = problem("over", 3)
    dense = Dense.of(model, task)
    frozen = Frozen(dense.J, dense.theta, dense.r0)
    prediction = wm.predict(model, task, optimizer, steps=17.5, flow=True, relinearize="never")
    described = FLOWS["nesterov"] if optimizer.func is Nesterov else FLOWS["heavy ball"]
    described = type(described)(**{**vars(described), "lr": 0.2})
    J, n = dense.J, len(dense.y)

    def field(tau, s):
        x, v = np.split(s, 2)
        return np.concatenate(
            [v, -damping(described, tau) * v - 2 / n * (J.T @ (dense.r0 + J @ torch.from_numpy(x))).numpy()]
        )

    tau0, size = 1e-4, len(frozen.theta)
    start = -2 / n * (J.T @ dense.r0).numpy() / (1 + getattr(described, "r", 0.0))
    begun = np.concatenate([start * tau0**2 / 2, start * tau0])
    end = solve_ivp(field, (tau0, 17.5 * math.sqrt(0.2)), begun, method="DOP853", rtol=1e-12, atol=1e-13).y[:size, -1]
    assert distance(prediction.test, dense.outputs(torch.from_numpy(end))[1]) < 1e-7
    assert prediction.flow
    lazy = wm.predict(model, task, sgd(0.2), steps=17.5, flow=True, relinearize="never")
    assert distance(prediction.test, lazy.test) > 1e-3

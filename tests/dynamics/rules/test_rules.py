"""The closed forms mode by mode, the registry of rules, and the search for a time."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import whichmin as wm
from oracles.frozen import Quadratic
from oracles.linear_rules import sgd
from whichmin.dynamics.motion.closed_form import ClosedFormMotion
from whichmin.dynamics.motion.gradient import GradientMotion
from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.motion.recursion import RecursionMotion
from whichmin.dynamics.motion.search import first_time
from whichmin.dynamics.rules.adagrad import AdaGrad
from whichmin.dynamics.rules.adam import Adam
from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.dynamics.rules.higher_momentum import TwoTerms
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.momentum import Momentum
from whichmin.dynamics.rules.nesterov import ScheduledNesterov
from whichmin.dynamics.rules.preconditioned import PreconditionedDescent
from whichmin.dynamics.rules.registry import resolve_theory_rate, rule_of
from whichmin.dynamics.rules.rmsprop import RMSprop
from whichmin.errors import OptimizerError
from whichmin.kernels.modes import Spectrum
from whichmin.optimizers import HigherMomentum, Nesterov, Preconditioned
from whichmin.recipe.recipe import Recipe
from whichmin.recipe.schedule import Schedule


def diagonal(values, gamma=1.0):
    """A kernel whose modes are the outputs."""
    values = torch.as_tensor(values, dtype=torch.float64)
    return Spectrum(torch.diag(values), gamma, 2e-16)


def from_rest(rule: LinearRule, values, gamma=1.0):
    """The motion of the residual 1 in each mode."""
    objective = Quadratic(np.zeros(len(values)), gamma)
    return rule.motion(Start.at_rest(diagonal(values, gamma), objective, np.ones(len(values)), rule.state_vectors))


@settings(deadline=None)
@given(z=st.floats(1e-12, 1.999), t=st.integers(0, 60))
def test_a_mode_of_descent(z, t):
    motion = from_rest(GradientDescent(1.0), [z])
    x, phi = 1.0, 0.0
    for _ in range(t):
        x, phi = (1 - z) * x, phi + x
    assert motion.residual(t)[0] == pytest.approx(x, rel=1e-10, abs=1e-14)
    assert -motion.coefficients(t)[0, 0] == pytest.approx(phi, rel=1e-10, abs=1e-14)


@settings(deadline=None)
@given(lr=st.floats(0.01, 3.0), gamma=st.floats(0.01, 1.0), value=st.floats(1e-6, 0.6), t=st.integers(1, 30))
def test_rate_and_loss_scale_a_mode(lr, gamma, value, t):
    motion = from_rest(GradientDescent(lr), [value], gamma)
    z = lr * gamma * value
    undone = -math.expm1(t * math.log1p(-z)) if z < 0.5 else 1 - (1 - z) ** t
    assert motion.residual(t)[0] == pytest.approx((1 - z) ** t, rel=1e-10, abs=1e-14)
    assert -motion.coefficients(t)[0, 0] * value == pytest.approx(undone, rel=1e-9)
    assert motion.displacement(t) == pytest.approx(undone / math.sqrt(value), rel=1e-9)


@pytest.mark.parametrize("z", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("t", [1, 2, 3, 10, 11])
def test_a_mode_that_overshoots(z, t):
    motion = from_rest(GradientDescent(1.0), [z])
    assert motion.residual(t)[0] == pytest.approx((1 - z) ** t, abs=1e-15)
    assert -motion.coefficients(t)[0, 0] * z == pytest.approx(1 - (1 - z) ** t, abs=1e-14)


@settings(deadline=None)
@given(z=st.floats(1e-12, 1e3), t=st.floats(0, 1e6))
def test_a_mode_of_flow(z, t):
    motion = from_rest(GradientDescent(1.0, flow=True), [z])
    assert motion.residual(t)[0] == pytest.approx(math.exp(-z * t), rel=1e-9, abs=1e-300)
    assert -motion.coefficients(t)[0, 0] == pytest.approx(-math.expm1(-z * t) / z, rel=1e-9)


@pytest.mark.parametrize("flow", [False, True])
def test_a_mode_of_eigenvalue_zero_never_moves(flow):
    motion = from_rest(GradientDescent(0.1, flow), [2.0, 0.0])
    for t in (0, 1, 50, math.inf):
        assert motion.residual(t)[1] == 1
        assert motion.coefficients(t)[0, 1] == 0
    assert motion.residual(50)[0] < 1e-3
    assert motion.first_below(0.49) == math.inf, "half of the error is out of reach"
    assert motion.first_below(0.51) < math.inf


def test_the_limit_of_time():
    motion = from_rest(GradientDescent(0.1), [4.0, 2.0])
    assert motion.residual(math.inf).tolist() == [0, 0]
    assert motion.coefficients(math.inf).tolist() == [[-0.25, -0.5]]
    assert motion.residual(0).tolist() == [1, 1]
    assert motion.coefficients(0).tolist() == [[0, 0]]
    assert motion.loss(math.inf) == 0
    assert motion.displacement(math.inf) == pytest.approx(math.sqrt(1 / 4 + 1 / 2))


LIMITS = {
    "descent": (GradientDescent(0.1), 2.0),
    "heavy ball": (Momentum(0.1, momentum=0.9), 2 * 1.9),
    "little momentum": (Momentum(0.1, momentum=0.2), 2 * 1.2),
    "dampened": (Momentum(0.1, momentum=0.5, dampening=0.5), 2 * 1.5 / 0.5),
    "nesterov": (Momentum(0.1, momentum=0.9, nesterov=True), 2 * 1.9 / (1 + 2 * 0.9)),
    "two terms": (TwoTerms(0.1, betas=(0.5, 0.1)), 2 * (1 + 0.5 - 0.1)),
    # A pair of poles of modulus 1, the third is −β₂.
    "two terms, negative": (TwoTerms(0.1, betas=(0.5, -0.2)), 1 + 0.5 + (0.7 - 1) / -0.2 - 0.2),
    "scheduled": (ScheduledNesterov(0.1), 4 / 3),
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_limit_of_stability(name):
    """Where a pole of the mode leaves the unit circle, at −1 but for one."""
    rule, product = LIMITS[name]
    assert rule.limit(4.0, 0.5) == pytest.approx(product / (4.0 * 0.5), rel=1e-5 if name == "scheduled" else 1e-9)


def test_a_flow_has_no_limit_of_stability():
    assert GradientDescent(0.1, flow=True).limit(4.0, 0.5) == math.inf
    assert Momentum(0.1, flow=True, momentum=0.9).limit(4.0, 0.5) == math.inf
    assert ScheduledNesterov(0.1, flow=True).limit(4.0, 0.5) == math.inf


BEST_RATES = {
    "descent": (GradientDescent(0.1), "descent"),
    "flow": (GradientDescent(0.1, flow=True), "descent"),
    "much momentum": (Momentum(0.1, momentum=0.9), "descent"),
    "little momentum": (Momentum(0.1, momentum=0.1), "half"),
    "constant nesterov": (Momentum(0.1, momentum=0.9, nesterov=True), "half"),
    "two terms": (TwoTerms(0.1, betas=(0.6, 0.1)), "descent"),
    "opposing terms": (TwoTerms(0.1, betas=(-0.4, 0.1)), "half"),
    "scheduled": (ScheduledNesterov(0.1), "half"),
}


@pytest.mark.parametrize("name", BEST_RATES)
def test_the_best_rate(name):
    """That of gradient descent, 2/(γ(λ_max + λ_min)), or half of the rule's own limit where that is near."""
    rule, which = BEST_RATES[name]
    spectrum, gamma = diagonal([4.0, 1.0, 0.1, 0.0], 0.5), 0.5
    descent, limit = 2 / (gamma * 4.1), rule.limit(4.0, gamma)
    assert rule.best_rate(spectrum, gamma) == pytest.approx(descent if which == "descent" else limit / 2, rel=1e-12)
    assert (descent < 0.75 * limit) is (which == "descent") or isinstance(rule, GradientDescent)


@pytest.mark.parametrize(("part", "near"), [(0.745, False), (0.755, True)])
def test_a_best_rate_near_the_limit_is_half_of_that(part, near):
    """From three quarters of the limit on."""
    spectrum, gamma = diagonal([4.0, 1.0, 0.1], 0.5), 0.5
    rule = Momentum(0.1, momentum=4 / 4.1 / part - 1)
    descent, limit = 2 / (gamma * 4.1), rule.limit(4.0, gamma)
    assert descent / limit == pytest.approx(part, rel=1e-9)
    assert rule.best_rate(spectrum, gamma) == pytest.approx(limit / 2 if near else descent, rel=1e-12)


def test_the_best_rate_of_descent_converges_fastest():
    spectrum, gamma = diagonal([4.0, 1.0, 0.1], 0.5), 0.5
    best = GradientDescent(0.1).best_rate(spectrum, gamma)
    factors = [GradientDescent(f * best).convergence(spectrum, gamma).factor for f in (0.99, 1.0, 1.01)]
    assert factors[1] < min(factors[0], factors[2])


SETTLED = {
    "descent": (partial(torch.optim.SGD, lr="best"), 2 / (0.5 * 4.1)),
    "little momentum": (partial(torch.optim.SGD, lr="best", momentum=0.1), 1.1 / (0.5 * 4.0)),
    "constant nesterov": (partial(torch.optim.SGD, lr="best", momentum=0.9, nesterov=True), 1.9 / 2.8 / (0.5 * 4.0)),
    "scheduled": (partial(Nesterov, lr="best"), 2 / 3 / (0.5 * 4.0)),
    "opposing terms": (partial(HigherMomentum, lr="best", betas=(-0.4, 0.1)), 0.5 / (0.5 * 4.0)),
}


@pytest.mark.parametrize("name", SETTLED)
def test_the_best_rate_is_settled_by_the_rule(name):
    optimizer, rate = SETTLED[name]
    settled = resolve_theory_rate(Recipe(optimizer, 3, 4), diagonal([4.0, 1.0, 0.1], 0.5), 0.5)
    assert settled.optimizer.keywords == optimizer.keywords | {
        "lr": pytest.approx(rate, rel=1e-5 if name == "scheduled" else 1e-9)
    }
    assert (settled.batch_size, settled.seed) == (3, 4)
    plain = Recipe(sgd(0.3))
    assert resolve_theory_rate(plain, diagonal([4.0], 0.5), 0.5) is plain


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.RAdam])
def test_an_optimizer_without_a_best_rate(kind):
    with pytest.raises(
        OptimizerError,
        match=rf'^lr="best" and "half" are the best rate and half of .* partial\({kind.__name__}, lr=1e-3\)',
    ):
        resolve_theory_rate(Recipe(partial(kind, lr="best")), diagonal([4.0, 1.0], 0.5), 0.5)


REGISTRY = [
    (sgd(0.1), GradientDescent(0.1)),
    (partial(torch.optim.SGD, lr=0.1, weight_decay=0.2), GradientDescent(0.1, weight_decay=0.2)),
    (partial(torch.optim.SGD, lr=0.1, momentum=0.9), Momentum(0.1, momentum=0.9)),
    (
        partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.2),
        Momentum(0.1, momentum=0.9, dampening=0.3, weight_decay=0.2),
    ),
    (partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True), Momentum(0.1, momentum=0.9, nesterov=True)),
    (partial(Nesterov, lr=0.1, r=4.0, weight_decay=0.1), ScheduledNesterov(0.1, r=4.0, weight_decay=0.1)),
    (partial(HigherMomentum, lr=0.1, betas=(0.5, -0.1)), TwoTerms(0.1, betas=(0.5, -0.1))),
    (partial(torch.optim.Adagrad, lr=0.1, eps=1e-3), AdaGrad(0.1, 1e-3)),
    (partial(torch.optim.RMSprop, lr=0.1, alpha=0.7, eps=1e-3), RMSprop(0.1, 1e-3, beta2=0.7)),
    (partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.6), eps=1e-3), Adam(0.1, 1e-3, 0.5, 0.6, True)),
    (partial(torch.optim.AdamW, lr=0.1, eps=1e-3, weight_decay=0.2), Adam(0.1, 1e-3, 0.9, 0.999, True, 0.2)),
]


@pytest.mark.parametrize(("factory", "rule"), REGISTRY, ids=lambda v: type(v).__name__)
def test_the_rule_of_an_optimizer(factory, rule):
    assert rule_of(factory([torch.nn.Parameter(torch.ones(2))])) == rule


def test_the_rule_of_a_metric_holds_it():
    metric = torch.tensor([1.0, 2.0])
    rule = rule_of(Preconditioned([torch.nn.Parameter(torch.ones(2))], lr=0.1, metric=[metric]))
    assert isinstance(rule, PreconditionedDescent)
    assert (rule.lr, rule.state_vectors) == (0.1, 0)
    assert torch.equal(rule.metric[0], metric)


@pytest.mark.parametrize(
    "factory",
    [
        partial(torch.optim.RAdam, lr=0.1),
        partial(torch.optim.Adam, lr=0.1, amsgrad=True),
        partial(torch.optim.RMSprop, lr=0.1, centered=True),
        partial(torch.optim.Adagrad, lr=0.1, lr_decay=0.1),
        type("Other", (torch.optim.SGD,), {}),
        lambda ps: torch.optim.SGD([{"params": [p]} for p in ps], lr=0.1),
    ],
    ids=["radam", "amsgrad", "centered", "decaying", "a subclass", "groups"],
)
def test_what_has_no_rule_goes_step_by_step(factory):
    assert rule_of(factory([torch.nn.Parameter(torch.ones(2)) for _ in range(2)])) is None


def test_which_motion_a_rule_has():
    """A closed form where every step is the same."""
    batch = Schedule(lambda k: np.array([0]), 2)
    rates = Schedule(lr=lambda k: 0.1)
    expected = [
        (GradientDescent(0.1), GradientMotion),
        (GradientDescent(0.1, weight_decay=0.1), ClosedFormMotion),
        (GradientDescent(0.1, schedule=batch), RecursionMotion),
        (GradientDescent(0.1, schedule=rates), RecursionMotion),
        (Momentum(0.1, momentum=0.9), ClosedFormMotion),
        (Momentum(0.1, momentum=0.9, schedule=rates), RecursionMotion),
        (ScheduledNesterov(0.1), RecursionMotion),
        (TwoTerms(0.1, betas=(0.5, 0.1)), ClosedFormMotion),
    ]
    for rule, kind in expected:
        assert type(from_rest(rule, [1.0, 0.5])) is kind, rule


@settings(deadline=None)
@given(k=st.integers(1, 10**12))
def test_the_first_whole_step(k):
    assert first_time(lambda t: t >= k, flow=False) == k


@settings(deadline=None)
@given(t=st.floats(1e-9, 1e12))
def test_the_first_moment(t):
    assert first_time(lambda s: s >= t, flow=True) == pytest.approx(t, rel=2e-9)


def test_what_never_happens():
    assert first_time(lambda _: False, flow=False) == math.inf
    assert first_time(lambda _: False, flow=True) == math.inf


@pytest.mark.parametrize(
    ("settings", "factor"),
    [({}, 1.0), ({"momentum": 0.9}, 1.9), ({"momentum": 0.5, "nesterov": True}, 0.75)],
    ids=str,
)
def test_half_is_half_of_the_rules_own_limit(settings, factor):
    """2(1 + μ)/(γ λ_max) of the heavy ball, 2(1 + μ)/((1 + 2μ) γ λ_max) of Nesterov's; max_lr is 2/(γ λ_max)."""
    model = wm.networks.MLP((3, 16, 1), seed=0).double()
    g = torch.Generator().manual_seed(0)
    task = wm.Task(torch.randn(6, 3, generator=g).double(), torch.randn(6, 1, generator=g).double())
    found = wm.predict(model, task, partial(torch.optim.SGD, lr="half", **settings), steps=3, relinearize="never")
    assert found.learning_rate == pytest.approx(factor * found.max_lr / 2, rel=1e-9)
    with pytest.raises(OptimizerError, match='"half" are the best rate and half of the limit'):
        wm.predict(model, task, partial(torch.optim.Adam, lr="half"), steps=3)

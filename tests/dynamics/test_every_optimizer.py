"""The conformance suite of optimizers: what every one of them has to fulfil."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles import zoo
from oracles.conformance import CASES, COURSES, EVERY, REFUSED, Case, Linear, assert_agrees, network_for
from oracles.linear_rules import distance
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.dynamics.rules.registry import rule_of
from whichmin.optimizers import Nesterov, Preconditioned

STEPS = 13  # past the end of an epoch of two batches and of three


def assert_left_alone(model, before):
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_every_optimizer_of_torch_is_here():
    named = {c.factory.func for c in CASES if isinstance(c.factory, partial)}
    for name, cls in vars(torch.optim).items():
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer:
            assert cls in named or name in REFUSED
    assert len(named) >= 13


@EVERY
@pytest.mark.parametrize(("course", "outputs"), [("full", 3), ("scheduled", 1), ("both", 3)])
def test_the_linearized_run_is_the_optimizer_on_the_linearized_network(case, course, outputs):
    assert_agrees(Linear.of_case(case, outputs), case, COURSES[course], STEPS)


@EVERY
def test_snapshots_and_single_steps(case):
    course = COURSES["batches"]
    linear = Linear.of_case(case, 1)
    model, task = linear.model, linear.task
    steps = [0, 1, 2, 7]
    found = wm.predict(model, task, case.factory, steps=steps, relinearize="never", **course)
    assert found.test.shape == (len(steps), task.n_test, 1)
    for k, s in enumerate(steps):
        values = linear.train(case, s, course)
        assert distance(found.test[k], linear.outputs(values, test=True)) < 1e-10
        assert distance(found.train[k], linear.outputs(values)) < 1e-10


@EVERY
def test_until_stops_where_training_stops(case):
    """Where an epoch, of two batches, starts."""
    course = COURSES["batches"]
    linear = Linear.of_case(case, 3)
    model, task = linear.model, linear.task
    errors = {}
    for s in range(0, 9, 2):
        outputs = linear.outputs(linear.train(case, s, course))
        errors[s] = float((outputs - task.y).square().mean())
    until = errors[6] * (1 + 1e-9)
    expected = next(s for s, e in errors.items() if e < until)
    found = wm.predict(model, task, case.factory, until=until, relinearize="never", **course)
    assert found.steps == expected > 0
    assert distance(found.test, linear.outputs(linear.train(case, expected, course), test=True)) < 1e-10


def _courses_of(case):
    """Full batches are a motion of their own where a rule tells it, but for those of Krylov intervals."""
    rule = rule_of(case.factory([nn.Parameter(torch.ones(2, 2))])) if isinstance(case.factory, partial) else None
    return ["both"] if rule is None or isinstance(rule, AdaptiveRule) else ["full", "both"]


@pytest.mark.parametrize(
    ("case", "course"),
    [
        pytest.param(*p.values, c, id=f"{c}-{p.id}", marks=p.marks)
        for p in EVERY.args[1]
        for c in _courses_of(*p.values)
    ],
)
def test_intervals_of_one_step_are_training(case, course):
    """But for rules of Krylov intervals, whose D is that of their middle: see ``test_adaptive``."""
    model, task = network_for(case, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    run = wm.train(model, task, case.factory, until=None, steps=STEPS, **COURSES[course])
    found = wm.predict(model, task, case.factory, steps=STEPS, relinearize=10**7, **COURSES[course])
    lazy = wm.predict(model, task, case.factory, steps=STEPS, relinearize="never", **COURSES[course])
    assert found.method == "relinearized"
    assert found.intervals == STEPS
    assert distance(found.train, run.train) < 1e-9
    assert distance(found.test, run.test) < 1e-9
    assert distance(lazy.test, run.test) > 1e-7
    for name, value in run.final.items():
        assert distance(found.parameters()[name], value) < 1e-9, name
    assert_left_alone(model, before)


#: One of each way to predict: closed forms of a mode's recursion or of a metric, moving averages, steps, two rates.
WAYS = ("SGD2", "Nesterov1", "HigherMomentum", "Preconditioned", "Adam", "NAdam", "groups")
SOME = pytest.mark.parametrize("case", [c for c in CASES if c.name in WAYS], ids=lambda c: c.name)


@SOME
def test_the_order_of_the_rows_does_not_matter(case):
    model, task = network_for(case, 3)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = wm.Task(task.X[order], task.y[order], task.X_test)
    a, b = (wm.predict(model, t, case.factory, steps=STEPS, relinearize="never") for t in (task, shuffled))
    assert distance(a.test, b.test) < 1e-10
    assert distance(a.train[order], b.train) < 1e-10


@SOME
def test_the_model_is_left_alone_by_default(case):
    model, task = network_for(case, 1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    wm.predict(model, task, case.factory, steps=4)
    assert_left_alone(model, before)


def _metric(parameter):
    return 0.5 + parameter.detach().abs()


#: With small rates, for large kernels, and large ε: where a gradient is rounding, a small one would make steps of it.
OTHERS = [
    Case("Adam", partial(torch.optim.Adam, lr=1e-2, eps=1e-3)),
    Case("AdamW", partial(torch.optim.AdamW, lr=1e-2, eps=1e-3, weight_decay=0.3)),
    Case("Adagrad", partial(torch.optim.Adagrad, lr=1e-2, eps=1e-3)),
    Case("SGD", partial(torch.optim.SGD, lr=2e-3, momentum=0.9, nesterov=True, weight_decay=0.1)),
    Case("Nesterov", partial(Nesterov, lr=2e-3)),
    Case("Preconditioned", partial(Preconditioned, lr=2e-3, metric=_metric)),
    *(c for c in CASES if c.name == "groups"),
]


NETWORKS = ("convnet", "tied", "frozen", "reused-tokens", "pre-norm", "attention", "custom")


@pytest.mark.parametrize(
    ("name", "course", "case"),
    [
        pytest.param(name, course := ("full", "both")[(i + k) % 2], case, id=f"{name}-{course}-{case.name}")
        for i, name in enumerate(NETWORKS)
        for k, case in enumerate(OTHERS)
    ],
)
def test_other_networks(case, course, name):
    """Convolutions, tied and reused weights, normalization, lookups and functions that are not recognized."""
    model, X = zoo.build(name, 2, 9)
    g = torch.Generator().manual_seed(5)
    task = wm.Task(X[:6], torch.randn(6, 2, generator=g, dtype=torch.float64), X[6:])
    assert_agrees(Linear.of(model, task), case, COURSES[course], steps=5)


class _Idle(nn.Module):
    """A parameter that no output depends on."""

    def __init__(self):
        super().__init__()
        self.layer, self.idle = nn.Linear(4, 2).double(), nn.Parameter(torch.ones(3, dtype=torch.float64))

    def forward(self, x):
        return torch.tanh(self.layer(x)).sum(1, keepdim=True)


@pytest.mark.parametrize("factory", [partial(torch.optim.AdamW, lr=0.01), partial(torch.optim.Adagrad, lr=0.01)])
@pytest.mark.parametrize("relinearize", ["never", 3])
def test_a_parameter_without_effect_stays(factory, relinearize):
    """In training it has no gradient, and torch's optimizers leave such parameters alone."""
    model, task = _Idle(), network_for(Case("", factory), 1)[1]
    run = wm.train(model, task, factory, until=None, steps=5)
    assert torch.equal(run.final["idle"], torch.ones(3).double())
    found = wm.predict(model, task, factory, steps=5, relinearize=relinearize)
    assert distance(found.parameters()["idle"], run.final["idle"]) == 0


@pytest.mark.parametrize(("kind", "other"), [(Nesterov, torch.optim.SGD), (torch.optim.Adam, torch.optim.Adagrad)])
def test_different_optimizers_go_different_ways(kind, other):
    model, task = network_for(Case("", kind), 1)
    a, b = (wm.predict(model, task, partial(k, lr=0.02), steps=STEPS, relinearize="never") for k in (kind, other))
    assert distance(a.test, b.test) > 1e-3


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_gradient_ascent_is_predicted_as_it_is_trained(optimizer):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 512), nn.Tanh(), nn.Linear(512, 1)).double()
    X, X_test = torch.randn(12, 4).double(), torch.randn(7, 4).double()
    task, ascent = wm.Task(X, torch.randn(12, 1).double(), X_test), partial(optimizer, lr=2e-4, maximize=True)
    found = wm.predict(model, task, ascent, steps=20, relinearize="path")
    run = wm.train(model, task, ascent, steps=20, until=None)
    assert run.losses[-1] > run.losses[0]
    moved = distance(run.test, model(X_test).detach())
    assert distance(found.test, run.test) < 0.02 * moved

"""The terms of optimizers with a memory, a preconditioner, weight decay or batches."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from oracles.linear_rules import Dense, distance, flat, mlp_problem, problem, rms, sgd
from whichmin.decomposition.explanation import MEANINGS
from whichmin.dynamics.prepare import prepare
from whichmin.optimizers import HigherMomentum, Nesterov, Preconditioned, last_metric
from whichmin.recipe.recipe import Recipe

BASE = {"interpolant", "initialization", "unconverged", "drift", "curvature"}


def metric(p):
    return 0.5 + p.detach().abs()


CASES = {
    "momentum": (partial(torch.optim.SGD, lr=0.05, momentum=0.9), set()),
    "decayed": (partial(torch.optim.SGD, lr=0.05, weight_decay=0.1), {"decay"}),
    "decayed momentum": (partial(torch.optim.SGD, lr=0.05, momentum=0.8, weight_decay=0.1), {"decay"}),
    "nesterov": (partial(Nesterov, lr=0.05), set()),
    "two terms": (partial(HigherMomentum, lr=0.05, betas=(0.5, 0.2)), set()),
    "preconditioned": (partial(Preconditioned, lr=0.05, metric=metric), {"geometry"}),
    "adagrad": (partial(torch.optim.Adagrad, lr=0.05), {"geometry", "history"}),
    "rmsprop": (partial(torch.optim.RMSprop, lr=1e-3), {"geometry", "history"}),
    "adam": (partial(torch.optim.Adam, lr=1e-2), {"geometry", "history"}),
    "adamw": (partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.3), {"geometry", "history", "decay"}),
    "adadelta": (partial(torch.optim.Adadelta, lr=1.0), {"history"}),
}
COURSES = {
    "full": {},
    "batches": {"batch_size": 2, "seed": 3},
    "scheduled": {"scheduler": partial(StepLR, step_size=5, gamma=0.5)},
}


def total(terms):
    return torch.stack([t.double() for t in terms.values()]).sum(0)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("course", "outputs"), [("full", 3), ("batches", 1), ("batches", 3), ("scheduled", 1)])
def test_the_terms_add_up_to_the_trained_network(name, course, outputs):
    model, task = problem("over", outputs)
    factory, names = CASES[name]
    run = wm.train(model, task, factory, until=None, steps=25, **COURSES[course])
    found = wm.explain(run)
    assert set(found.terms) == BASE | names
    assert list(found.terms) == [n for n in MEANINGS if n in found.terms]
    assert distance(found.total, run.test) < 1e-11 * max(1.0, *(float(t.abs().max()) for t in found.terms.values()))
    assert all(float(t.abs().max()) > 1e-5 for t in found.terms.values())
    assert distance(found.prediction.test, total({n: found.terms[n] for n in found.prediction.terms})) < 1e-10
    straight = Dense.of(model, task)
    moved = flat(run.final, model) - straight.theta
    assert distance(found.terms["curvature"], run.test.reshape(-1) - straight.outputs(moved)[1]) < 1e-10


@pytest.mark.parametrize("name", CASES)
def test_a_relinearized_path_in_place_of_training(name):
    model, task = mlp_problem((4, 40), 8)
    found = wm.explain(model, task, CASES[name][0], until=None, steps=40, train=False)
    assert distance(found.total, found.relinearized.test) < 1e-11
    assert set(found.terms) == BASE | CASES[name][1]
    trained = wm.explain(model, task, CASES[name][0], until=None, steps=40)
    for term in ("interpolant", "initialization"):
        assert distance(found.terms[term], trained.terms[term]) < 1e-11
    assert rms(found.total, trained.total) < 3e-2
    for term, value in trained.terms.items():
        assert rms(found.terms[term], value) < 0.15


def linear(weights, J):
    """f(x) = w·x, which is its own linearization; the rows of J are its inputs."""
    model = nn.Linear(len(weights), 1, bias=False).double()
    model.weight.data = torch.tensor([weights]).double()
    return model, torch.tensor(J).double()


def test_example_one_of_the_paper():
    """One training point, AdaGrad: J(x')·sign J(x₁)/‖J(x₁)‖₁ in place of J(x')·J(x₁)/‖J(x₁)‖₂²."""
    model, whole = mlp_problem((4, 12), 6)
    task = wm.Task(whole.X[:1], whole.y[:1], whole.X_test)
    factory = partial(torch.optim.Adagrad, lr=0.05, eps=1e-30)
    lazy = wm.predict(model, task, factory, steps=1000, relinearize="never")
    terms = lazy.terms
    assert distance(lazy.train, task.y) < 1e-10
    expected = wm.minimizers.adagrad_one_point(model, task.X, task.y, task.X_test)
    assert distance(lazy.test, expected) < 1e-9
    assert distance(total(terms), expected) < 1e-9
    assert float(terms["history"].abs().max()) < 1e-9, "D changes its size only, so that the path leaves nothing"
    assert float(terms["unconverged"].abs().max()) < 1e-9
    assert float(terms["geometry"].abs().max()) > 1e-2
    dense = Dense.of(model, task)
    least = dense.outputs(dense.limit())[1]
    assert distance(total({n: terms[n] for n in ("interpolant", "initialization")}), least) < 1e-10


def by_hand(J, Jx, w, y, steps):
    """Three parameters, two points: AdaGrad's run and its terms, from the sums that define them."""
    r0 = J @ w - y
    theta, square, lr, eps = w.clone(), torch.zeros(3).double(), 0.3, 1e-10
    for _ in range(steps):
        g = J.T @ (J @ theta - y)  # γ = 2/N = 1
        square += g**2
        theta = theta - lr * g / (square.sqrt() + eps)
    D = torch.diag(1 / (square.sqrt() + eps))
    A = Jx @ J.T @ torch.linalg.inv(J @ J.T)
    A_D = Jx @ D @ J.T @ torch.linalg.inv(J @ D @ J.T)
    rT = J @ theta - y
    terms = {
        "interpolant": A @ y,
        "initialization": Jx @ w - A @ (J @ w),
        "unconverged": A @ rT,
        "geometry": (A_D - A) @ (rT - r0),
    }
    return theta, terms | {"history": Jx @ theta - sum(terms.values())}


@pytest.mark.parametrize("steps", [1, 5, 400])
def test_two_points_and_three_parameters_by_hand(steps):
    model, X = linear([0.3, -1.0, 0.5], [[1.0, 2.0, -1.0], [0.5, -1.0, 3.0]])
    X_test = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.7, -0.4], [-2.0, 1.0, 1.0]]).double()
    task = wm.Task(X, torch.tensor([[1.0], [-2.0]]).double(), X_test)
    theta, expected = by_hand(X, X_test, model.weight.data[0], task.y[:, 0], steps)
    lazy = wm.predict(model, task, partial(torch.optim.Adagrad, lr=0.3), steps=steps, relinearize="never")
    run = wm.train(model, task, partial(torch.optim.Adagrad, lr=0.3), until=None, steps=steps)
    found = wm.explain(run)
    assert distance(lazy.parameters()["weight"], theta) < 1e-10
    for name, value in expected.items():
        assert distance(lazy.terms[name], value) < 1e-10, name
        assert distance(found.terms[name], value) < 1e-10, name
    for name in ("drift", "curvature"):
        assert float(found.terms[name].abs().max()) < 1e-12
    assert float(found.terms["geometry"].abs().max()) > 1e-2
    if steps > 1:
        assert float(found.terms["history"].abs().max()) > 1e-4
    else:
        assert float(found.terms["history"].abs().max()) < 1e-12, "one step has one metric"


def test_the_path_is_the_sum_over_changing_metrics():
    """(∗) of the theory: Σ_s (A_s − A_{s−1})(r₀ − r_s), A_s of the metric of step s."""
    model, X = linear([0.3, -1.0, 0.5], [[1.0, 2.0, -1.0], [0.5, -1.0, 3.0]])
    X_test = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.7, -0.4]]).double()
    y = torch.tensor([[1.0], [-2.0]]).double()
    task, steps = wm.Task(X, y, X_test), 12
    w = nn.Parameter(model.weight.data.clone())
    optimizer = torch.optim.Adagrad([w], lr=0.3)
    maps, residuals = [], [(X @ w[0].detach()) - y[:, 0]]
    for _ in range(steps):
        w.grad = (X.T @ residuals[-1])[None]
        optimizer.step()
        D = torch.diag(last_metric(optimizer, [("w", w)])["w"][0])
        maps.append(X_test @ D @ X.T @ torch.linalg.inv(X @ D @ X.T))
        residuals.append(X @ w[0].detach() - y[:, 0])
    path = sum((maps[s] - maps[s - 1]) @ (residuals[0] - residuals[s]) for s in range(1, steps))
    lazy = wm.predict(model, task, partial(torch.optim.Adagrad, lr=0.3), steps=steps, relinearize="never")
    assert distance(lazy.terms["history"], path) < 1e-10
    assert float(path.abs().max()) > 1e-3


def test_weight_decay_by_hand():
    """−λ lr Σ J(x')θ_t, as far as the training outputs do not see it."""
    model, X = linear([0.3, -1.0, 0.5], [[1.0, 2.0, -1.0], [0.5, -1.0, 3.0]])
    X_test = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.7, -0.4]]).double()
    task = wm.Task(X, torch.tensor([[1.0], [-2.0]]).double(), X_test)
    for optimizer, decay in ((torch.optim.SGD, 0.2), (torch.optim.AdamW, 0.2)):
        factory = partial(optimizer, lr=0.05, weight_decay=decay)
        lazy = wm.predict(model, task, factory, steps=9, relinearize="never")
        w = nn.Parameter(model.weight.data.clone())
        made, taken = factory([w]), torch.zeros(3).double()
        for _ in range(9):
            w.grad = (X.T @ (X @ w[0].detach() - task.y[:, 0]))[None]
            taken = taken - 0.05 * decay * w.detach()[0]
            made.step()
        D = torch.eye(3).double()
        if optimizer is torch.optim.AdamW:
            D = torch.diag(last_metric(made, [("w", w)])["w"][0])
        A = X_test @ D @ X.T @ torch.linalg.inv(X @ D @ X.T)
        assert distance(lazy.terms["decay"], X_test @ taken - A @ (X @ taken)) < 1e-10
        assert float(lazy.terms["decay"].abs().max()) > 1e-2


@pytest.mark.parametrize(
    ("factory", "seed"),
    [
        (sgd(0.2), 1),
        (partial(torch.optim.SGD, lr=0.03, momentum=0.8, nesterov=True), 1),
        (partial(HigherMomentum, lr=0.04, betas=(0.5, 0.1)), 0),
    ],
)
def test_batches_of_plain_rules_leave_no_path(factory, seed):
    """Where the metric is constant any order of the batches ends in the minimizer of gradient descent."""
    model, task = problem("over", 1)
    course = {"batch_size": 2, "seed": seed}
    descent = wm.predict(model, task, sgd(0.05), relinearize="never")
    batched = wm.predict(model, task, factory, steps=6000, relinearize="never", **course)
    assert distance(batched.train, task.y) < 1e-9
    assert rms(batched.test, descent.test) < 1e-8
    assert "history" not in batched.terms
    assert rms(wm.predict(model, task, factory, relinearize="never", **course).test, descent.test) < 1e-8


def test_batches_of_an_adaptive_rule_leave_a_path():
    model, task = problem("over", 1)
    factory = partial(torch.optim.Adagrad, lr=1.0)
    found = [wm.predict(model, task, factory, steps=800, relinearize="never", batch_size=b) for b in (None, 2)]
    assert all(distance(p.train, task.y) < 1e-10 for p in found)
    assert rms(found[0].test, found[1].test) > 1e-3, "the minimizer depends on the batches"
    assert rms(found[0].terms["history"], found[1].terms["history"]) > 1e-3
    assert rms(found[0].terms["interpolant"], found[1].terms["interpolant"]) < 1e-12


@pytest.mark.parametrize("beyond", [1.3, 2.2])
def test_beyond_the_limit_of_stability_one_training_has_one_explanation(beyond):
    """The same steps, as gradient descent and as gradient descent with next to no weight decay or momentum."""
    model, task = mlp_problem((4, 60), 6, n_test=20)
    limit = wm.predict(model, task, sgd(0.01), steps=1, relinearize="never").max_lr
    settings = [{}, {"weight_decay": 1e-12}, {"momentum": 1e-12}]
    found = [
        prepare(
            model, task, Recipe(partial(torch.optim.SGD, lr=beyond * limit, **more)), (7.0,), require_stable=False
        ).linearized()
        for more in settings
    ]
    for other in found[1:]:
        assert distance(found[0].test[-1], other.test[-1]) < 1e-8
        assert distance(found[0].train[-1], other.train[-1]) < 1e-8

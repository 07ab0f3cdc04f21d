"""Every loss: the linearized prediction against the optimizer on the linearized network, paths against training."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.conformance import CASES, COURSES, Linear, assert_agrees
from oracles.linear_rules import distance, mlp_problem
from oracles.losses import KINDS, numbers
from whichmin.errors import DataError, InputError

NAMED = {case.name: case for case in CASES}
RULES = ["SGD", "SGD1", "Nesterov", "HigherMomentum1", "Preconditioned", "Adam", "Adagrad"]
STEPS = 13
SGD = partial(torch.optim.SGD, lr=0.05)
EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def network(outputs=3, width=9):
    return mlp_problem((4, width), 7, outputs, seed=0, bias=True, bias_std=1.0)[0]


def linearized(kind):
    return Linear.of(network(), kind.task(), kind.torch)


@EVERY
@pytest.mark.parametrize("course", COURSES)
def test_gradient_descent_is_exact_on_the_linearized_network(kind, course):
    assert_agrees(linearized(kind), NAMED["SGD"], COURSES[course], STEPS)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("course", ["full", "both"])
@pytest.mark.parametrize("loss", ["classes weighted", "logistic"])
def test_every_rule_is_exact_on_the_linearized_network(name, course, loss):
    assert_agrees(linearized(KINDS[loss]), NAMED[name], COURSES[course], STEPS)


@pytest.mark.parametrize("steps", [5, 40])
def test_terms_of_a_linearization_made_again_exactly_add_up(steps):
    draw = torch.Generator().manual_seed(0)
    X, X_test, y = (torch.randn(n, d, generator=draw, dtype=torch.float64) for n, d in ((12, 4), (9, 4), (12, 3)))
    task = wm.Task(X, y, X_test, loss=nn.HuberLoss(delta=0.3))
    predicted = wm.predict(network(width=512).double(), task, SGD, steps=steps, tol=0.1)
    assert predicted.method == "linearized"
    assert distance(sum(predicted.terms.values()), predicted.test) < 1e-12


@EVERY
def test_a_path_ends_where_training_does(kind):
    model, task = network(width=64), kind.task()
    rate = 0.2 / ((task.objective.gamma or 1.0) * 20.0)
    optimizer = partial(torch.optim.SGD, lr=rate)
    run = wm.train(model, task, optimizer, until=None, steps=60)
    coarse, fine = (wm.predict(model, task, optimizer, steps=60, relinearize=n) for n in (4, 16))
    moved = distance(run.test, model(task.X_test).detach())
    off = [distance(p.test, run.test) for p in (coarse, fine)]
    assert off[1] < 0.02 * moved
    assert off[1] < 0.5 * off[0]
    assert fine.error > 0.2 * float((fine.test - run.test).square().mean().sqrt())


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.AdamW])
@pytest.mark.parametrize("loss", ["classes", "logistic", "huber"])
def test_an_adaptive_path_ends_where_training_does(optimizer, loss):
    model, task = network(width=64), KINDS[loss].task()
    factory = partial(optimizer, lr=3e-3)
    run = wm.train(model, task, factory, until=None, steps=80)
    found = wm.predict(model, task, factory, steps=80, relinearize="path", tol=5e-3)
    assert found.method == "relinearized"
    assert found.intervals < 60
    moved = distance(run.test, model(task.X_test).detach())
    off = distance(found.test, run.test)
    assert off < 0.03 * moved
    assert found.error > 0.2 * float((found.test - run.test).square().mean().sqrt())


def test_steps_to_a_loss_are_those_of_training():
    model, task = network(width=128), KINDS["classes"].task()
    optimizer = partial(torch.optim.SGD, lr=0.1)
    run = wm.train(model, task, optimizer, until=0.02)
    found = wm.predict(model, task, optimizer, until=0.02, relinearize="path")
    assert run.steps > 100
    assert found.steps == pytest.approx(run.steps, rel=0.02)
    assert float(found.curve.steps[-1]) == pytest.approx(found.steps)
    assert distance(found.test, run.test) < 0.02 * float(run.test.std())


@pytest.mark.parametrize("loss", [k for k, kind in KINDS.items() if kind.minimizer])
def test_the_limit_is_where_many_steps_lead(loss):
    """Momentum gets there in fewer steps, and changes nothing about where that is."""
    model, task = network(width=40), KINDS[loss].task(n=4)
    optimizer = partial(torch.optim.SGD, lr=0.5 / (task.objective.gamma * 30.0))
    limit = wm.predict(model, task, optimizer, steps=math.inf, relinearize="never")
    late = wm.predict(model, task, partial(optimizer, momentum=0.95), steps=4000, relinearize="never")
    assert distance(limit.train, late.train) < 1e-9
    assert distance(limit.test, late.test) < 1e-9
    value = task.objective.value(limit.train.reshape(-1).numpy() - task.objective.origin)
    assert value == pytest.approx(task.objective.lowest, abs=1e-9)


@pytest.mark.parametrize("loss", [k for k, kind in KINDS.items() if not kind.minimizer])
def test_without_a_finite_minimizer_there_is_no_limit(loss):
    known = "max_margin" if "function" not in loss and loss != "absolute" else "not known"
    with pytest.raises(InputError, match=known):
        wm.predict(network(), KINDS[loss].task(), SGD)


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_the_flow_is_the_limit_of_small_steps(momentum):
    model, task = network(), KINDS["classes"].task()
    time, small = 3.0, 2e-4

    def heavy(lr, flow):  # the friction b = (1 − μ)/√lr is that of the flow
        mu = momentum if flow else 1 - (1 - momentum) * math.sqrt(lr / 0.1)
        return partial(torch.optim.SGD, lr=lr, momentum=mu if momentum else 0.0)

    flow = wm.predict(model, task, heavy(0.1, True), steps=time / 0.1, flow=True, relinearize="never")
    steps = round(time / 0.1 * math.sqrt(0.1 / small)) if momentum else round(time / small)
    descent = wm.predict(model, task, heavy(small, False), steps=steps, relinearize="never")
    assert distance(flow.train, descent.train) < (5e-2 if momentum else 2e-3)


def test_what_is_said_of_class_numbers():
    task = KINDS["classes"].task()
    model = network()
    run = wm.train(model, task, SGD, until=None, steps=200)
    explained = wm.explain(run)
    assert "unconverged" not in explained.terms
    assert distance(explained.total, run.test) < 1e-12
    rows = explained.test_error()
    assert list(rows.columns) == ["term", "loss", "change", "accuracy"]
    assert rows["loss"].iloc[-1] == pytest.approx(float(nn.CrossEntropyLoss()(run.test, task.y_test)), rel=1e-9)
    right = (run.test.argmax(1) == task.y_test).double().mean()
    assert rows["accuracy"].iloc[-1] == pytest.approx(float(right))
    assert explained.to_frame()["target"].sum() == task.n_test


def test_partial_sums_are_judged_by_the_loss():
    task = KINDS["logistic"].task(outputs=1)
    run = wm.train(network(1), task, SGD, until=None, steps=50)
    explained = wm.explain(run)
    first = next(iter(explained.terms.values()))
    rows = explained.test_error()
    assert rows["loss"][0] == pytest.approx(float(nn.BCEWithLogitsLoss()(first.double(), task.y_test)), rel=1e-12)
    assert rows["accuracy"][0] == pytest.approx(float(((first > 0) == (task.y_test > 0.5)).double().mean()))
    assert np.cumsum(rows["change"]).iloc[-1] == pytest.approx(rows["loss"].iloc[-1])


def test_a_recorded_loop_of_cross_entropy_is_measured_by_it():
    task, model = KINDS["classes"].task(), network(width=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(40):
            optimizer.zero_grad()
            nn.CrossEntropyLoss()(model(task.X), task.y).backward()
            optimizer.step()
    assert not any("loss" in note for note in recorder.notes)
    last = recorder.snapshots[-1]
    assert last.loss == pytest.approx(float(nn.CrossEntropyLoss()(last.train, task.y)))
    explained = wm.explain(recorder)
    assert distance(explained.total, last.test) < 1e-12
    replayed = wm.explain(recorder, loader=[(task.X, task.y)] * 40)
    assert distance(replayed.total, last.test) < 1e-9
    assert "history" in replayed.terms or "drift" in replayed.terms


def test_a_loop_of_another_loss_is_remarked():
    task, model = KINDS["classes"].task(), network(width=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(task.X), task.encoded(task.y).double()).backward()
            optimizer.step()
    assert any("loss" in note for note in recorder.notes)


def test_results_keep_the_loss(tmp_path):
    for name, kind in KINDS.items():
        task = kind.task()
        run = wm.train(network(), task, partial(torch.optim.SGD, lr=1e-3), until=None, steps=2)
        run.save(tmp_path / name)
        loaded = wm.Run.load(tmp_path / name)
        assert repr(loaded.task.loss) == repr(task.loss)
        assert loaded.task.classes == task.classes
        if "function" not in name and name != "absolute":
            assert loaded.task.loss == task.loss
            assert loaded.task.objective.gamma == task.objective.gamma


def test_compare_and_seeds_judge_by_the_loss():
    g = torch.Generator().manual_seed(0)
    X, X_test = (torch.randn(n, 4, generator=g, dtype=torch.float64) for n in (8, 12))
    task = wm.Task(X, numbers(8, 3, g), X_test, numbers(12, 3, g), nn.CrossEntropyLoss())
    make = lambda seed: mlp_problem((4, 32), 7, 3, seed=seed)[0]  # noqa: E731
    found = wm.compare(
        make, task, {"gd": SGD, "adam": partial(torch.optim.Adam, lr=1e-3)}, seeds=3, until=None, steps=40
    )
    assert found.to_frame() is not None
    spread = wm.seeds(make, task, SGD, seeds=3, steps=40)
    assert spread.test.shape == (3, 12, 3)


def test_the_limit_along_a_path():
    model, task = network(1, width=64), KINDS["huber"].task(n=5, outputs=1)
    found = wm.predict(model, task, partial(torch.optim.SGD, lr=0.3), relinearize="path")
    late = wm.train(model, task, partial(torch.optim.SGD, lr=0.3), until=1e-10)
    assert found.steps == math.inf
    assert float(found.curve.losses[-1]) < 1e-9
    assert distance(found.test, late.test) < 0.02


def test_linear_theory_knows_the_mean_square_error_only():
    layers = nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 3, bias=False)).double()
    with pytest.raises(DataError, match=r"has CrossEntropyLoss\(\): pass a Task with loss=torch.nn.MSELoss"):
        wm.linear.analyze(layers, KINDS["classes"].task())
    with pytest.raises(InputError, match=r"has CrossEntropyLoss\(\): pass a Task with loss=torch.nn.MSELoss"):
        wm.infinite.predict(wm.networks.MLP([4, 8, 3]), KINDS["classes"].task())


@pytest.mark.parametrize("way", ["auto", "path"])
def test_a_loss_below_zero_is_reached(way):
    loss = partial(nn.GaussianNLLLoss(), var=1e-2)  # least at log(0.01)/2 = -2.3
    g = torch.Generator().manual_seed(0)
    X, X_test = (torch.randn(k, 4, generator=g, dtype=torch.float64) for k in (7, 5))
    task = wm.Task(X, 0.1 * X[:, :1], X_test, loss=loss)
    optimizer = partial(torch.optim.SGD, lr=1e-4)
    found = wm.predict(network(1, width=64), task, optimizer, until=-1.0, relinearize=way)
    run = wm.train(network(1, width=64), task, optimizer, until=-1.0)
    assert run.converged
    assert found.steps == pytest.approx(run.steps, rel=0.03)
    assert isinstance(found.steps, float)
    assert not any("above until" in note for note in found.notes)


def test_losses_that_torch_differentiates_once():
    """The Hessian of a margin loss, whose backward pass has no derivative, is found by differences."""
    task = numbers_task(nn.MultiMarginLoss(p=2))
    squared = numbers_task(squared_margins)
    rng = np.random.default_rng(0)
    r, v = rng.standard_normal(21), rng.standard_normal(21)
    np.testing.assert_allclose(task.objective.curve(r, v), squared.objective.curve(r, v), atol=1e-8)
    for each in (task, squared):
        assert_ends_in_training(each)


def test_losses_without_curvature_at_outputs_of_zero():
    _, like = mlp_problem((4, 9), 7, 3, n_test=5)
    cosine = lambda f, y: 1 - torch.nn.functional.cosine_similarity(f, y).mean()  # noqa: E731
    task = wm.Task(like.X, like.y, like.X_test, loss=cosine)
    assert 0 < task.objective.gamma < math.inf
    assert_ends_in_training(task)


def squared_margins(f, y):
    """As ``MultiMarginLoss(p=2)``, by operations that have second derivatives."""
    own = f.gather(1, y[:, None])
    others = torch.ones_like(f).scatter(1, y[:, None], 0.0)
    return ((1 - own + f).clamp(min=0).square() * others).sum(1).mean() / f.shape[1]


def numbers_task(loss):
    _, like = mlp_problem((4, 9), 7, 3, n_test=5)
    return wm.Task(like.X, torch.arange(7) % 3, like.X_test, loss=loss)


def assert_ends_in_training(task):
    model, optimizer = network(width=64), partial(torch.optim.SGD, lr=0.02)
    run = wm.train(model, task, optimizer, until=None, steps=40)
    found = wm.predict(model, task, optimizer, steps=40, relinearize=16)
    assert distance(found.test, run.test) < 0.05 * distance(run.test, model(task.X_test).detach())


@pytest.mark.parametrize("loss", [nn.HuberLoss(delta=0.1), nn.SmoothL1Loss(beta=0.1)], ids=repr)
def test_where_the_loss_has_no_curvature(loss):
    """All rows are in the linear part of the loss, where no rate is too large."""
    torch.manual_seed(0)
    X, others = torch.randn(40, 3, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(3, 50), nn.Tanh(), nn.Linear(50, 1)).double()
    task = wm.Task(X, 100 + X[:, :1], others, loss=loss)
    run = wm.train(model, task, SGD, steps=30, until=None)
    for way in ("never", "path", "auto"):
        found = wm.predict(model, task, SGD, steps=30, relinearize=way)
        assert distance(found.test, run.test) <= 4 * found.error

"""The followed path against networks that are really trained."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance, flat, jacobian, mlp_problem, problem, rms, sgd
from whichmin.data.load import load
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.paths.relinearized import follow
from whichmin.dynamics.paths.start import start_at
from whichmin.dynamics.prepare import prepare
from whichmin.optimizers import HigherMomentum
from whichmin.recipe.recipe import Recipe


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("kind", ["over", "under"])
def test_intervals_of_one_step_are_training(kind, outputs):
    model, task = problem(kind, outputs)
    run = wm.train(model, task, sgd(0.1), until=None, steps=20)
    prediction = wm.predict(model, task, sgd(0.1), steps=20, relinearize=10**7)
    assert prediction.intervals == 20
    assert rms(run.test, wm.predict(model, task, sgd(0.1), steps=20, relinearize="never").test) > 1e-3
    assert distance(prediction.train, run.train) < 1e-9
    assert distance(prediction.test, run.test) < 1e-9
    assert distance(flat(prediction.parameters(), model), flat(run.final, model)) < 1e-9


def test_intervals_of_one_step_of_a_convolutional_network():
    model = wm.networks.CNN((2, 5, 4), outputs=2, bias=True, dtype=torch.float64)
    task = wm.Task(*(torch.randn(s, dtype=torch.float64) for s in ((4, 2, 6, 6), (4, 2), (3, 2, 6, 6))))
    run = wm.train(model, task, sgd(0.1), until=None, steps=12)
    prediction = wm.predict(model, task, sgd(0.1), steps=12, relinearize=10**7)
    assert distance(prediction.test, run.test) < 1e-9


def test_intervals_of_one_step_stop_where_training_stops():
    model, task = problem("over")
    until = float(wm.train(model, task, sgd(0.1), until=None, steps=37).losses[-1]) * 1.0001
    run = wm.train(model, task, sgd(0.1), until=until)
    prediction = wm.predict(model, task, sgd(0.1), until=until, relinearize=10**7)
    assert run.steps == prediction.steps == 37
    assert distance(prediction.test, run.test) < 1e-9


def test_the_error_falls_with_the_intervals():
    model, task = mlp_problem((4, 30), 10)
    run = wm.train(model, task, sgd(0.05), until=None, steps=800)
    errors = [rms(wm.predict(model, task, sgd(0.05), steps=800, relinearize=n).test, run.test) for n in (4, 16, 64)]
    lazy = rms(wm.predict(model, task, sgd(0.05), steps=800, relinearize="never").test, run.test)
    assert lazy > errors[0]
    orders = [math.log(a / b, 4) for a, b in pairwise(errors)]
    assert all(0.7 < order < 2.5 for order in orders), (lazy, errors)


def test_an_interval_takes_one_evaluation_of_features(monkeypatch):
    model, task = mlp_problem((4, 30), 10)
    predictor = prepare(model, task, Recipe(sgd(0.05)), (math.inf,), until=3e-2, only_linearized=False)
    evaluated = []
    features = MovingNetwork.features
    monkeypatch.setattr(MovingNetwork, "features", lambda self, *X: evaluated.append(1) or features(self, *X))
    path = follow(predictor.problem, predictor.rule, predictor.linearization, 4)
    assert path.at_loss
    assert path.pending is None
    assert len(evaluated) <= 1 + path.intervals + path.is_close
    assert path.loss == pytest.approx(task.loss.value(predictor.network.outputs(task.X), task.y))


def test_the_error_to_a_given_loss_falls_with_the_intervals():
    model, task = mlp_problem((4, 30), 10)
    run = wm.train(model, task, sgd(0.05), until=3e-2)
    assert run.converged
    found = [wm.predict(model, task, sgd(0.05), until=3e-2, relinearize=n) for n in (4, 16, 64)]
    errors = [rms(p.test, run.test) for p in found]
    assert all(b < 0.6 * a for a, b in pairwise(errors)), errors
    assert [p.intervals for p in found] == sorted(p.intervals for p in found)
    assert found[-1].steps == pytest.approx(run.steps, rel=0.02)


@pytest.mark.parametrize(("classes", "count", "width"), [((1, 7), 40, 256), ((3, 8), 30, 128)], ids=["1/7", "3/8"])
def test_thousands_of_steps_to_a_small_loss(classes, count, width):
    """The loss that slow modes are left with decides; rectifiers turn the features all the way."""
    task = load("digits", classes=classes, n_train=count, n_test=20)
    model = wm.networks.MLP([64, width, 1], seed=0)
    run = wm.train(model, task, sgd("half"), until=1e-4)
    prediction = wm.predict(model, task, sgd("half"), until=1e-4, relinearize="path")
    assert run.steps > 1000
    assert prediction.intervals < 120
    assert prediction.steps == pytest.approx(run.steps, rel=0.02)
    assert prediction.notes == ()
    assert rms(prediction.test, run.test) <= 4 * prediction.error


def test_snapshots_are_the_network_on_the_way():
    model, task = mlp_problem((4, 30), 10)
    steps = [0, 1, 30, 300]
    together = wm.predict(model, task, sgd(0.05), steps=steps, relinearize=60)
    for k, s in enumerate(steps):
        run = wm.train(model, task, sgd(0.05), until=None, steps=s)
        lazy = wm.predict(model, task, sgd(0.05), steps=s, relinearize="never")
        off = distance(together.test[k], run.test)
        assert off < 5e-3
        assert distance(together.train[k], run.train) < 1e-2
        if s >= 300:
            assert off < 0.2 * distance(lazy.test, run.test)


def test_snapshots_of_one_step_intervals_are_exact():
    model, task = problem("over", 3)
    steps = [0, 1, 2, 9, 20]
    together = wm.predict(model, task, sgd(0.1), steps=steps, relinearize=10**7)
    for k, s in enumerate(steps):
        run = wm.train(model, task, sgd(0.1), until=None, steps=s)
        assert distance(together.test[k], run.test) < 1e-9


def test_the_limit_interpolates_ever_better():
    model, task = mlp_problem((4, 30), 8)
    found = [wm.predict(model, task, sgd(0.05), relinearize=n) for n in (4, 12, 36)]
    assert all(p.method == "relinearized" and p.steps == math.inf for p in found)
    off = [distance(p.train, task.y) for p in found]
    assert off[0] > 2 * off[1] > 4 * off[2], off


@pytest.mark.parametrize("kind", ["over", "under"])
def test_a_network_that_is_its_own_linearization(kind):
    model, task = problem(kind, 3)
    for layer in model.layers[:-1]:
        layer.requires_grad_(False)
    never = wm.predict(model, task, sgd(0.1), steps=100, relinearize="never")
    auto = wm.predict(model, task, sgd(0.1), steps=100, tol=1e-9, relinearize="path")
    many = wm.predict(model, task, sgd(0.1), steps=100, relinearize=13)
    run = wm.train(model, task, sgd(0.1), until=None, steps=100)
    assert auto.method == "linearized"
    assert many.intervals >= 10
    for prediction in (never, auto, many):
        assert distance(prediction.test, run.test) < 1e-11
        assert prediction.error < 1e-11
    assert never.certificate.test_deviation < 1e-22


def test_auto_takes_as_many_intervals_as_the_tolerance_needs():
    model, task = mlp_problem((4, 30), 10)
    found = [wm.predict(model, task, sgd(0.05), steps=1000, tol=tol, relinearize="path") for tol in (10.0, 1e-1, 1e-2)]
    assert [p.method for p in found] == ["linearized", "relinearized", "relinearized"]
    assert found[0].intervals == 1 < found[1].intervals < found[2].intervals
    for prediction, tol in zip(found, (10.0, 1e-1, 1e-2), strict=True):
        assert prediction.error <= tol * prediction.target_std
        assert prediction.relative_error == pytest.approx(prediction.error / prediction.target_std)
    assert found[0].target_std == pytest.approx(float(task.y.std(correction=0)))


@pytest.mark.parametrize("size", [0.01, 100.0])
def test_the_tolerance_is_relative_to_the_spread_of_the_targets(size):
    model, task = problem("over")
    task = wm.Task(task.X, size * task.y, task.X_test)
    lazy = wm.predict(model, task, sgd(0.05), steps=5, relinearize="never")
    assert lazy.target_std == pytest.approx(float(task.y.std(correction=0)))
    just_enough = wm.predict(model, task, sgd(0.05), steps=5, tol=1.001 * lazy.relative_error, relinearize="path")
    not_enough = wm.predict(model, task, sgd(0.05), steps=5, tol=0.999 * lazy.relative_error, relinearize="path")
    assert (just_enough.method, not_enough.method) == ("linearized", "relinearized")


@pytest.mark.parametrize("seed", range(3))
def test_the_estimated_error_is_about_right(seed):
    model, task = mlp_problem((4, 60), 10, seed=seed, n_test=40)
    run = wm.train(model, task, sgd(0.05), until=None, steps=400)
    for n in (8, 32):
        prediction = wm.predict(model, task, sgd(0.05), steps=400, relinearize=n)
        truth = rms(prediction.test, run.test)
        assert 0.25 < prediction.error / truth < 4


def test_a_rate_that_the_kernel_outgrows_is_noted():
    # Both weights start small, so that the kernel grows with them.
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.constant_(model[1].weight, 0.1)
    task = wm.Task(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    calm = wm.predict(model, task, sgd(0.1), steps=60, relinearize=15)
    assert not any("limit of stability" in note for note in calm.notes)
    wild = wm.predict(model, task, sgd(0.6), steps=60, relinearize=15)
    assert any("limit of stability" in note for note in wild.notes)


def test_types_are_those_of_the_network():
    model, task = problem("over", dtype=torch.float32)
    for relinearize in ("never", 5):
        prediction = wm.predict(model, task, sgd(0.1), steps=50, relinearize=relinearize)
        assert prediction.train.dtype == prediction.test.dtype == torch.float32
        double = wm.predict(model.double(), task.to(torch.float64), sgd(0.1), steps=50, relinearize=relinearize)
        assert distance(prediction.test, double.test) < 1e-4
        model.float()


def test_what_two_terms_of_momentum_remember_is_the_last_two_displacements():
    """Where an interval starts: how they act on the training outputs, and their inner products."""
    _, task = mlp_problem((9, 4), 7)
    model, optimizer = nn.Linear(9, 1, dtype=torch.float64), partial(HigherMomentum, lr=0.03, betas=(0.5, 0.2))
    states = [flat(wm.train(model, task, optimizer, until=None, steps=k).final, model) for k in (18, 19, 20)]
    moved = torch.stack([states[2] - states[1], states[1] - states[0]])
    predictor = prepare(model, task, Recipe(optimizer), (20.0,), only_linearized=False)
    problem, linearization = predictor.problem, predictor.linearization
    path = follow(problem, problem.rule, linearization, 4)
    assert path.intervals == 4
    here = path.features, path.spectrum, path.steps, path.remembered
    start = start_at(problem.network, problem.rule, problem.objective, *here)
    assert distance(torch.from_numpy(start.gram), moved @ moved.T) < 1e-14
    assert distance(torch.from_numpy(start.pushed[1:]), moved @ jacobian(model, task.X).T) < 1e-12
    assert start.steps == 20

"""``until``: the first step with a training mean square error below it."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import distance, mlp_problem, problem, sgd
from whichmin.dynamics.paths.controller import IntervalCount
from whichmin.dynamics.paths.function_space import FunctionSpacePredictor
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.errors import InputError, SingularKernelError

METHODS = pytest.mark.parametrize("relinearize", ["never", 6, 10**7])


def mse(outputs, task):
    return float((outputs - task.y).square().mean())


@pytest.mark.parametrize("until", [0.5, 0.1, 1e-2, 1e-3])
def test_one_linearization_stops_at_the_first_step_below(until):
    model, task = problem("over")
    found = wm.predict(model, task, sgd(0.1), until=until, relinearize="never")
    k = int(found.steps)
    assert found.steps == k >= 1
    two = wm.predict(model, task, sgd(0.1), steps=[k - 1, k], relinearize="never")
    assert mse(two.train[1], task) < until <= mse(two.train[0], task)
    assert distance(found.train, two.train[1]) < 1e-13


@METHODS
def test_an_error_that_is_below_already_takes_no_step(relinearize):
    model, task = problem("over")
    until = 1.01 * mse(model(task.X).detach(), task)
    assert wm.train(model, task, sgd(0.1), until=until).steps == 0
    found = wm.predict(model, task, sgd(0.1), until=until, relinearize=relinearize)
    assert found.steps == 0
    assert distance(found.test, model(task.X_test).detach()) < 1e-14


@pytest.mark.parametrize("relinearize", ["never", "auto", 10**7])
def test_the_predicted_loss_is_below(relinearize):
    model, task = mlp_problem((4, 30), 10)
    found = wm.predict(model, task, sgd(0.1), until=0.2, relinearize=relinearize)
    assert mse(found.train, task) < 0.2
    assert float(found.curve.losses[-1]) < 0.2
    assert float(found.curve.losses[0]) == pytest.approx(mse(model(task.X).detach(), task))


@METHODS
def test_steps_bound_it(relinearize):
    model, task = mlp_problem((4, 30), 10)
    found = wm.predict(model, task, sgd(0.05), until=1e-6, steps=25, relinearize=relinearize)
    plain = wm.predict(model, task, sgd(0.05), steps=25, relinearize=relinearize)
    assert found.steps == plain.steps == 25
    # on a long interval to a loss what it missed is taken back
    assert distance(found.test, plain.test) < (plain.error if relinearize == 6 else 1e-13)
    early = wm.predict(model, task, sgd(0.05), until=0.3, steps=10**6, relinearize=relinearize)
    assert 0 < early.steps < 1000


def test_a_target_below_the_floor_of_an_underparameterized_network():
    model, task = problem("under")
    with pytest.raises(wm.errors.SingularKernelError, match=r"until = 1e-06 is never reached.*stays above 0\.\d+"):
        wm.predict(model, task, sgd(0.1), until=1e-6, relinearize="never")
    bounded = wm.predict(model, task, sgd(0.1), until=1e-6, steps=50, relinearize="never")
    assert bounded.steps == 50


def test_a_training_error_of_zero_stays():
    model, task = problem("over")
    fitted = wm.Task(task.X, model(task.X).detach(), task.X_test)
    found = wm.predict(model, fitted, sgd(0.1), relinearize="path")
    assert found.method == "linearized"
    assert found.error < 1e-14
    assert distance(found.test, model(task.X_test).detach()) < 1e-13
    assert math.isfinite(found.relative_error)


def compared(fine, coarse):
    """What a path of so many (intervals, steps) says of its steps beside a coarser one."""
    outcomes = [
        Outcome("linearized" if n == 1 else "relinearized", [], [torch.zeros(3, 1)], steps, n, 0.0, [(steps, 0.1)], {})
        for n, steps in (fine, coarse)
    ]
    loss = SimpleNamespace(is_quadratic=True)
    problem = SimpleNamespace(
        goal=SimpleNamespace(until=1e-3, steps=math.inf, flow=False, eval_every=1), objective=SimpleNamespace(loss=loss)
    )
    of = SimpleNamespace(problem=problem, _first=0.0)
    of._with_extrapolated_steps = partial(FunctionSpacePredictor._with_extrapolated_steps, of)
    return FunctionSpacePredictor._compared(of, *outcomes, fine[0] / coarse[0])


def test_one_linearization_that_agrees_by_chance_confirms_no_path():
    found = compared((8, 3297.0), (1, 3307.0))
    assert found.steps == 3297.0
    controller = IntervalCount(accepted=0.01, accepted_loss=0.02, most=512)
    assert not controller.is_met(found)
    confirmed = compared((12, 3297.0), (8, 3299.0))
    assert controller.is_met(confirmed)


def test_steps_of_two_paths_are_extrapolated_halfway():
    """Errors like 1/n: 1,100 and 1,050 steps of 10 and 20 intervals lead to 1,000, and rectifiers to none of it."""
    found = compared((20, 1050.0), (10, 1100.0))
    assert 1000 < found.steps < 1050
    assert 1050 - found.steps < found.steps_error * found.steps < 2.1 * (1050 - found.steps)
    assert found.measured_steps == 1050.0
    assert found.curve[-1][0] == pytest.approx(found.steps)


def test_a_coarser_path_that_never_comes_to_the_loss_leaves_the_steps_unknown():
    found = compared((12, 500.0), (4, math.inf))
    assert found.steps == 500.0
    assert found.steps_error == math.inf


def test_one_linearization_whose_rates_die_out_says_that_it_misses_the_loss():
    task = wm.data.load("digits", classes=(0, 1), n_train=24, n_test=8)
    task = wm.Task(task.X, (task.y > 0).double(), loss=torch.nn.BCEWithLogitsLoss(), X_test=task.X_test)
    model = wm.networks.MLP((64, 32, 1), scale=0.8, activation="tanh", seed=1)
    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=20, gamma=0.5)
    lowest = wm.train(model, task, sgd(0.1), steps=600, scheduler=scheduler).losses[-1].item()
    found = wm.predict(model, task, sgd(0.1), until=0.9 * lowest, scheduler=scheduler, relinearize="path")
    assert found.steps == math.inf
    assert found.curve.losses[-1].item() == pytest.approx(lowest, rel=1e-3)
    assert any("never comes below until" in note for note in found.notes)


def test_paths_under_rates_that_die_out_end_where_training_does():
    """One linearization never comes to the loss, and the network does, just before its rates are gone."""
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(44, 5, generator=generator, dtype=torch.float64)
    signal = X[:, 0] * X[:, 1] + 0.5 * X[:, 2]
    labels = (signal > -0.4).long() + (signal > 0.4).long()
    task = wm.Task(X[:24], labels[:24], X[24:], labels[24:], loss=torch.nn.CrossEntropyLoss(label_smoothing=0.1))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.Tanh(), torch.nn.Linear(64, 3)).double()
    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=100, gamma=0.7)
    found = wm.predict(model, task, sgd(0.05), until=0.70805, scheduler=scheduler, relinearize="path")
    trained = wm.train(model, task, sgd(0.05), until=0.70805, scheduler=scheduler)
    assert found.steps == pytest.approx(trained.steps, rel=0.02)
    assert (found.test - trained.test).square().mean().sqrt() < 3 * found.error


@pytest.mark.parametrize(("settings", "batch_size"), [({}, 3), ({"momentum": 0.9}, None)])
def test_the_mean_square_error_ends_where_rates_that_die_out_leave_it(settings, batch_size):
    """Not at the minimizer, which infinitely many steps at any other rates come to."""
    model, task = problem("over")
    recipe = wm.Recipe(
        partial(torch.optim.SGD, lr=0.02, **settings),
        scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9),
        batch_size=batch_size,
    )
    trained = wm.train(model, task, recipe, steps=400, until=None, progress=False)
    found = wm.predict(model, task, recipe, until=1e-9, relinearize=2)
    assert found.steps == math.inf
    assert float((found.test - trained.test).square().mean().sqrt()) <= 4 * found.error
    assert found.curve.losses[-1].item() == pytest.approx(trained.losses[-1].item(), rel=0.2)
    with pytest.raises(SingularKernelError, match=r"stays above \d\.\d"):
        wm.predict(model, task, recipe, until=1e-9, relinearize="never")


def test_a_step_that_reaches_a_loss_on_the_linearized_network_alone_is_not_the_last():
    """Gradient descent at a large rate: linearized, step 12 comes below; training comes there with step 18."""
    torch.manual_seed(0)
    X, X_test = torch.randn(24, 5), torch.randn(20, 5)
    task = wm.Task(X, (X[:, 0] * X[:, 1] > 0).long(), X_test, loss=torch.nn.CrossEntropyLoss())
    model = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    trained = wm.train(model, task, sgd(2.0), until=0.4388, progress=False)
    found = wm.predict(model, task, sgd(2.0), until=0.4388, relinearize=60)
    assert found.steps == trained.steps == 18
    assert found.curve.losses[-1] < 0.4388


def test_the_limit_of_rates_that_die_out_is_refused():
    model, task = problem("over")
    kept, dying = (partial(torch.optim.lr_scheduler.LinearLR, end_factor=f, total_iters=50) for f in (1.0, 0.0))
    assert wm.predict(model, task, sgd(0.1), scheduler=kept, relinearize="never").steps == math.inf
    with pytest.raises(InputError, match="die out"):
        wm.predict(model, task, sgd(0.1), scheduler=dying, relinearize="never")


def test_steps_to_a_loss_of_a_smooth_network_that_learns_features():
    task = wm.data.load("digits", classes=(0, 1), n_train=60, n_test=60)
    model = wm.networks.MLP((64, 512, 1), scale=0.8, activation="tanh", seed=1)
    best = wm.spectrum(wm.tangent_kernel(model, task.X)).best_lr
    trained, found = (verb(model, task, sgd(0.4 * best), until=1e-2) for verb in (wm.train, wm.predict))
    assert abs(found.steps / trained.steps - 1) < 0.02

"""``until``: the first step with a training mean square error below it."""

from __future__ import annotations

import math

import pytest

import whichmin as wm
from oracles.linear_rules import distance, mlp_problem, problem, sgd

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

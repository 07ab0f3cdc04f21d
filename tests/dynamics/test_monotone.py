"""``lr="monotone"``: the loss falls at every step, and at a rate a little larger it does not."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import whichmin as wm
from whichmin.dynamics import monotone as module
from whichmin.dynamics.monotone import EARLY, RESOLUTION, _largest
from whichmin.errors import OptimizerError
from whichmin.loop.training_loop import Loop

OPTIMIZERS = {
    "gd": partial(torch.optim.SGD, lr="monotone"),
    "heavy ball": partial(torch.optim.SGD, lr="monotone", momentum=0.5),
    "adagrad": partial(torch.optim.Adagrad, lr="monotone"),
    "adam": partial(torch.optim.Adam, lr="monotone"),
    "adadelta": partial(torch.optim.Adadelta, lr="monotone"),
}


def rises(losses):
    """By more than rounding."""
    before, after = losses[:-1], losses[1:]
    return bool((after > before + 1e-9 * (before + before.sqrt())).any())


@pytest.fixture(scope="module")
def problem():
    return wm.networks.MLP([64, 64, 1], seed=0, dtype=torch.float64), wm.data.load(
        "digits", classes=(0, 1), n_train=20, n_test=5, dtype=torch.float64
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_loss_falls_and_not_a_little_beyond(problem, name):
    model, task = problem
    run = wm.train(model, task, OPTIMIZERS[name], until=1e-3, steps=300)
    assert not rises(run.losses)
    beyond = partial(OPTIMIZERS[name].func, **OPTIMIZERS[name].keywords | {"lr": run.learning_rate * (1 + RESOLUTION)})
    assert rises(wm.train(model, task, beyond, until=1e-3, steps=300).losses)


def test_predict_and_train_take_the_same_rate(problem):
    model, task = problem
    predicted = wm.predict(model, task, OPTIMIZERS["adam"], until=1e-2)
    trained = wm.train(model, task, OPTIMIZERS["adam"], until=1e-2)
    assert predicted.learning_rate == trained.learning_rate


def test_gradient_descent_is_near_its_limit_of_stability_when_lazy(problem):
    _, task = problem
    wide = wm.networks.MLP([64, 2048, 1], seed=0, dtype=torch.float64)
    predicted = wm.predict(wide, task, OPTIMIZERS["gd"], until=1e-2)
    assert 0.85 < predicted.learning_rate / predicted.max_lr < 1.15


def test_mini_batches_and_schedules(problem):
    model, task = problem
    halving = partial(torch.optim.lr_scheduler.StepLR, step_size=10, gamma=0.5)
    recipe = wm.Recipe(OPTIMIZERS["gd"], batch_size=5, scheduler=halving)
    run = wm.train(model, task, recipe, until=None, steps=40)
    assert not rises(run.losses)


def test_a_loss_that_rises_late(problem):
    """A rate that is three times as large after the steps that are looked at first."""
    model, task = problem
    later = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: 1.0 if step < EARLY + 20 else 3.0)
    asked = {"until": None, "steps": 2 * EARLY, "scheduler": later}
    run = wm.train(model, task, OPTIMIZERS["gd"], **asked)
    assert not rises(run.losses)
    beyond = wm.train(model, task, partial(torch.optim.SGD, lr=run.learning_rate * (1 + RESOLUTION)), **asked)
    assert rises(beyond.losses)
    assert not rises(beyond.losses[:EARLY])
    early = wm.train(model, task, OPTIMIZERS["gd"], until=None, steps=EARLY)
    assert early.learning_rate > 2 * run.learning_rate


def test_looks_at_whole_epochs_of_mini_batches(problem, monkeypatch):
    """Between them the loss of all rows is not what is to fall."""
    model, task = problem
    limits = []
    monkeypatch.setattr(module, "Loop", lambda *a, **k: limits.append(k["limit"]) or Loop(*a, **k))
    wm.train(model, task, wm.Recipe(OPTIMIZERS["adam"], batch_size=3), until=None, steps=7 * 40)
    assert limits
    assert all(limit % 7 == 0 for limit in limits)  # 20 rows
    assert min(limits) == 70


def test_goes_on_at_the_rate_it_began_with(problem):
    model, task = problem
    run = wm.train(model, task, OPTIMIZERS["adam"], until=None, steps=30, checkpoints=[10])
    again = wm.train(run.checkpoint(10), task, OPTIMIZERS["adam"], until=None, steps=30)
    assert again.learning_rate == run.learning_rate
    torch.testing.assert_close(again.test, run.test, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [0.03, 1.0, 700.0])
@pytest.mark.parametrize("factor", [1.1, 2.0])
def test_the_search(limit, factor):
    found = _largest(lambda lr: lr <= limit, 1.0, factor)
    assert limit / (1 + RESOLUTION) <= found <= limit


def test_no_rate_is_found():
    with pytest.raises(OptimizerError, match="rises at every rate down to"):
        _largest(lambda _: False, 1.0, 2.0)
    with pytest.raises(OptimizerError, match="falls at every rate up to"):
        _largest(lambda _: True, 1.0, 2.0)

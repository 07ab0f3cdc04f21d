"""Networks that are really trained come near to the linearized run of their optimizer as their width grows."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from oracles.linear_rules import mlp_problem, rms
from whichmin.optimizers import HigherMomentum, Nesterov, Preconditioned

WIDTHS = (64, 1024)
STEPS = 40


def adaptive(kind, rate, **settings):
    """Steps of a size of their own move the outputs by √width times as much."""
    return lambda width: partial(kind, lr=rate / math.sqrt(width), **settings)


def plain(kind, rate, **settings):
    return lambda width: partial(kind, lr=rate, **settings)


OPTIMIZERS = {
    "descent": plain(torch.optim.SGD, 0.1),
    "momentum": plain(torch.optim.SGD, 0.03, momentum=0.9),
    "nesterov": plain(Nesterov, 0.05),
    "two terms": plain(HigherMomentum, 0.05, betas=(0.5, 0.2)),
    "a metric": plain(Preconditioned, 0.05, metric=lambda p: 0.5 + p.detach().abs().clamp(max=3.0)),
    "adagrad": adaptive(torch.optim.Adagrad, 0.1),
    "rmsprop": adaptive(torch.optim.RMSprop, 0.005),
    "adam": adaptive(torch.optim.Adam, 0.02),
    "adamw": adaptive(torch.optim.AdamW, 0.02, weight_decay=0.1),
}


def distances(factory, **course):
    """Between the trained network and its linearized run, the mean over two seeds, for each width."""
    found = []
    for width in WIDTHS:
        squares = []
        for seed in range(2):
            model, task = mlp_problem((3, width), 6, n_test=30, seed=seed)
            task = wm.Task(0.5 * task.X, task.y, 0.5 * task.X_test)
            run = wm.train(model, task, factory(width), until=None, steps=STEPS, **course)
            lazy = wm.predict(model, task, factory(width), steps=STEPS, relinearize="never", **course)
            moved = rms(run.test, model(task.X_test).detach())
            squares.append(rms(lazy.test, run.test) ** 2)
            assert squares[-1] < (0.5 * moved) ** 2, "the run goes somewhere"
        found.append(math.sqrt(sum(squares) / len(squares)))
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_distance_falls_with_the_width(name):
    found = distances(OPTIMIZERS[name])
    assert found[0] > 2.25 * found[1], found


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_in_mini_batches_with_a_schedule(name):
    found = distances(OPTIMIZERS[name], batch_size=2, seed=1, scheduler=partial(StepLR, step_size=25, gamma=0.5))
    assert found[0] > 2.25 * found[1], found

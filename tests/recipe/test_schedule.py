"""Batches, learning rates and momenta of each step, as training has them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, OneCycleLR, PolynomialLR, StepLR

import whichmin as wm
from whichmin.errors import OptimizerError
from whichmin.recipe.batches import batch_order
from whichmin.recipe.schedule import Batches, GivenBatches, Schedule

SETTINGS = {
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.8),
    "adam": partial(torch.optim.Adam, lr=0.1, betas=(0.8, 0.99)),
    "adagrad": partial(torch.optim.Adagrad, lr=0.1),
}


def scheduled(name, scheduler):
    optimizer = SETTINGS[name]([nn.Parameter(torch.ones(2))])
    return optimizer, scheduler(optimizer)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["steps", "cycle"])
def test_settings_of_each_step(name, kind):
    cycle = partial(OneCycleLR, max_lr=0.5, total_steps=30, cycle_momentum=name != "adagrad")
    scheduler = cycle if kind == "cycle" else partial(StepLR, step_size=3)
    schedule = Schedule.of(*scheduled(name, scheduler))
    optimizer, stepped = scheduled(name, scheduler)
    expected = []
    for _ in range(12):
        group = optimizer.param_groups[0]
        expected.append((group["lr"], group["betas"][0] if "betas" in group else group.get("momentum")))
        optimizer.step()
        stepped.step()
    order = [7, 0, 11, *range(12)]
    assert [(schedule.lr(k), schedule.momentum(k)) for k in order] == [expected[k] for k in order]
    assert not schedule.is_constant


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        (partial(StepLR, step_size=100, gamma=0.7), True),
        (partial(PolynomialLR, total_iters=300), True),
        (partial(LinearLR, total_iters=50), False),
        (partial(CosineAnnealingLR, T_max=100), False),  # comes back
        (partial(LambdaLR, lr_lambda=lambda k: 1 / (1 + k)), False),
    ],
)
def test_learning_rates_that_die_out(scheduler, expected):
    assert Schedule.of(*scheduled("sgd", scheduler)).dies_out(0) is expected


def test_a_scheduler_that_ends_says_where():
    schedule = Schedule.of(*scheduled("sgd", partial(OneCycleLR, max_lr=0.5, total_steps=30)))
    with pytest.raises(OptimizerError, match="fails after step 31"):
        schedule.lr(40)


def test_without_scheduler_and_batches_all_steps_are_alike():
    optimizer, _ = scheduled("sgd", lambda o: None)
    schedule = Schedule.of(optimizer, None)
    assert schedule.is_constant
    assert schedule.lr is schedule.momentum is None
    assert not Schedule.of(optimizer, None, lambda k: np.arange(2), 3).is_constant


@pytest.mark.parametrize("outputs", [1, 3])
def test_batches_are_those_of_training(outputs):
    task = wm.Task(torch.randn(7, 2), torch.randn(7, outputs))
    batches, order = Batches(batch_order(7, 3, 5), task.outputs), batch_order(7, 3, 5)
    expected = [next(order) for _ in range(8)]
    given = GivenBatches(expected, outputs)
    for k in (6, 0, *range(8)):
        assert torch.equal(batches.rows(k), expected[k])
        flat = (expected[k][:, None] * outputs + torch.arange(outputs)).reshape(-1).numpy()
        assert np.array_equal(batches(k), flat)
        assert np.array_equal(given(k), flat)
        assert torch.equal(given.rows(k), expected[k])

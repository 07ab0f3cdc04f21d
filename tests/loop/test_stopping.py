"""What a run that ended above its aim says."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from oracles.linear_rules import problem, sgd
from whichmin.loop.stopping import stalled


def reason(model, task, factory, steps=1500, **settings):
    run = wm.train(model, task, factory, steps=steps, **settings)
    assert not run.converged
    assert run.reason.startswith(f"stopped at steps = {steps} with a training MSE of {float(run.losses[-1]):.3g}")
    return run.reason


def test_weight_decay():
    model, task = problem("over")
    told = reason(model, task, partial(torch.optim.SGD, lr=0.1, weight_decay=0.1), steps=2500)
    assert "above until = 1e-05: it has not fallen by more than 0.1%" in told
    assert "Weight decay (0.1) holds the training error up: set weight_decay=0" in told


def test_a_scheduler_that_fell_too_early():
    told = reason(*problem("over"), sgd(0.1), scheduler=partial(StepLR, step_size=20, gamma=0.1))
    assert "The scheduler has lowered the learning rate from 0.1 to" in told


def test_too_few_parameters():
    g = torch.Generator().manual_seed(0)
    task = wm.Task(torch.randn(20, 4, generator=g), torch.randn(20, generator=g))
    told = reason(nn.Linear(4, 1), task, sgd(0.1))
    assert "has 5 trainable parameters for 20 targets and may not be able to fit them" in told


def test_a_rate_that_is_too_large_to_settle():
    torch.manual_seed(0)
    task = wm.Task(torch.randn(8, 20), torch.randn(8))
    told = reason(nn.Linear(20, 1), task, partial(torch.optim.RMSprop, lr=1.0), steps=1400, batch_size=1, until=1e-12)
    assert "Since then it moved between" in told
    assert "at a learning rate of 1," in told


def test_a_gradient_of_zero():
    model, task = wm.networks.MLP([4, 12, 1], activation="relu", dtype=torch.float64, seed=0), problem("over")[1]
    for p in model.parameters():
        p.data.zero_()
    told = reason(model, task, sgd(0.1), steps=1200, until=1e-9)
    assert "It hardly moves at a learning rate of 0.1" in told
    assert "start elsewhere if the gradient is 0" in told


@pytest.mark.parametrize("until", [None, 1e-5])
def test_a_run_that_was_still_falling_says_no_more(until):
    run = wm.train(*problem("over"), sgd(1e-3), steps=1500, until=until)
    assert run.reason.endswith("." if until is None else "above until = 1e-05.")
    assert "not fallen" not in run.reason


def test_when_it_counts_as_stalled():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(9))], lr=0.1)
    task = wm.Task(torch.ones(2, 1), torch.ones(2))

    def told(losses, every=1):
        return stalled(losses, range(0, every * len(losses), every), [0.1], [0.1], optimizer, task)

    assert told([1.0] * 1000) is None
    assert told([1.0] * 1001) is not None
    assert told([1.0 - 1e-5 * k for k in range(2000)]) is None, "slow, but falling"
    assert told([1.0, *[0.5] * 1500]).startswith("it has not fallen by more than 0.1% below the 0.5 of step 1, 1,499 ")
    falling = [1.0 / (1 + k) for k in range(9000)]
    assert told(falling + [falling[-1]] * 1500) is None, "less than a fifth of the run"
    assert told(falling + [falling[-1]] * 2500) is not None
    assert told([1.0] * 11, every=100) is not None
    assert told([0.1, *[50.0 - k / 100 for k in range(1500)]]) is not None, "falling, but from above where it had been"


@pytest.mark.parametrize(
    ("swing", "cause"), [(0.02, "Since then it moved between 1 and 1.02"), (0.005, "hardly moves")]
)
def test_what_swings_by_more_than_a_percent_does_not_settle(swing, cause):
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(9))], lr=0.1)
    task = wm.Task(torch.ones(2, 1), torch.ones(2))
    losses = [1.0 + swing * (k % 2) for k in range(1500)]
    assert cause in stalled(losses, range(1500), [0.1], [0.1], optimizer, task)

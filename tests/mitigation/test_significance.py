"""Paired tests against scipy's, standard errors and the error of a predicted loss against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel
from torch import nn

import whichmin as wm
from whichmin.mitigation.significance import ALIGNED, loss_error, paired_p, row_losses, standard_error

G = torch.Generator().manual_seed(5)
OUTPUTS = {1: torch.randn(30, 1, generator=G), 3: torch.randn(30, 3, generator=G)}


def problem(outputs: int, loss: nn.Module) -> wm.Task:
    y = torch.arange(30) % 3 if isinstance(loss, nn.CrossEntropyLoss) else torch.randn(30, outputs, generator=G)
    return wm.Task(torch.randn(30, 2, generator=G), y, torch.randn(30, 2, generator=G), y, loss=loss)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_the_test_is_scipys(n):
    rng = np.random.default_rng(n)
    one, other = rng.normal(size=n), rng.normal(size=n) - 0.2
    assert paired_p(one, other) == pytest.approx(ttest_rel(one, other, alternative="greater").pvalue, rel=1e-12)


def test_equal_losses_do_not_fall():
    losses = np.array([0.1, 0.2, 0.3])
    assert paired_p(losses, losses) == 1.0
    assert paired_p(np.array([1.0, 2.0]), np.array([0.0, 1.0])) == 0.0
    assert math.isnan(paired_p(losses[:1], losses[1:2]))


@pytest.mark.parametrize(
    "loss",
    [
        nn.MSELoss(),
        nn.MSELoss(reduction="sum"),
        nn.HuberLoss(),
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(reduction="sum"),
    ],
    ids=["mse", "mse sum", "huber", "cross-entropy", "cross-entropy sum"],
)
def test_losses_of_rows_make_up_the_loss(loss):
    task = problem(3, loss)
    losses = row_losses(task, OUTPUTS[3])
    whole = losses.sum() if getattr(loss, "reduction", "mean") == "sum" else losses.mean()
    assert whole == pytest.approx(task.test_loss(OUTPUTS[3].double()), rel=1e-6)
    count = 30 if getattr(loss, "reduction", "mean") == "sum" else 1
    expected = count * losses.std(ddof=1) / math.sqrt(30)
    assert standard_error(task, OUTPUTS[3]) == pytest.approx(expected, rel=1e-6)


def test_rows_that_do_not_count_are_left_out():
    y = torch.tensor([0, 1, -100, 2])
    task = wm.Task(torch.randn(4, 2), y, torch.randn(4, 2), y, loss=nn.CrossEntropyLoss())
    assert len(row_losses(task, OUTPUTS[3][:4])) == 3


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_error_of_a_mean_square(outputs):
    """2 e √(L/(n·C)) + e²."""
    task, e = problem(outputs, nn.MSELoss()), 0.03
    L = task.test_loss(OUTPUTS[outputs].double())
    expected = 2 * ALIGNED * e * math.sqrt(L) + e**2
    assert loss_error(task, OUTPUTS[outputs], e) == pytest.approx(expected, rel=1e-6)


def test_it_is_what_aligned_deviations_do():
    """The loss moves by what the error says under deviations of that size and alignment, quadratic or not."""
    task, e = problem(3, nn.CrossEntropyLoss()), 0.01
    f = OUTPUTS[3].double()
    g = task.loss.gradient(f, task.y_test)
    along, across = g / g.norm(), torch.randn(f.shape, generator=G, dtype=f.dtype)
    across -= (across * along).sum() * along
    deviation = ALIGNED * along + math.sqrt(1 - ALIGNED**2) * across / across.norm()
    moved = task.test_loss(f + e * math.sqrt(f.numel()) * deviation) - task.test_loss(f)
    assert moved == pytest.approx(loss_error(task, f, e), rel=0.05)


def test_of_few_outputs_it_is_what_random_deviations_do():
    """The spread of the loss over deviations of that size is what the error says."""
    y = torch.tensor([0, 2])
    task = wm.Task(torch.randn(2, 2, generator=G), y, torch.randn(2, 2, generator=G), y, loss=nn.CrossEntropyLoss())
    e, f = 0.02, OUTPUTS[3][:2].double()
    deviations = [e * torch.randn(f.shape, generator=G, dtype=f.dtype) for _ in range(400)]
    spread = np.std([task.test_loss(f + d) - task.test_loss(f) for d in deviations])
    assert spread == pytest.approx(loss_error(task, f, e), rel=0.15)


def test_what_is_not_known_stays_unknown():
    task = problem(1, nn.MSELoss())
    assert loss_error(task, OUTPUTS[1], math.inf) == math.inf
    assert loss_error(task, OUTPUTS[1], 0.0) == 0.0
    assert loss_error(task, task.y_test, 0.1) == pytest.approx(0.01, rel=1e-6)

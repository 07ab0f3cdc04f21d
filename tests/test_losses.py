"""The loss, against torch's own: value, gradient, curvature, and the objective on flattened outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.errors import InputError
from whichmin.losses import MeanSquaredError, loss_of, mean_square, root_mean_square

LOSSES = [MeanSquaredError()]
EVERY = pytest.mark.parametrize("loss", LOSSES, ids=repr)


def outputs_and_targets(n: int = 5, outputs: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, outputs, generator=g, dtype=torch.float64) for _ in range(2))


@EVERY
def test_value_and_gradient_are_those_of_the_module(loss):
    f, y = outputs_and_targets()
    f.requires_grad_()
    torchs = loss.module()(f, y)
    (gradient,) = torch.autograd.grad(torchs, f)
    assert loss.value(f, y) == pytest.approx(torchs.item(), rel=1e-14)
    assert torch.allclose(loss.gradient(f.detach(), y), gradient, rtol=1e-13, atol=0)


@EVERY
def test_the_objective_is_the_loss_on_flattened_outputs(loss):
    f, y = outputs_and_targets()
    objective = loss.objective(y)
    r = f.reshape(-1).numpy() - objective.origin
    assert objective.value(r) == pytest.approx(loss.value(f, y), rel=1e-13)
    assert objective.gradient(r) == pytest.approx(loss.gradient(f, y).reshape(-1).numpy(), rel=1e-12)
    rows = torch.tensor([3, 0])
    flattened = (rows[:, None] * 3 + torch.arange(3)).reshape(-1).numpy()
    expected = loss.gradient(f[rows], y[rows]).reshape(-1).numpy()
    assert objective.gradient(r, flattened) == pytest.approx(expected, rel=1e-12)


@EVERY
def test_the_curvature_is_the_largest_of_the_hessian(loss):
    f, y = outputs_and_targets()
    hessian = torch.autograd.functional.hessian(lambda z: loss.module()(z.view_as(y), y), f.reshape(-1))
    assert loss.curvature(f.numel()) == pytest.approx(float(torch.linalg.eigvalsh(hessian).max()), rel=1e-12)
    assert loss.objective(y).gamma == loss.curvature(y.numel())


@EVERY
def test_a_quadratic_loss_has_a_gradient_proportional_to_what_is_left(loss):
    f, y = outputs_and_targets()
    objective = loss.objective(y)
    r = f.reshape(-1).numpy() - objective.origin
    if not loss.is_quadratic:
        pytest.skip("not quadratic")
    assert objective.gradient(r) == pytest.approx(objective.gamma * r, rel=1e-13)


def test_a_task_holds_its_loss():
    X, y = torch.randn(4, 2), torch.randn(4)
    assert wm.Task(X, y).loss == MeanSquaredError() == wm.Task(X, y, loss=nn.MSELoss()).loss
    assert wm.Task(X, y, loss=nn.MSELoss()).to(torch.float64).loss == MeanSquaredError()
    assert loss_of(None) == loss_of(MeanSquaredError())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.MSELoss(reduction="sum"), r"MSELoss\(reduction='sum'\); expected torch.nn.MSELoss\(\)"),
        (nn.L1Loss(), r"loss is L1Loss\(\); expected torch.nn.MSELoss\(\)"),
        ("mse", "loss is 'mse'; expected"),
    ],
)
def test_other_losses_are_refused_when_the_task_is_made(loss, message):
    with pytest.raises(InputError, match=message):
        wm.Task(torch.randn(4, 2), torch.randn(4), loss=loss)


def test_roots_and_squares():
    assert mean_square(np.array([3.0, 4.0])) == 12.5
    assert root_mean_square(np.array([3.0, 4.0])) == root_mean_square(torch.tensor([[3.0], [4.0]])) == math.sqrt(12.5)
    assert root_mean_square(torch.tensor([math.nan, 1.0])) == math.inf

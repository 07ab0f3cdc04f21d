"""The mean square error as a loss and as an objective, against torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from whichmin.errors import InputError
from whichmin.losses import MeanSquaredError, loss_of, mean_square, root_mean_square


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5, 1), (4, 3)])
def test_value_and_gradient_are_torch_s(shape):
    loss, f, y = MeanSquaredError(), drawn(*shape).requires_grad_(), drawn(*shape)
    value = nn.MSELoss()(f, y)
    value.backward()
    assert loss.value(f, y) == pytest.approx(value.item(), rel=1e-14)
    torch.testing.assert_close(loss.gradient(f.detach(), y), f.grad)
    assert isinstance(loss.module(), nn.MSELoss)
    assert loss.curvature(f.numel()) == 2 / f.numel()


@pytest.mark.parametrize("rows", [None, [1], [0, 3], [0, 1, 2, 3]])
def test_an_objective_is_the_loss_on_flattened_outputs(rows):
    """The gradient on some rows is that of the mean over these rows."""
    f, y = drawn(4, 3).requires_grad_(), drawn(4, 3)
    objective = MeanSquaredError().objective(y)
    chosen = list(range(4)) if rows is None else rows
    nn.MSELoss()(f[chosen], y[chosen]).backward()
    r = f.detach().reshape(-1).numpy() - objective.origin
    flat = None if rows is None else np.concatenate([np.arange(3 * i, 3 * i + 3) for i in rows])
    expected = f.grad[chosen].reshape(-1).numpy()
    np.testing.assert_allclose(objective.gradient(r, flat), expected, rtol=1e-13)
    assert objective.value(r) == pytest.approx(nn.MSELoss()(f, y).item(), rel=1e-14)
    assert objective.gamma == 2 / 12


def test_means_of_squares():
    assert mean_square(np.array([3.0, 4.0])) == 12.5
    assert root_mean_square(torch.tensor([[3.0], [4.0]])) == pytest.approx(math.sqrt(12.5))
    assert root_mean_square(np.array([3.0, 4.0])) == pytest.approx(math.sqrt(12.5))
    for bad in (math.nan, math.inf):
        assert root_mean_square(torch.tensor([1.0, bad])) == math.inf


@pytest.mark.parametrize("loss", [None, nn.MSELoss(), MeanSquaredError()])
def test_losses_that_are_the_mean_square_error(loss):
    assert loss_of(loss) == MeanSquaredError()
    assert hash(loss_of(loss)) == hash(MeanSquaredError())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.MSELoss(reduction="sum"), r"loss is MSELoss\(reduction='sum'\); expected torch.nn.MSELoss\(\)"),
        (nn.L1Loss(), r"loss is L1Loss\(\); expected"),
        ("mse", "loss is 'mse'; expected"),
    ],
)
def test_other_losses(loss, message):
    with pytest.raises(InputError, match=message):
        loss_of(loss)

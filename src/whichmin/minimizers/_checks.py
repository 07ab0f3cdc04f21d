"""Checks of kernels, Jacobians and targets that the closed forms share."""

from __future__ import annotations

import torch
from torch import Tensor

from whichmin.arrays import as_tensor
from whichmin.errors import DataError
from whichmin.kernels.modes import rounding_unit


def rounding(value: Tensor) -> float:
    """ε of the type that a kernel or a Jacobian was computed in."""
    return rounding_unit(torch.as_tensor(value).dtype)


def real(value: Tensor, name: str) -> Tensor:
    """A value in float64.

    Raises:
        DataError: it is empty or not finite.
    """
    tensor = as_tensor(value, name).to(torch.float64)
    if tensor.numel() == 0:
        raise DataError(f"{name} is empty, shape {tuple(tensor.shape)}; expected one row or more.")
    if not torch.isfinite(tensor).all():
        raise DataError(f"{name} holds NaN or infinity: look for the inputs or weights that led to it.")
    return tensor


def targets(y: Tensor) -> Tensor:
    """Targets (N,) or (N, C) as (N, C), float64.

    Raises:
        DataError: another shape, numbers that are not finite.
    """
    y = real(y, "y")
    if y.ndim not in (1, 2):
        raise DataError(f"y has shape {tuple(y.shape)}; expected (N,) or (N, C).")
    return y.reshape(len(y), -1)


def check_kernels(train: Tensor, test: Tensor, n: int, outputs: int) -> None:
    """Refuse kernels that are not those of n training inputs and C outputs.

    Raises:
        DataError: which has another shape than (n, n) or (n, n, C, C), and the same rows for test inputs.
    """
    stacked = train.ndim == 4
    if tuple(train.shape) != ((n, n, outputs, outputs) if stacked else (n, n)):
        raise DataError(
            f"kernel_train has shape {tuple(train.shape)}; expected ({n}, {n}) or ({n}, {n}, {outputs}, {outputs}) for "
            f"y of {n} rows."
        )
    expected = (len(test), *train.shape[1:]) if test.ndim else ()
    if tuple(test.shape) != expected:
        raise DataError(
            f"kernel_test has shape {tuple(test.shape)}; expected (n_test, {', '.join(map(str, train.shape[1:]))}), "
            "the rows of K(x', X) beside the K(X, X) given."
        )

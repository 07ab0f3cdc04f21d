"""What the public functions of this package accept: real, finite matrices whose shapes chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.arrays import as_tensor
from whichmin.errors import DataError, ModelError
from whichmin.kernels.modes import rank_cutoff, rounding_unit

Array = NDArray[np.float64]


def matrix(value: Any, name: str, error: type[DataError] | type[ModelError] = DataError) -> Array:
    """``value`` as a float64 matrix, a copy; a vector becomes one column.

    Raises:
        DataError: (or the error given) not readable as real numbers, of the wrong number of axes, empty or not finite.
    """
    try:
        tensor = as_tensor(value, name, torch.float64).cpu()
    except DataError as cause:
        raise error(str(cause)) from cause
    if tensor.ndim == 1:
        tensor = tensor[:, None]
    if tensor.ndim != 2 or tensor.numel() == 0:
        raise error(f"{name} has shape {tuple(tensor.shape)}; expected a matrix with at least one row and one column.")
    array = tensor.to(torch.float64).numpy().copy()
    if not np.isfinite(array).all():
        bad = ~np.isfinite(array).all(axis=1)
        raise error(
            f"{name} holds NaN or infinity in {int(bad.sum())} of {len(array)} rows, first in row {int(bad.argmax())}: "
            "mend or drop those rows."
        )
    return array


@dataclass(frozen=True, eq=False)
class Data:
    """Checked data in float64.

    Attributes:
        inputs: (N, d).
        targets: (N, m).
        eps: the rounding unit of the type that the inputs came in.
    """

    inputs: Array
    targets: Array
    eps: float


def data(X: Any, Y: Any) -> Data:
    """Inputs and targets as matrices; inputs of more axes are flattened."""
    if isinstance(X, Tensor) and X.ndim > 2:
        X = X.flatten(1)
    inputs, targets = matrix(X, "X"), matrix(Y, "Y")
    if len(inputs) != len(targets):
        raise DataError(f"X has {len(inputs)} rows and Y has {len(targets)}: one row of targets per input is expected.")
    return Data(inputs, targets, rounding(X))


def rounding(value: Any) -> float:
    """The rounding unit of the type that a matrix came in."""
    return rounding_unit(as_tensor(value, "X", torch.float64).dtype)


def rank(sigma: Array, eps: float) -> int:
    """How many singular values, (n,), descending, count as more than zero: those above σ_1's ``rank_cutoff``.

    Rounding moves the singular values of a matrix by about ε·σ_1, as it moves the eigenvalues of a kernel by ε·λ_max.
    """
    return int((sigma > rank_cutoff(float(sigma[0]), eps)).sum())


def network(U: Any, V: Any, given: Data) -> tuple[Array, Array]:
    """Weights U (d, h) and V (m, h) of f(x) = V Uᵀ x that fit the data."""
    u, v = matrix(U, "U", ModelError), matrix(V, "V", ModelError)
    d, m = given.inputs.shape[1], given.targets.shape[1]
    if u.shape[1] != v.shape[1]:
        raise ModelError(
            f"U is {u.shape[0]}×{u.shape[1]} and V is {v.shape[0]}×{v.shape[1]}: both have one column per hidden unit. "
            "For two nn.Linear layers U is first.weight.T and V is second.weight."
        )
    if u.shape[0] != d:
        raise ModelError(f"U has {u.shape[0]} rows and X has {d} columns: U is (d, h) and X is (N, d). Transpose U?")
    if v.shape[0] != m:
        raise ModelError(f"V has {v.shape[0]} rows and Y has {m} columns: V is (m, h) and Y is (N, m). Transpose V?")
    return u, v


def chain(weights: Sequence[Any], given: Data | None = None) -> list[Array]:
    """Weights W_1 … W_L of f(x) = W_L ⋯ W_1 x, two at least, that fit each other and the data."""
    layers = [matrix(w, f"weights[{i}]", ModelError) for i, w in enumerate(weights)]
    if len(layers) < 2:
        raise ModelError(
            f"got {len(layers)} weight matrix; a linear network of depth 2 or more is expected. Depth 1 is least "
            "squares: gradient descent from W₀ ends at W₀ plus the minimum-norm correction, see least_squares."
        )
    for i, (lower, upper) in enumerate(pairwise(layers)):
        if upper.shape[1] != lower.shape[0]:
            raise ModelError(
                f"weights[{i + 1}] has {upper.shape[1]} columns and weights[{i}] has {lower.shape[0]} rows: expected "
                "matrices (out, in) as nn.Linear stores them, first layer first."
            )
    if given is None:
        return layers
    d, m = given.inputs.shape[1], given.targets.shape[1]
    if layers[0].shape[1] != d:
        raise ModelError(f"weights[0] has {layers[0].shape[1]} columns and X has {d}: expected as many.")
    if layers[-1].shape[0] != m:
        raise ModelError(f"the last weight has {layers[-1].shape[0]} rows and Y has {m} columns.")
    return layers


def time_grid(times: Any) -> Array:
    """Times to report at: finite, not negative, increasing."""
    array = matrix(times, "times").ravel()
    if array[0] < 0 or (np.diff(array) <= 0).any():
        raise DataError("times are not increasing from 0 on: pass for example torch.linspace(0, 10, 101).")
    return array


def positive(value: float, name: str) -> float:
    """A positive finite number."""
    if not (np.isfinite(value) and value > 0):
        raise DataError(f"{name} is {value}; expected a positive number.")
    return float(value)


def tensor(array: Array | float) -> Tensor:
    """A float64 tensor on the CPU."""
    return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float64)

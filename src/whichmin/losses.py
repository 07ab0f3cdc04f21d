"""What training minimizes. Everything that is special to a loss is asked of it here.

A :class:`Loss` is a function L(f, y) of the outputs f of some rows and their targets y. An :class:`Objective` is a loss
with the targets of a training set: what the theory follows in function space, in float64 and on flattened outputs,
``outputs.reshape(-1)``. It follows r = f − origin. The origin of the mean square error is the targets, so that r is the
residual and keeps its digits when it is small.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whichmin.errors import InputError

Array = NDArray[np.float64]


class Loss(ABC):
    """A loss that is a mean over rows.

    Attributes:
        label: its name in messages.
        is_quadratic: whether its gradient is γ·(f − y), so that full batches on linear features have closed forms.
    """

    is_quadratic: ClassVar[bool]
    label: ClassVar[str]

    @abstractmethod
    def module(self) -> nn.Module:
        """Torch's own, (outputs, targets) → a scalar with a graph: what a training loop calls."""

    @abstractmethod
    def value(self, outputs: Tensor, targets: Tensor) -> float:
        """L(f, y), computed in float64; both (n, C)."""

    @abstractmethod
    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """∂L/∂f, (n, C), in the type of the outputs; the mean is over these n rows."""

    @abstractmethod
    def curvature(self, count: int) -> float:
        """The largest eigenvalue that ∂²L/∂f² has anywhere, for ``count`` = n·C outputs; γ of a quadratic loss."""

    @abstractmethod
    def objective(self, targets: Tensor) -> Objective:
        """This loss on a training set with these targets, (N, C)."""


class Objective(ABC):
    """A loss on the flattened outputs of a training set; arrays are float64.

    Attributes:
        loss: the loss.
        origin: what outputs are counted from, (N·C,): r = f − origin.
        gamma: the curvature for full batches: γ where the loss is quadratic, so that ∂L/∂f = γ r.
    """

    loss: Loss
    origin: Array
    gamma: float

    @abstractmethod
    def value(self, r: Array) -> float:
        """L at f = r + origin."""

    @abstractmethod
    def gradient(self, r: Array, rows: NDArray[np.int64] | None = None) -> Array:
        """∂L/∂f at f = r + origin, (N·C,); on some of the flattened outputs, (len(rows),), the mean is over these."""


class MeanSquaredError(Loss):
    """``torch.nn.MSELoss()``: L = (1/n·C) Σ (f − y)², ∂L/∂f = γ (f − y) with γ = 2/(n·C)."""

    is_quadratic = True
    label = "MSE"

    def module(self) -> nn.Module:
        """``torch.nn.MSELoss()``."""
        return nn.MSELoss()

    def value(self, outputs: Tensor, targets: Tensor) -> float:
        """The mean square of f − y."""
        return float((outputs.detach() - targets).double().square().mean())

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """γ (f − y)."""
        residual = outputs - targets
        return residual * self.curvature(residual.numel())

    def curvature(self, count: int) -> float:
        """γ = 2/(n·C)."""
        return 2.0 / count

    def objective(self, targets: Tensor) -> Objective:
        """With the targets as the origin."""
        return _MeanSquare(self, targets.detach().double().reshape(-1).cpu().numpy())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MeanSquaredError)

    def __hash__(self) -> int:
        return hash(MeanSquaredError)

    def __repr__(self) -> str:
        return "MSELoss()"


class _MeanSquare(Objective):
    def __init__(self, loss: MeanSquaredError, targets: Array) -> None:
        self.loss, self.origin, self.gamma = loss, targets, loss.curvature(len(targets))

    def value(self, r: Array) -> float:
        """The mean square of r."""
        return mean_square(r)

    def gradient(self, r: Array, rows: NDArray[np.int64] | None = None) -> Array:
        """γ r, with γ = 2/len(rows) on some of the outputs."""
        return r * self.gamma if rows is None else r[rows] * (2.0 / len(rows))


def mean_square(r: Array) -> float:
    """(1/n) Σ r²."""
    return float(np.dot(r, r)) / len(r)


def root_mean_square(r: Array | Tensor) -> float:
    """√((1/n) Σ r²) over all entries; infinity where it is not finite."""
    values = r.detach().double().reshape(-1).cpu().numpy() if isinstance(r, Tensor) else r.reshape(-1)
    size = math.sqrt(mean_square(values))
    return size if math.isfinite(size) else math.inf


def loss_of(loss: Any) -> Loss:
    """The :class:`Loss` of one of torch's; None is the mean square error.

    Raises:
        InputError: a loss that is not supported.
    """
    if isinstance(loss, Loss):
        return loss
    if loss is None or (type(loss) is torch.nn.MSELoss and loss.reduction == "mean"):
        return MeanSquaredError()
    got = f"{type(loss).__name__}(reduction={loss.reduction!r})" if isinstance(loss, torch.nn.MSELoss) else repr(loss)
    raise InputError(f"loss is {got}; expected torch.nn.MSELoss(), the mean over rows and outputs, or None for it.")

"""The mean square error, ``torch.nn.MSELoss``: the loss whose training has closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.losses.loss import Array, Loss, Objective, Reduction, count_of


@dataclass(frozen=True, repr=False)
class MeanSquaredError(Loss):
    """``torch.nn.MSELoss()``: L = (1/n·C) Σ (f − y)², ∂L/∂f = γ (f − y) with γ = 2/(n·C); a sum has γ = 2."""

    is_quadratic = True
    label = "MSE"

    reduction: Reduction = "mean"

    @property
    def name(self) -> str:
        """``MSELoss``."""
        return "MSELoss"

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean square of f − y."""
        return torch.nn.functional.mse_loss(outputs, targets, reduction=self.reduction)

    def value(self, outputs: Tensor, targets: Tensor) -> float:
        """The mean square of f − y; the difference in the type of the outputs."""
        residual = (outputs.detach() - targets).double()
        return 0.5 * self.curvature(residual.numel()) * float(residual.square().sum())

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """γ (f − y)."""
        residual = outputs - targets
        return residual * self.curvature(residual.numel())

    def curvature(self, count: int) -> float:
        """γ for ``count`` = n·C outputs."""
        return 2.0 / count_of(self.reduction, count)

    def objective(self, targets: Tensor, outputs: int) -> Objective:
        """With the targets as the origin."""
        return _MeanSquare(self, targets.detach().double().reshape(-1).cpu().numpy())


class _MeanSquare(Objective):
    def __init__(self, loss: MeanSquaredError, targets: Array) -> None:
        self.loss, self.origin, self.minimizer = loss, targets, targets
        self.gamma = loss.curvature(len(targets))
        self._of_rows = loss.curvature

    def value(self, r: Array) -> float:
        """γ/2 Σ r²."""
        return 0.5 * self.gamma * float(np.dot(r, r))

    def gradient(self, r: Array, rows: NDArray[np.int64] | None = None) -> Array:
        """γ r, with the γ of so many outputs on some of them."""
        return r * self.gamma if rows is None else r[rows] * self._of_rows(len(rows))

    def curve(self, r: Array, v: Array) -> Array:
        """γ v."""
        return self.gamma * v

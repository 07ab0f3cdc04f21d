"""Gradient descent, full batch: m(t) = (1 − lr·γ·λ)^t, and gradient flow: m(t) = exp(−lr·γ·λ·t)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from whichmin.dynamics.rules import Array, check_lr
from whichmin.errors import OptimizerError

#: What a step leaves of an oscillation beyond the limit of stability, at the most.
DAMPED = 0.98


@dataclass(frozen=True)
class GradientDescent:
    """``torch.optim.SGD`` without momentum on the whole training set.

    Attributes:
        lr: the learning rate.
        flow: gradient flow at time lr·t in place of t steps.
    """

    lr: float
    flow: bool = False

    @classmethod
    def from_group(cls, group: dict[str, Any], flow: bool) -> GradientDescent:
        """From the settings of a built ``torch.optim.SGD``.

        Raises:
            OptimizerError: momentum, weight decay or ``maximize``, which this rule does not describe.
        """
        for name in ("momentum", "weight_decay", "maximize"):
            if group.get(name):
                raise OptimizerError(
                    f"SGD with {name}={group[name]} is not predicted; plain SGD is. Leave {name} out, or train it for "
                    "real with whichmin.train."
                )
        return cls(check_lr(group["lr"]), flow)

    def limit(self, largest: float, gamma: float) -> float:
        """2/(γ λ_max); a flow always converges."""
        return math.inf if self.flow else 2.0 / (gamma * largest)

    def modes(self, eigenvalues: Array, gamma: float) -> GradientModes:
        """The closed form for these eigenvalues."""
        return GradientModes(eigenvalues, self.lr * gamma * eigenvalues, self.flow)


class GradientModes:
    """The closed form, mode by mode.

    Modes with lr·γ·λ > 2 do not grow here: along a path, where the kernel has grown past the limit, real training
    oscillates there without diverging (the edge of stability), and its average is what is followed.
    """

    def __init__(self, eigenvalues: Array, z: Array, flow: bool) -> None:
        self._positive = eigenvalues > 0
        self._inverse = 1.0 / np.where(self._positive, eigenvalues, np.inf)
        if flow:
            self._log, self._sign = -z, np.ones_like(z)
            return
        with np.errstate(divide="ignore"):
            factor = np.where(z > 2, -np.minimum(1 / np.maximum(z - 1, 1), DAMPED), 1 - z)
            self._log = np.where(z < 0.5, np.log1p(-np.minimum(z, 0.5)), np.log(np.abs(factor)))
        self._sign = np.sign(factor)

    def residual(self, t: float) -> Array:
        """m(t)."""
        if t == 0:
            return np.ones_like(self._log)
        if math.isinf(t):
            return np.where(self._positive, 0.0, 1.0)
        size = np.exp(t * self._log)
        return size * self._sign if t % 2 == 1 else size

    def coefficient(self, t: float) -> Array:
        """(1 − m(t))/λ, by expm1 where it cancels."""
        if t == 0:
            return np.zeros_like(self._log)
        if math.isinf(t):
            return self._inverse
        even_or_positive = (self._sign >= 0) | (t % 2 != 1)
        bracket = np.where(even_or_positive, -np.expm1(t * self._log), 1 + np.exp(t * self._log))
        return bracket * self._inverse

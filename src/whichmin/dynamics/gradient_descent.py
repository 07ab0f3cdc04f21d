"""Gradient descent, full batch: m(t) = (1 − lr·γ·λ)^t, and gradient flow: m(t) = exp(−lr·γ·λ·t)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whichmin.dynamics.rules import check_lr
from whichmin.errors import OptimizerError


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

    def modes(self, eigenvalues: Tensor, gamma: float) -> GradientModes:
        """The closed form for these eigenvalues."""
        return GradientModes(eigenvalues, self.lr * gamma * eigenvalues, self.flow)


class GradientModes:
    """The closed form, mode by mode.

    Modes with lr·γ·λ > 2 do not grow here: along a path, where the kernel has grown past the limit, real training
    oscillates there without diverging (the edge of stability), and its average is what is followed.
    """

    def __init__(self, eigenvalues: Tensor, z: Tensor, flow: bool) -> None:
        self._eigenvalues = eigenvalues
        if flow:
            self._log, self._sign = -z, torch.ones_like(z)
        else:
            factor = torch.where(z > 2, 1 / (1 - z), 1 - z)
            self._log = torch.where(z < 0.5, torch.log1p(-z.clamp(max=0.5)), torch.log(factor.abs()))
            self._sign = torch.sign(factor)

    def residual(self, t: float) -> Tensor:
        """m(t)."""
        if t == 0:
            return torch.ones_like(self._log)
        if math.isinf(t):
            return (self._eigenvalues <= 0).to(self._log)
        odd = bool(t % 2 == 1)
        return torch.exp(t * self._log) * (self._sign if odd else self._sign.abs())

    def coefficient(self, t: float) -> Tensor:
        """(1 − m(t))/λ, by expm1 where it cancels."""
        if t == 0:
            return torch.zeros_like(self._log)
        if math.isinf(t):
            one_minus = torch.ones_like(self._log)
        else:
            one_minus = torch.where(self._sign > 0, -torch.expm1(t * self._log), 1 - self.residual(t))
        positive = self._eigenvalues > 0
        return torch.where(positive, one_minus / self._eigenvalues.where(positive, torch.ones_like(one_minus)), 0.0)

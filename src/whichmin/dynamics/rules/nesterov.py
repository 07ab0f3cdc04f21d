"""Nesterov's accelerated gradient with the schedule μ_k = (k − 1)/(k + r − 1), and its flow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.motion.bessel import BesselMotion
from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.rule import Convergence
from whichmin.errors import OptimizerError
from whichmin.kernels.modes import Spectrum
from whichmin.losses import Array


@dataclass(frozen=True)
class ScheduledNesterov(LinearRule):
    """y_k = x_k + μ_k (x_k − x_{k−1}), x_{k+1} = y_k − lr·g(y_k); θ is y, the state vector is y_k − x_k.

    As a flow θ̈ + (r/τ) θ̇ + ∇L = 0 in the time τ = √lr·t (Su, Boyd and Candès 2016): the state vector is
    −θ̇.
    """

    r: float = 3.0

    @property
    def state_vectors(self) -> int:
        """How far θ is ahead."""
        return 1

    def remembered(self, state: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
        """How far θ is ahead."""
        return (state.get("ahead"),)

    @property
    def constant_from_step(self) -> int | None:
        """Never."""
        return None

    def matrices(self, k: int, lr: float) -> tuple[Array, Array]:
        """Of step number k from 0, which ends with μ_{k+2} for the next."""
        mu = (k + 1.0) / (k + 1.0 + self.r)
        return np.array([[1.0, mu], [0.0, mu]]), np.array([-lr * (1.0 + mu), -lr * mu])

    def generator(self, t: float) -> tuple[Array, Array]:
        """Of the flow; at its start ṡ = ∇L/(r + 1), the limit of ∇L − (r/τ) s."""
        root = math.sqrt(self.lr)
        tau = root * t
        damping, driving = (self.r / tau, 1.0) if tau > 0 else (0.0, 1.0 / (self.r + 1.0))
        return np.array([[0.0, -root], [0.0, -root * damping]]), np.array([0.0, root * driving])

    def convergence(self, spectrum: Spectrum, gamma: float) -> Convergence | None:
        """Of the flow sublinear, t^{−r}; of discrete steps linear in the end, 1 − lr·γ·λ_min a step.

        Steps follow the flow while t √(lr·γ·λ) is moderate. In the end μ is 1, and a mode of z = lr·γ·λ has the roots
        of x² − 2(1 − z)x + (1 − z), of modulus √(1 − z) for z ≤ 1: the loss falls by 1 − z a step.
        """
        if not self.schedule.is_constant or self.weight_decay:
            return None
        positive = spectrum.extremes
        if self.flow:
            return Convergence("sublinear", 1.0, self.r, float(positive[-1]))
        z = self.lr * gamma * positive
        squares = np.where(z <= 1, 1 - z, (np.abs(1 - z) + np.sqrt(np.maximum(z * (z - 1), 0.0))) ** 2)
        slowest = int(squares.argmax())
        return Convergence("linear", float(squares[slowest]), math.inf, float(positive[slowest]))

    def _motion(self, start: Start) -> Motion:
        """Bessel functions for the flow, else step by step."""
        if self.flow and start.objective.loss.is_quadratic:
            return BesselMotion(start, self.lr, self.r)
        return super()._motion(start)


def nesterov(optimizer: torch.optim.Optimizer, flow: bool) -> LinearRule:
    """The rule of a built ``whichmin.optimizers.Nesterov``.

    Raises:
        OptimizerError: a flow with weight decay.
    """
    group = optimizer.param_groups[0]
    decay = float(group["weight_decay"])
    if flow and decay:
        raise OptimizerError("flow=True is not known with weight_decay: leave one of them out.")
    return ScheduledNesterov(float(group["lr"]), flow, weight_decay=decay, r=float(group["r"]))

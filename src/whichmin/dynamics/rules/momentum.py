"""Momentum as ``torch.optim.SGD`` has it: heavy ball, with dampening, and Nesterov's with a constant factor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.errors import OptimizerError
from whichmin.losses import Array


@dataclass(frozen=True)
class Momentum(LinearRule):
    """b ← μ b + (1 − τ) g, θ ← θ − lr·b, or with ``nesterov`` θ ← θ − lr·(g + μ b); the first b is g.

    As a flow θ̈ + b θ̇ + ∇L = 0 in the time √lr·t, with μ = 1 − b√lr (Bu, Xu and Chen 2020): the state vector is −θ̇.
    """

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    @property
    def state_vectors(self) -> int:
        """The buffer."""
        return 1

    def remembered(self, state: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
        """The buffer, which torch makes in the first step with momentum."""
        return (state.get("momentum_buffer"),)

    @property
    def constant_from_step(self) -> int:
        """The first step knows no dampening."""
        return 1 if self.dampening and not self.flow else 0

    def _product_at(self, late: int) -> float:
        """Without momentum that of gradient descent: the buffer stays what it is."""
        return 2.0 if self._momentum(late) == 0.0 and not self.flow else super()._product_at(late)

    def _momentum(self, k: int) -> float:
        """The momentum of step number k."""
        scheduled = None if self.schedule.momentum is None else self.schedule.momentum(k)
        return self.momentum if scheduled is None else scheduled

    def matrices(self, k: int, lr: float) -> tuple[Array, Array]:
        """Of torch's step, or of the flow."""
        if self.flow:
            root = math.sqrt(lr)
            return np.array([[0.0, -root], [0.0, self.momentum - 1.0]]), np.array([0.0, root])
        mu, taken = self._momentum(k), 1.0 if k == 0 else 1.0 - self.dampening
        if mu == 0.0:  # torch leaves the buffer alone
            return np.eye(2), np.array([-lr, 0.0])
        if self.nesterov:
            return np.array([[1.0, -lr * mu * mu], [0.0, mu]]), np.array([-lr * (1.0 + mu * taken), taken])
        return np.array([[1.0, -lr * mu], [0.0, mu]]), np.array([-lr * taken, taken])


def stochastic_gradient_descent(optimizer: torch.optim.Optimizer, flow: bool) -> LinearRule | None:
    """The rule of a built ``torch.optim.SGD``; None with ``maximize``, under which linear modes grow without a limit.

    Raises:
        OptimizerError: a flow of dampened or Nesterov momentum, or with weight decay.
    """
    group = optimizer.param_groups[0]
    lr, decay = float(group["lr"]), float(group["weight_decay"])
    if group.get("maximize"):
        return None
    if flow and (decay or group["dampening"] or group["nesterov"]):
        raise OptimizerError(
            "flow=True is known for plain SGD, for heavy-ball momentum and for whichmin.optimizers.Nesterov; leave out "
            "weight_decay, dampening and nesterov, or pass flow=False."
        )
    if not group["momentum"]:
        return GradientDescent(lr, flow, weight_decay=decay)
    return Momentum(
        lr,
        flow,
        weight_decay=decay,
        momentum=float(group["momentum"]),
        dampening=float(group["dampening"]),
        nesterov=bool(group["nesterov"]),
    )

"""Momentum of two terms (Bu, Xu and Chen 2020): the last two displacements push on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.errors import OptimizerError
from whichmin.losses import Array


@dataclass(frozen=True)
class TwoTerms(LinearRule):
    """θ_{k+1} − θ_k = β₁(θ_k − θ_{k−1}) + β₂(θ_{k−1} − θ_{k−2}) − lr·g; remembered are the last two displacements."""

    betas: tuple[float, float] = (0.0, 0.0)

    @property
    def state_vectors(self) -> int:
        """Two displacements."""
        return 2

    def remembered(self, state: Mapping[str, Any]) -> tuple[Tensor | None, ...]:
        """The last displacement and the one before."""
        return state.get("d1"), state.get("d2")

    def matrices(self, k: int, lr: float) -> tuple[Array, Array]:
        """Of one step."""
        first, second = self.betas
        A = np.array([[1.0, first, second], [0.0, first, second], [0.0, 1.0, 0.0]])
        return A, np.array([-lr, -lr, 0.0])


def higher_momentum(optimizer: torch.optim.Optimizer, flow: bool) -> LinearRule:
    """The rule of a built ``whichmin.optimizers.HigherMomentum``.

    Raises:
        OptimizerError: its flow, which is not known.
    """
    if flow:
        raise OptimizerError("HigherMomentum has no flow here: pass flow=False.")
    group = optimizer.param_groups[0]
    betas = (float(group["betas"][0]), float(group["betas"][1]))
    return TwoTerms(float(group["lr"]), weight_decay=float(group["weight_decay"]), betas=betas)

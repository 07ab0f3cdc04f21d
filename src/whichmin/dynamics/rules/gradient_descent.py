"""Gradient descent: ``torch.optim.SGD`` without momentum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from whichmin.dynamics.motion.edge import driven_share
from whichmin.dynamics.motion.gradient import GradientMotion
from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.losses import Array


@dataclass(frozen=True)
class GradientDescent(LinearRule):
    """``torch.optim.SGD`` without momentum: θ ← θ − lr·g."""

    def matrices(self, k: int, lr: float) -> tuple[Array, Array]:
        """1 and −lr."""
        return np.eye(1), np.array([-lr])

    def generator(self, t: float) -> tuple[Array, Array]:
        """0 and −lr."""
        return np.zeros((1, 1)), np.array([-self.lr])

    @cached_property
    def _largest_product(self) -> float:
        return 2.0

    def _radii(self, curvatures: Array) -> Array:
        return np.exp(-self.lr * curvatures) if self.flow else super()._radii(curvatures)

    def _motion(self, start: Start) -> Motion:
        """In closed form for full batches."""
        if not (self.schedule.is_constant and start.objective.loss.is_quadratic) or self.weight_decay:
            return super()._motion(start)
        limit = self.largest_stable(start.steps, start.objective.gamma)
        share = driven_share(start.spectrum.eigenvalues.numpy(), limit)
        return GradientMotion(start, self.lr, self.flow, share)

"""What AdaGrad, RMSprop, Adam and AdamW have in common: a preconditioner from second moments of the gradients."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from whichmin.dynamics.rules.rule import Rule
from whichmin.losses import Array


@dataclass(frozen=True)
class AdaptiveRule(Rule, ABC):
    """θ ← (1 − lr·λ) θ − lr·m̂/(√v̂ + ε), m ← β₁ m + (1 − β₁) g, v ← v + g² or β₂ v + (1 − β₂) g².

    Attributes:
        lr: the learning rate.
        eps: ε.
        beta1: of the momentum; 0 without.
        beta2: of the second moments; None where they add up.
        corrected: whether m and v are divided by 1 − β^t.
        decay: λ, decoupled weight decay.
    """

    lr: float
    eps: float
    beta1: float = 0.0
    beta2: float | None = None
    corrected: bool = False
    decay: float = 0.0

    @property
    def largest_product(self) -> float:
        """The lr·γ·λ, λ an eigenvalue of J D Jᵀ, from which a mode no longer converges while D stays."""
        return 2.0 * (1.0 + self.beta1) / (1.0 - self.beta1)

    def growth(self, share: float) -> float:
        """By what a mode grows in a step whose eigenvalue is this part of the limit of stability, while D stays.

        The larger root of z² − (1 + β₁ − 2 (1 + β₁) share) z + β₁ = 0, in absolute value.
        """
        middle = (1.0 + self.beta1) * (1.0 - 2.0 * share)
        return float(np.abs(np.roots([1.0, -middle, self.beta1])).max())

    @abstractmethod
    def moments(self, state: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        """M, None without momentum, and v of a parameter in the optimizer's state."""

    def correction(self, t: Array) -> tuple[Array, Array]:
        """1 − β₁^t and 1 − β₂^t after t steps; 1 without correction."""
        if not self.corrected or self.beta2 is None:
            return np.ones_like(t), np.ones_like(t)
        first, second = (-np.expm1(t * math.log(b)) if b else np.ones_like(t) for b in (self.beta1, self.beta2))
        return first, second

    def nodes(self, n: float, count: int) -> tuple[Array, Array, float]:
        """So many times τ and weights w with v(n) = kept·v(0) + Σ w g(τ)² over n steps."""
        x, w = leggauss(count)
        x, w = (x + 1) / 2, w / 2
        if self.beta2 is None:
            return n * x, n * w, 1.0
        kept = self.beta2**n
        if kept == 0.0:  # only the last step counts
            return np.full_like(x, n), w, 0.0
        u = kept + (1 - kept) * x
        return n - np.log(u) / math.log(self.beta2), (1 - kept) * w, kept

"""What AdaGrad, RMSprop, Adam and AdamW have in common: a preconditioner from second moments of the gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from whichmin.dynamics.motion.motion import Array


@dataclass(frozen=True)
class AdaptiveRule:
    """θ ← (1 − lr·λ) θ − lr·m̂/(√v̂ + ε), m ← β₁ m + (1 − β₁) g, v ← v + g² or β₂ v + (1 − β₂) g².

    Attributes:
        name: the optimizer's class.
        lr: the learning rate.
        eps: ε.
        beta1: of the momentum; 0 without.
        beta2: of the second moments; None where they add up.
        corrected: whether m and v are divided by 1 − β^t.
        decay: λ, decoupled weight decay.
    """

    name: str
    lr: float
    eps: float
    beta1: float = 0.0
    beta2: float | None = None
    corrected: bool = False
    decay: float = 0.0

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> AdaptiveRule | None:
        """The rule of a built optimizer; None for other classes and settings, which are run step by step."""
        if len(optimizer.param_groups) != 1 or optimizer.param_groups[0].get("maximize"):
            return None
        group, kind = optimizer.param_groups[0], type(optimizer)
        if kind not in (torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.Adam, torch.optim.AdamW):
            return None
        lr, eps, decay = float(group["lr"]), float(group.get("eps", 0.0)), float(group.get("weight_decay", 0.0))
        if kind is torch.optim.Adagrad and not group["lr_decay"] and not decay:
            return cls("Adagrad", lr, eps)
        if kind is torch.optim.RMSprop and not (group["momentum"] or group["centered"] or decay):
            return cls("RMSprop", lr, eps, beta2=float(group["alpha"]))
        decoupled = kind is torch.optim.AdamW or bool(group.get("decoupled_weight_decay"))
        if kind in (torch.optim.Adam, torch.optim.AdamW) and not group["amsgrad"] and (decoupled or not decay):
            first, second = (float(b) for b in group["betas"])
            return cls(kind.__name__, lr, eps, first, second, True, decay)
        return None

    def moments(self, state: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        """M and v of a parameter in the optimizer's state."""
        if self.name == "Adagrad":
            return None, state["sum"]
        if self.name == "RMSprop":
            return None, state["square_avg"]
        return state["exp_avg"], state["exp_avg_sq"]

    def correction(self, t: Array) -> tuple[Array, Array]:
        """1 − β₁^t and 1 − β₂^t after t steps; 1 without correction."""
        if not self.corrected or self.beta2 is None:
            return np.ones_like(t), np.ones_like(t)
        return -np.expm1(t * math.log(self.beta1)) if self.beta1 else np.ones_like(t), -np.expm1(
            t * math.log(self.beta2)
        )

    def nodes(self, n: float, count: int) -> tuple[Array, Array, float]:
        """So many times τ and weights w with v(n) = kept·v(0) + Σ w g(τ)² over n steps."""
        x, w = leggauss(count)
        x, w = (x + 1) / 2, w / 2
        if self.beta2 is None:
            return n * x, n * w, 1.0
        kept = self.beta2**n
        u = kept + (1 - kept) * x
        return n - np.log(u) / math.log(self.beta2), (1 - kept) * w, kept

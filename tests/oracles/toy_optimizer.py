"""An optimizer that whichmin does not know, and its rule: what somebody adds in one file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.losses import Array
from whichmin.optimizers.registry import OptimizerFacts

FACTS = OptimizerFacts(
    "lazy-momentum",
    "oracles.toy_optimizer:LazyMomentum",
    "best",
    rule="oracles.toy_optimizer:lazy_momentum",
    linear=True,
)


class LazyMomentum(torch.optim.Optimizer):
    """θ ← θ − lr·(g + κ·b), b ← κ·b + g, the b of the step before: momentum that comes a step late."""

    def __init__(self, params, lr: float, kappa: float = 0.5) -> None:
        super().__init__(params, {"lr": lr, "kappa": kappa})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                b = self.state[p].setdefault("b", torch.zeros_like(p))
                p.sub_(group["lr"] * (p.grad + group["kappa"] * b))
                b.mul_(group["kappa"]).add_(p.grad)


@dataclass(frozen=True)
class LazyMomentumRule(LinearRule):
    kappa: float = 0.5

    @property
    def state_vectors(self) -> int:
        return 1

    def matrices(self, k: int, lr: float) -> tuple[Array, Array]:
        return np.array([[1.0, -lr * self.kappa], [0.0, self.kappa]]), np.array([-lr, 1.0])


def lazy_momentum(optimizer: torch.optim.Optimizer, flow: bool) -> LinearRule:
    group = optimizer.param_groups[0]
    return LazyMomentumRule(float(group["lr"]), flow, kappa=float(group["kappa"]))

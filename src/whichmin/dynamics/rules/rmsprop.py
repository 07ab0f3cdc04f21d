"""``torch.optim.RMSprop``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule


class RMSprop(AdaptiveRule):
    """θ ← θ − lr·g/(√v + ε), v ← α v + (1 − α) g²."""

    def moments(self, state: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        """No momentum, and the average of squares."""
        return None, state["square_avg"]


def rmsprop(optimizer: torch.optim.Optimizer, flow: bool) -> RMSprop | None:
    """The rule of a built optimizer; None with momentum, weight decay, or centered."""
    group = optimizer.param_groups[0]
    if flow or group["maximize"] or group["momentum"] or group["centered"] or group["weight_decay"]:
        return None
    return RMSprop(float(group["lr"]), float(group["eps"]), beta2=float(group["alpha"]))

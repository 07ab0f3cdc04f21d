"""``torch.optim.Adagrad``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule


class AdaGrad(AdaptiveRule):
    """θ ← θ − lr·g/(√Σg² + ε)."""

    def moments(self, state: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        """No momentum, and the sum of squares."""
        return None, state["sum"]


def adagrad(optimizer: torch.optim.Optimizer, flow: bool) -> AdaGrad | None:
    """The rule of a built optimizer; None with a decay of the learning rate or of the weights."""
    group = optimizer.param_groups[0]
    if flow or group["maximize"] or group["lr_decay"] or group["weight_decay"]:
        return None
    return AdaGrad(float(group["lr"]), float(group["eps"]))

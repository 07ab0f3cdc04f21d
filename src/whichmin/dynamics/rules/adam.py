"""``torch.optim.Adam`` and ``torch.optim.AdamW``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule


class Adam(AdaptiveRule):
    """θ ← (1 − lr·λ) θ − lr·m̂/(√v̂ + ε), both moments corrected for their start from zero."""

    def moments(self, state: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        """The averages of gradients and of their squares."""
        return state["exp_avg"], state["exp_avg_sq"]


def adam(optimizer: torch.optim.Optimizer, flow: bool) -> Adam | None:
    """The rule of a built optimizer; None with amsgrad, or a weight decay that is part of the gradient."""
    group = optimizer.param_groups[0]
    decay = float(group["weight_decay"])
    decoupled = isinstance(optimizer, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay"))
    if flow or group["maximize"] or group["amsgrad"] or (decay and not decoupled):
        return None
    beta1, beta2 = (float(beta) for beta in group["betas"])
    return Adam(float(group["lr"]), float(group["eps"]), beta1, beta2, corrected=True, decay=decay)

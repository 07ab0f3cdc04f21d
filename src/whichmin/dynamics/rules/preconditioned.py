"""Gradient descent with a fixed preconditioner: gradient descent on the kernel K_D = J D Jᵀ."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.dynamics.rules.linear_rule import LinearRule


@dataclass(frozen=True)
class PreconditionedDescent(GradientDescent):
    """θ ← θ − lr·D∘g; ``metric`` is D, a tensor for each trainable parameter in their order."""

    metric: tuple[Tensor, ...] = ()


def preconditioned(optimizer: torch.optim.Optimizer, flow: bool) -> LinearRule:
    """The rule of a built ``whichmin.optimizers.Preconditioned``."""
    group = optimizer.param_groups[0]
    metric = [optimizer.state[p].get("metric") for p in group["params"]] if optimizer.state else []
    return PreconditionedDescent(float(group["lr"]), flow, metric=tuple(metric))

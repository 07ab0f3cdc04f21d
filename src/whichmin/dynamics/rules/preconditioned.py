"""Gradient descent with a fixed preconditioner: gradient descent on the kernel K_D = J D Jᵀ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.dynamics.rules.linear_rule import LinearRule


@dataclass(frozen=True)
class PreconditionedDescent(GradientDescent):
    """θ ← θ − lr·D∘g; ``metric`` is D, a tensor for each trainable parameter in their order."""

    metric: tuple[Tensor, ...] = ()


def preconditioned(group: dict[str, Any], flow: bool) -> LinearRule:
    """The rule of a built ``whichmin.optimizers.Preconditioned``, whose metric :func:`rules.rule_of` adds."""
    return PreconditionedDescent(float(group["lr"]), flow)

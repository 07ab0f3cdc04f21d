"""Momentum from the last two displacements."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from whichmin.errors import OptimizerError
from whichmin.optimizers import foreach
from whichmin.optimizers.base import FirstOrder, number


class HigherMomentum(FirstOrder):
    """Momentum of second order.

        x_{k+1} − x_k = β₁ (x_k − x_{k−1}) + β₂ (x_{k−1} − x_{k−2}) − lr ∇L(x_k).

    A parameter's state holds its last displacement ``d1`` and the one before, ``d2``, both 0 at the start. β₂ = 0 is
    the heavy ball, at a constant learning rate ``torch.optim.SGD(momentum=β₁)``. Without a gradient displacements die
    out like powers of the poles (β₁ ± √(β₁² + 4β₂))/2, which have to lie inside the unit circle. Memory: two copies of
    the parameters.

    Bu, Xu, Chen, *A Dynamical View on Optimization Algorithms of Overparameterized Neural Networks* (arXiv 2010.13165).

    Args:
        params: the parameters, or groups of them.
        lr: the learning rate.
        betas: (β₁, β₂), with |β₂| < 1 and |β₁| < 1 − β₂; either may be negative.
        weight_decay: λ of λθ, which is added to the gradient, as in ``torch.optim.SGD``.

    Raises:
        OptimizerError: a setting that is not finite or not positive (``weight_decay``: negative); momenta under which
            displacements do not die out.
    """

    def __init__(
        self, params: ParamsT, lr: float, betas: tuple[float, float] = (0.9, 0.0), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def _check(self, settings: dict[str, Any]) -> None:
        super()._check(settings)
        betas = settings["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise OptimizerError(f"betas is {betas!r}; expected two numbers, (β₁, β₂), such as (0.9, -0.1).")
        b1, b2 = (number(f"betas[{i}]", b, lambda _: True, "a finite number") for i, b in enumerate(betas))
        if not (abs(b2) < 1 and abs(b1) < 1 - b2):
            raise OptimizerError(
                f"betas is ({b1:g}, {b2:g}), under which displacements do not die out; expected |β₂| < 1 and "
                "|β₁| < 1 − β₂: lower them."
            )

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        b1, b2 = (float(b) for b in group["betas"])
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["d1"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["d2"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        moved = [state["d2"] for state in states]  # becomes the new displacement in place
        foreach.mul_(moved, b2)
        foreach.add_(moved, [state["d1"] for state in states], alpha=b1)
        foreach.add_(moved, grads, alpha=-float(group["lr"]))
        foreach.add_(params, moved)
        for state in states:
            state["d1"], state["d2"] = state["d2"], state["d1"]

"""Nesterov's accelerated gradient with a momentum that grows to 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from whichmin.optimizers import foreach
from whichmin.optimizers.base import FirstOrder, number


class Nesterov(FirstOrder):
    """Nesterov's scheduled momentum.

    For k = 1, 2, …:

        μ_k = (k − 1)/(k + r − 1),   y_k = x_k + μ_k (x_k − x_{k−1}),   x_{k+1} = y_k − lr ∇L(y_k).

    The parameters hold the extrapolated points y, where gradients are taken, as those of
    ``torch.optim.SGD(nesterov=True)`` do; they start at y₁ = x₁ = θ₀. After step k they are y_{k+1}, and a parameter's
    state holds ``step`` = k and ``ahead`` = y_{k+1} − x_{k+1}. A small difference is kept as such: with a momentum near
    1 the rounding of differences of parameters would add up to more than a late residual. torch's own momentum is a
    constant; this one is the rule of the flow ẍ + (r/t) ẋ + ∇L = 0 at t = k√lr. Memory: one copy of the parameters.

    Su, Boyd, Candès, *A Differential Equation for Modeling Nesterov's Accelerated Gradient Method* (JMLR 2016), for r;
    Bu, Xu, Chen, *A Dynamical View on Optimization Algorithms of Overparameterized Neural Networks* (arXiv 2010.13165).

    Args:
        params: the parameters, or groups of them.
        lr: the learning rate.
        r: the damping; 3 is Nesterov's, larger is damped more, and r → ∞ is gradient descent.
        weight_decay: λ of λθ, which is added to the gradient, as in ``torch.optim.SGD``.

    Raises:
        OptimizerError: a setting that is not finite, or not positive (``weight_decay``: negative).
    """

    def __init__(self, params: ParamsT, lr: float, r: float = 3.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "r": r, "weight_decay": weight_decay})

    def _check(self, settings: dict[str, Any]) -> None:
        super()._check(settings)
        number("r", settings["r"], lambda v: v > 0, "a positive number; 3 is Nesterov's")

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        states = [self.state[p] for p in params]
        for p, state in zip(params, states, strict=True):
            if not state:
                state["step"] = 0
                state["ahead"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["step"] += 1
        ahead = [state["ahead"] for state in states]
        momentum = [state["step"] / (state["step"] + float(group["r"])) for state in states]  # μ_{k+1}
        lr = float(group["lr"])
        foreach.add_(params, grads, alpha=-lr)  # x_{k+1}
        foreach.add_(ahead, grads, alpha=-lr)  # x_{k+1} − x_k
        foreach.mul_(ahead, momentum)
        foreach.add_(params, ahead)

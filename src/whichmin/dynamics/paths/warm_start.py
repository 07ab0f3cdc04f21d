"""The first steps of an adaptive rule, which are made for real: there the preconditioner changes with every one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whichmin.dynamics.paths.position import MovingNetwork, Position
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.recipe.build import take_step

#: Steps that are made for real before the first interval.
EXACT = 12


@dataclass(frozen=True, eq=False)
class Begun:
    """Where the exact steps end.

    Attributes:
        position: the network's parameters.
        steps: how many were made.
        m: the momentum, by parameter; None without.
        v: the second moments.
        curve: (step, training mean square error).
    """

    position: Position
    steps: int
    m: dict[str, Tensor] | None
    v: dict[str, Tensor]
    curve: tuple[tuple[float, float], ...]


def begin(
    network: MovingNetwork, rule: AdaptiveRule, optimizer: torch.optim.Optimizer, steps: float, until: float | None
) -> Begun:
    """At most ``EXACT`` steps of the optimizer itself, which holds the network's parameters, on the network itself."""
    y = network.task.y
    curve: list[tuple[float, float]] = []
    while True:
        with torch.enable_grad():
            loss = (network.model(network.task.X).reshape(y.shape) - y).square().mean()
        curve.append((float(len(curve)), float(loss.detach())))
        if len(curve) > min(steps, EXACT) or (until is not None and curve[-1][1] < until):
            break
        optimizer.zero_grad()
        loss.backward()
        take_step(optimizer)
    optimizer.zero_grad()
    m: dict[str, Tensor] = {}
    v: dict[str, Tensor] = {}
    for name, p in network.parameters.items():
        state = optimizer.state.get(p)
        first, second = rule.moments(state) if state else (None, torch.zeros_like(p))
        v[name] = second.detach().clone()
        m[name] = torch.zeros_like(p) if first is None else first.detach().clone()
    return Begun(network.position(), len(curve) - 1, m if rule.beta1 else None, v, tuple(curve))

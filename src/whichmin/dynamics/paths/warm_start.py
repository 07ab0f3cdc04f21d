"""The first steps of an adaptive rule, which are made for real: there the preconditioner changes with every one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whichmin.dynamics.paths.outcome import Goal
from whichmin.dynamics.paths.position import MovingNetwork, Position
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.recipe.build import take_step
from whichmin.tangent.model import forward

#: So many steps are made for real before the first interval.
EXACT_STEPS = 12


@dataclass(frozen=True, eq=False)
class WarmStart:
    """Where the exact steps end.

    Attributes:
        position: the network's parameters.
        steps: how many were made, from the beginning of training.
        m: the momentum, by parameter; None without.
        v: the second moments.
        curve: (step, training loss).
    """

    position: Position
    steps: int
    m: dict[str, Tensor] | None
    v: dict[str, Tensor]
    curve: tuple[tuple[float, float], ...]


def warm_start(
    network: MovingNetwork, rule: AdaptiveRule, optimizer: torch.optim.Optimizer, goal: Goal, first: int = 0
) -> WarmStart:
    """Steps of the optimizer itself, which holds the network's parameters, on the network: up to ``EXACT_STEPS``.

    ``first`` were made before: where these are as many, the optimizer's memory is all that is taken.
    """
    task = network.task
    curve: list[tuple[float, float]] = []
    while True:
        with torch.enable_grad():
            loss = task.loss(forward(network.model, task.X), task.y)
        curve.append((float(first + len(curve)), float(loss.detach())))
        if curve[-1][0] >= min(goal.steps, EXACT_STEPS) or goal.is_reached(curve[-1][1], curve[-1][0]):
            break
        optimizer.zero_grad()
        loss.backward()
        take_step(optimizer)
    optimizer.zero_grad()
    m: dict[str, Tensor] = {}
    v: dict[str, Tensor] = {}
    for name, p in network.parameters.items():
        state = optimizer.state.get(p)
        mean, square = rule.moments(state) if state else (None, torch.zeros_like(p))
        v[name] = square.detach().clone()
        m[name] = torch.zeros_like(p) if mean is None else mean.detach().clone()
    return WarmStart(network.position(), first + len(curve) - 1, m if rule.beta1 else None, v, tuple(curve))

"""When a run that comes no nearer to its aim stops, why one ended above it, and what to do where one diverged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from whichmin.losses import root_mean_square
from whichmin.task import Task

#: Over how many steps the training error may stay before a run is said to stall: this many, and this share of all.
STEPS, SHARE = 1000, 0.2
#: The share by which it has to fall to count as falling, where a run has made all of its steps.
FALL = 1e-3
#: The same of a run that is stopped for it: what falls by so little, over half of all steps, is stopped.
LEAST_FALL, LONGEST_HALT = 1e-4, 0.5
#: Targets of this root mean square are large: networks begin with outputs of about 1.
LARGE = 10.0


class Halt:
    """Whether training has come to a halt: no new lowest training error in the last max(1000, half of all) steps.

    A lowest error is new where it is 0.01 % below the last new one. So a run that falls by as much in such a stretch,
    however slowly and under whatever noise, goes on; and so it does for as long again where its learning rate rises.

    Args:
        first: the step at which training starts.
        least: the training error that no outputs get below; falls are shares of what is above it.
    """

    def __init__(self, first: int, least: float = 0.0) -> None:
        self._first = self._since = first
        self._least = least if math.isfinite(least) else 0.0
        self._lowest = math.inf
        self._rates: list[float] = []

    def has_come(self, step: int, loss: float, rates: list[float]) -> bool:
        """Take a training error down; whether training has halted there.

        Args:
            step: the steps made.
            loss: the error after them.
            rates: the learning rates of the optimizer's groups.
        """
        above = loss - self._least
        rises = any(now > before for now, before in zip(rates, self._rates, strict=False))
        falls = math.isinf(self._lowest) or above < self._lowest - LEAST_FALL * abs(self._lowest)
        self._rates = rates
        if falls:
            self._lowest = above
        if falls or rises:
            self._since = step
        return step - self._since >= max(STEPS, LONGEST_HALT * (step - self._first))


def stalled(
    losses: Sequence[float],
    steps: Sequence[int],
    first: Sequence[float],
    last: Sequence[float],
    optimizer: torch.optim.Optimizer,
    task: Task,
) -> str | None:
    """A sentence on where the training error came to a halt and what may have stopped it.

    Args:
        losses: the training errors that were measured.
        steps: the step of each.
        first: the learning rates of the optimizer's groups at the start.
        last: those at the end.
        optimizer: what trained.
        task: what on.

    Returns:
        None if the error fell by more than 0.1 % in the last max(1000, 20 %) steps.
    """
    since = last_fall(losses, FALL)
    if steps[-1] - steps[since] < max(STEPS, SHARE * steps[-1]):
        return None
    return halted(losses, steps, first, last, optimizer, task, FALL)


def halted(
    losses: Sequence[float],
    steps: Sequence[int],
    first: Sequence[float],
    last: Sequence[float],
    optimizer: torch.optim.Optimizer,
    task: Task,
    fall: float = LEAST_FALL,
) -> str:
    """The sentence itself: since when the training error has not fallen by a share, and what may have stopped it.

    Args:
        losses: the training errors that were measured.
        steps: the step of each.
        first: the learning rates of the optimizer's groups at the start.
        last: those at the end.
        optimizer: what trained.
        task: what on.
        fall: the share.
    """
    since = last_fall(losses, fall)
    what = (
        f"it has not fallen by more than {100 * fall:g}% below the {losses[since]:.3g} of step {steps[since]:,}, "
        f"{steps[-1] - steps[since]:,} steps ago"
    )
    return f"{what}. {_cause(losses[since:], first, last, optimizer, task)}"


def last_fall(losses: Sequence[float], share: float) -> int:
    """The place of the last loss that was by a share below the lowest before it."""
    lowest, since = losses[0], 0
    for i, value in enumerate(losses):
        if value < lowest - share * abs(lowest):
            lowest, since = value, i
    return since


def remedy(task: Task) -> str:
    """What to do where training diverges, a sentence or two: where the targets are large, they are the likely cause.

    To outputs far from where it begins a network moves so far that its kernel outgrows the learning rate, also one that
    is right for its linearization.
    """
    objective = task.objective
    size = root_mean_square(objective.origin) if objective.minimizer is objective.origin else 0.0
    if size < LARGE:
        return "Lower the learning rate."
    return (
        f"The likely cause is the size of the targets, {size:.3g} (root mean square): networks begin with outputs of "
        "about 1. Scale the targets, such as y = (y - y.mean()) / y.std(), or lower the learning rate: "
        'lr="monotone" (--lr monotone) finds one at which the loss falls at every step.'
    )


def _cause(
    window: Sequence[float],
    first: Sequence[float],
    last: Sequence[float],
    optimizer: torch.optim.Optimizer,
    task: Task,
) -> str:
    decay = max(float(group.get("weight_decay", 0.0) or 0.0) for group in optimizer.param_groups)
    if decay > 0:
        return f"Weight decay ({decay:g}) holds the training error up: set weight_decay=0, or raise until."
    if all(b < 1e-2 * a for a, b in zip(first, last, strict=True)):
        return f"The scheduler has lowered the learning rate from {first[0]:.3g} to {last[0]:.3g}: let it fall later."
    count, wanted = sum(p.numel() for group in optimizer.param_groups for p in group["params"]), task.n * task.outputs
    if count < wanted:
        return (
            f"The network has {count} trainable parameters for {wanted} targets and may not be able to fit them: "
            "take a larger one, or raise until."
        )
    low, high = min(window), max(window)
    if high > low + 0.01 * abs(low):
        return (
            f"Since then it moved between {low:.3g} and {high:.3g} at a learning rate of {last[0]:.3g}, as it does "
            "where the rate is too large to settle: lower it, or let a scheduler."
        )
    steepest = max(
        (float(p.grad.abs().max()) for g in optimizer.param_groups for p in g["params"] if p.grad is not None),
        default=0.0,
    )
    if steepest == 0.0:
        return (
            f"The gradient is 0, at a learning rate of {last[0]:.3g}: start elsewhere, or lower the rate if large "
            "steps have brought the network there."
        )
    return (
        f"It hardly moves at a learning rate of {last[0]:.3g}; the largest entry of the last gradient is "
        f"{steepest:.1e}: raise the rate."
    )

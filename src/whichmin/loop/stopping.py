"""Why a run ended above its aim."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from whichmin.task import Task

#: The share by which the training error has to fall to count as falling.
FALL = 1e-3
#: Over how many steps it may stay before the run is said to stall: this many, and this share of all.
STEPS, SHARE = 1000, 0.2


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
    lowest, since = losses[0], 0
    for i, value in enumerate(losses):
        if value < lowest - FALL * abs(lowest):
            lowest, since = value, i
    if steps[-1] - steps[since] < max(STEPS, SHARE * steps[-1]):
        return None
    window = losses[since:]
    what = (
        f"it has not fallen by more than {FALL:.1%} below the {lowest:.3g} of step {steps[since]:,}, "
        f"{steps[-1] - steps[since]:,} steps ago"
    )
    return f"{what}. {_cause(window, first, last, optimizer, task)}"


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
    return (
        f"It hardly moves at a learning rate of {last[0]:.3g}; the largest entry of the last gradient is "
        f"{steepest:.1e}: raise the rate, or start elsewhere if the gradient is 0."
    )

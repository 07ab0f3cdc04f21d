"""A recorded loop made once more from its batches, which tells what a step hook cannot see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.errors import InputError, ResultError
from whichmin.inputs import described, of_batch, row_bytes
from whichmin.losses import root_mean_square
from whichmin.recipe.build import take_step
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.model import evaluate
from whichmin.task import Task
from whichmin.training.recording import Recording, Snapshot

#: The replay may end this far from the loop, as a part of how far the loop moved the training outputs.
SAME = 1e-2


def replay(recorder: Recording, loader: Iterable[Any]) -> tuple[Recipe, list[Tensor]]:
    """What trained in a recorded loop, once it is known to lead where the loop ended.

    Returns:
        The optimizer with the recorded learning rates, and the rows of the task that each step used.

    Raises:
        InputError: batches that are not of the task's inputs.
        ResultError: the replay ends elsewhere, or there is nothing to replay: a recorder that was loaded, an optimizer
            that had made steps before, steps that a ``GradScaler`` skipped.
    """
    blueprint, task, steps = recorder._blueprint, recorder.task, recorder.steps
    why = None
    if blueprint is None:
        why = "a recorder that was loaded does not hold its optimizer"
    elif not blueprint.fresh:
        why = "its optimizer had made steps before it was recorded"
    elif recorder._calls != steps:
        why = f"a GradScaler skipped {recorder._calls - steps} of its steps"
    elif blueprint.rates is None:
        why = "its learning rates changed too often to be kept"
    if why is not None or blueprint is None:
        raise ResultError(f"the loop cannot be replayed: {why}. Explain it without the loader.")
    rows = _rows(task, loader, steps)
    recipe = Recipe(blueprint.build, scheduler=blueprint.schedule if blueprint.rates else None)
    _check_same(recorder, recipe, rows)
    return recipe, rows


def _check_same(recorder: Recording, recipe: Recipe, rows: list[Tensor]) -> None:
    """Make the loop's steps on a copy of its network, and compare where snapshots were taken."""
    task, steps, network = recorder.task, recorder.steps, recorder.initial_model
    optimizer = recipe.build([p for p in network.parameters() if p.requires_grad])
    scheduler, loss = recipe.build_scheduler(optimizer), task.loss
    recorded = {s.step: s for s in recorder.snapshots}
    moved = root_mean_square(recorder.snapshots[-1].train - recorder.snapshots[0].train)
    for step in range(steps + 1):
        if step in recorded:
            _compare(network, task, recorded[step], steps, moved)
        if step == steps:
            return
        optimizer.zero_grad()
        outputs = evaluate(network, task.X[rows[step]])
        loss(outputs, task.y[rows[step]]).backward()
        take_step(optimizer)
        if scheduler is not None:
            scheduler.step()


def _compare(network: nn.Module, task: Task, there: Snapshot, steps: int, moved: float) -> None:
    with torch.no_grad():
        X = task.X if there.rows is None else task.X[there.rows]
        apart = root_mean_square(evaluate(network, X) - there.train)
    if not apart <= SAME * moved:
        raise ResultError(
            f"the replay is not the loop: after {there.step} of {steps} steps their training outputs are {apart:.2g} "
            f"apart, and all of the loop moved them by {moved:.2g}. A replay makes a step of {task.loss!r} per batch; "
            "gradients that are accumulated or clipped, another loss, dropout or other batches, such as of a "
            "generator that was not seeded anew, end elsewhere. Explain it without the loader."
        )


def _rows(task: Task, loader: Iterable[Any], steps: int) -> list[Tensor]:
    """Which rows of the task are in the batch of each step."""
    where: dict[bytes, int] = {}
    for i, values in enumerate(row_bytes(task.X)):
        where.setdefault(values, i)
    rows: list[Tensor] = []
    for k, batch in enumerate(_endless(loader, steps)):
        x = of_batch(batch, task.X)
        if x is None:
            first = batch[0] if isinstance(batch, tuple | list) and len(batch) else batch
            got = (
                f"a tensor of shape {tuple(first.shape)}" if isinstance(first, Tensor) else f"a {type(first).__name__}"
            )
            raise InputError(
                f"batch {k} of the loader holds {got}; expected inputs of shape {described(task.X, _of_rows)}, "
                "as (x, y) or x."
            )
        numbers = [where.get(values) for values in row_bytes(x)]
        if None in numbers:
            raise InputError(
                f"row {numbers.index(None)} of batch {k} is not among the task's training inputs: give the recorder "
                "the task that the loader draws from, without augmentation."
            )
        rows.append(torch.tensor(numbers, dtype=torch.int64))
    return rows


def _of_rows(t: Tensor) -> str:
    return f"({', '.join(['rows', *map(str, t.shape[1:])])})"


def _endless(loader: Iterable[Any], steps: int) -> Iterator[Any]:
    """Batches for so many steps, epoch after epoch."""
    count = 0
    while count < steps:
        before = count
        for batch in loader:
            yield batch
            count += 1
            if count == steps:
                return
        if count == before:
            raise InputError(
                f"the loader gave {count} batches, and the loop made {steps} steps: pass it before it is used up."
            )

"""A recorded loop made once more from its batches, which tells what a step hook cannot see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.errors import InputError, ResultError
from whichmin.recipe.build import take_step
from whichmin.tangent.model import evaluate
from whichmin.task import Task
from whichmin.training.recording import Recording

#: How far the replay may end from the loop, as a part of how far the loop moved the outputs.
SAME = 1e-2


def replay(recorder: Recording, loader: Iterable[Any]) -> dict[str, Any]:
    """The batches, the optimizer and the learning rates of a recorded loop, once they are known to lead where it ended.

    Returns:
        ``rows``, those of the task that each step used; ``optimizer``, a factory; ``scheduler``, one of the recorded
        learning rates.

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
    scheduler = blueprint.schedule if blueprint.rates else None
    network = recorder.initial_model
    values = [p for p in network.parameters() if p.requires_grad]
    optimizer = blueprint.build(values)
    schedule = None if scheduler is None else scheduler(optimizer)
    seen = {s.step: s for s in recorder.snapshots}
    moved = _rms(recorder.snapshots[-1].train - recorder.snapshots[0].train)
    for step in range(steps + 1):
        if step in seen:
            _compare(network, task, seen[step].train, step, steps, moved)
        if step == steps:
            break
        optimizer.zero_grad()
        x, y = task.X[rows[step]], task.y[rows[step]]
        nn.functional.mse_loss(evaluate(network, x), y).backward()
        take_step(optimizer)
        if schedule is not None:
            schedule.step()
    return {"rows": rows, "optimizer": blueprint.build, "scheduler": scheduler}


def _compare(network: nn.Module, task: Task, there: Tensor, step: int, steps: int, moved: float) -> None:
    with torch.no_grad():
        apart = _rms(evaluate(network, task.X) - there)
    if not apart <= SAME * moved:
        raise ResultError(
            f"the replay is not the loop: after {step} of {steps} steps their training outputs are {apart:.2g} apart, "
            f"and all of the loop moved them by {moved:.2g}. A replay makes a step of torch.nn.MSELoss() per batch; "
            "gradients that are accumulated or clipped, another loss, dropout or other batches, such as of a "
            "generator that was not seeded anew, end elsewhere. Explain it without the loader."
        )


def _rows(task: Task, loader: Iterable[Any], steps: int) -> list[Tensor]:
    """Which rows of the task are in the batch of each step."""
    X = task.X.reshape(task.n, -1).cpu()
    where: dict[bytes, int] = {}
    for i, x in enumerate(X):
        where.setdefault(x.numpy().tobytes(), i)
    rows: list[Tensor] = []
    for k, batch in enumerate(_endless(loader, steps)):
        x = batch[0] if isinstance(batch, tuple | list) and len(batch) else batch
        if not isinstance(x, Tensor) or x.shape[1:] != task.X.shape[1:]:
            got = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise InputError(
                f"batch {k} of the loader holds {got}; expected inputs of shape (rows, "
                f"{', '.join(map(str, task.X.shape[1:]))}), as (x, y) or x."
            )
        found = [where.get(r.numpy().tobytes()) for r in x.to(X).reshape(len(x), -1)]
        if None in found:
            raise InputError(
                f"row {found.index(None)} of batch {k} is not among the task's training inputs: give the recorder the "
                "task that the loader draws from, without augmentation."
            )
        rows.append(torch.tensor(found, dtype=torch.int64))
    return rows


def _endless(loader: Iterable[Any], steps: int) -> Iterator[Any]:
    """Batches for so many steps, epoch after epoch."""
    made = 0
    while made < steps:
        before = made
        for batch in loader:
            yield batch
            made += 1
            if made == steps:
                return
        if made == before:
            raise InputError(
                f"the loader gave {made} batches, and the loop made {steps} steps: pass it before it is used up."
            )


def _rms(t: Tensor) -> float:
    return float(t.double().square().mean().sqrt())

"""Groups of training rows that are left out: read, drawn and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.decision import Decision
from whichmin.errors import InputError
from whichmin.recipe.batches import generator_of
from whichmin.task import Task

#: More groups than this are not begun without a budget of seconds.
MANY = 10_000
#: So many random halves are drawn for each one that is asked for, until there are enough that keep a row of each class.
DRAWS = 50

Group = tuple[int, ...]
Groups = Literal["each"] | int | Sequence[Any]

_WANTED = 'expected "each" for every row alone, a number of random halves, or a list of groups of row numbers'


def read_groups(groups: Groups, task: Task, seed: int = 0, budget: float | None = None) -> list[Group]:
    """The groups as ascending row numbers.

    Args:
        groups: ``"each"``, a number of random halves, or groups of row numbers; a row number alone is a group of one.
        task: whose training rows they are.
        seed: of the draw of halves.
        budget: the seconds that may be taken; None for no end.

    Raises:
        InputError: no groups, one that is empty, holds every row or all of a class, row numbers that are no integers,
            out of range or twice in a group; more than ``MANY`` groups without a budget.
    """
    if isinstance(groups, str):
        if groups != "each":
            raise InputError(f"groups is {groups!r}; {_WANTED}.")
        _check_count(task.n, budget)
        read: list[Group] = [(i,) for i in range(task.n)]
    elif _is_whole(groups):
        count = int(groups)  # type: ignore[arg-type]
        if count < 1:
            raise InputError(f"groups is {groups!r}; {_WANTED}, 1 or more.")
        _check_count(count, budget)
        return _random_halves(count, task, seed)
    else:
        if not hasattr(groups, "__len__") or not hasattr(groups, "__iter__"):
            raise InputError(f"groups is {groups!r}; {_WANTED}.")
        _check_count(len(groups), budget)  # type: ignore[arg-type]
        read = [_rows(number, group, task.n) for number, group in enumerate(groups)]  # type: ignore[arg-type]
    if not read:
        raise InputError(f"groups is empty; {_WANTED}.")
    classes = row_classes(task)
    for number, group in enumerate(read):
        _check_rest(number, group, task, classes)
    return read


def row_classes(task: Task) -> NDArray[np.int64] | None:
    """The class of each training row, (N,); None where rows have none, or several."""
    decision = Decision.of(task)
    if not decision.classes or decision.positions > 1:
        return None
    y = task.y.detach().cpu()
    if task.classes is not None:
        return y.numpy()
    return decision.labels(y.double()) if y.shape[1] > 1 else (y[:, 0] == y.max()).numpy().astype(np.int64)


def missing_class(group: Group, classes: NDArray[np.int64] | None) -> int | None:
    """A class of which every row is in a group; None where each keeps one."""
    if classes is None:
        return None
    gone = classes[list(group)]
    for label in np.unique(gone[gone >= 0]).tolist():
        if int((gone == label).sum()) == int((classes == label).sum()):
            return int(label)
    return None


def _check_count(count: int, budget: float | None) -> None:
    if count > MANY and budget is None:
        raise InputError(
            f"{count:,} groups would each be predicted: pass budget=, the seconds that may be taken (what is finished "
            f"by then is returned), or at most {MANY:,} groups."
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _rows(number: int, group: Any, n: int) -> Group:
    """One group, its rows checked by themselves."""
    if _is_whole(group):
        group = [group]
    values = group.detach().cpu().numpy() if isinstance(group, Tensor) else np.asarray(group)
    name = f"group {number}"
    if values.dtype == np.bool_:
        raise InputError(f"{name} is a mask; expected row numbers: torch.nonzero(mask)[:, 0].")
    if values.ndim != 1 and values.size:
        raise InputError(f"{name} has shape {values.shape}; expected a list of row numbers.")
    if not values.size:
        raise InputError(f"{name} is empty: nothing would be left out. Drop it, or name the rows to leave out.")
    if not np.issubdtype(values.dtype, np.integer):
        raise InputError(f"{name} holds {values.dtype} values; expected row numbers, integers from 0 to {n - 1}.")
    outside = values[(values < 0) | (values >= n)]
    if outside.size:
        raise InputError(f"{name} has row {int(outside[0])}; expected row numbers from 0 to {n - 1}, of {n} rows.")
    rows, counts = np.unique(values, return_counts=True)
    if counts.max() > 1:
        raise InputError(f"{name} has row {int(rows[counts.argmax()])} twice; expected each row once.")
    return tuple(rows.tolist())


def _check_rest(number: int, group: Group, task: Task, classes: NDArray[np.int64] | None) -> None:
    if len(group) == task.n:
        raise InputError(f"group {number} holds every one of the {task.n} rows: nothing is left to train on.")
    label = missing_class(group, classes)
    if label is not None:
        name = label if task.classes is None else task.classes[label]
        raise InputError(
            f"group {number} holds every row of class {name!r}: a network trained on the rest has never seen it. Keep "
            "a row of each class."
        )


def _random_halves(count: int, task: Task, seed: int) -> list[Group]:
    """Halves that keep a row of each class."""
    generator, classes = generator_of(seed), row_classes(task)
    if task.n < 2:
        raise InputError("half of a single row cannot be left out: pass a task with more rows.")
    halves: list[Group] = []
    for _ in range(DRAWS * count):
        order = torch.randperm(task.n, generator=generator)
        group = tuple(sorted(order[: task.n // 2].tolist()))
        if missing_class(group, classes) is None:
            halves.append(group)
        if len(halves) == count:
            return halves
    raise InputError(
        f"only {len(halves)} of {DRAWS * count} random halves keep a row of each class: pass groups of row numbers "
        "that do."
    )

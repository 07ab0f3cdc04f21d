"""Which rows a search looks at: given ones, or a share of the training rows that is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from whichmin.errors import DataError, InputError
from whichmin.inputs import AnyInputs, Output, as_inputs, concatenated, mapped, row_bytes, row_groups
from whichmin.recipe.batches import generator_of
from whichmin.task import Task

#: Rows of an overlap that a message lists.
LISTED = 8


@dataclass(frozen=True, eq=False)
class Split:
    """A task, and the points by which remedies for it are chosen.

    Attributes:
        task: what is trained on, with the caller's test points.
        validation: the same with the validation points as test points.
        held_out: the rows of the caller's training set that validate; None where the points were given.
    """

    task: Task
    validation: Task
    held_out: Tensor | None

    @property
    def n(self) -> int:
        """The number of validation points."""
        return self.validation.n_test

    @property
    def both(self) -> Task:
        """The task with the validation points, and below them the test points, as test inputs."""
        X = self.validation.X_test
        assert X is not None
        if self.task.X_test is not None:
            X = concatenated(X, self.task.X_test)
        return replace(self.task, X_test=X, y_test=None)

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Outputs on the test inputs of :attr:`both` as those on the validation and on the test points."""
        return outputs[: self.n], None if self.task.X_test is None else outputs[self.n :]


def split(task: Task, validation: Any, seed: int) -> Split:
    """The task and its validation points.

    Args:
        task: the data.
        validation: a task, whose X and y are taken, a pair (X, y), or the share of the training rows to hold out.
        seed: of the draw of a share.

    Raises:
        InputError: none of these; a share that leaves fewer than two rows to either side.
        DataError: points that do not go with the task, or that are among its training rows.
    """
    if isinstance(validation, float | int) and not isinstance(validation, bool):
        return _held_out(task, float(validation), seed)
    if isinstance(validation, Task):
        X, y = validation.X, validation.y
    elif isinstance(validation, tuple | list) and len(validation) == 2:
        X, y = validation
    else:
        raise InputError(
            f"validation is {_kind(validation)}; expected a Task, a pair (X, y), or the share of the training rows to "
            "hold out, such as 0.2."
        )
    try:
        checked = replace(task, X_test=_like(X, task), y_test=y)
    except DataError as error:
        raise DataError(f"the validation set cannot be used: {error}") from error
    if checked.n_test < 2:
        raise DataError("the validation set has a single row; expected two or more, so that differences have a spread.")
    assert checked.X_test is not None
    assert checked.X_test is not None
    _check_apart(task.X, checked.X_test)
    return Split(task, checked, None)


def _like(X: Any, task: Task) -> Any:
    """Validation inputs with the output that the task's inputs know."""
    return as_inputs(X, "X", Output.of(task.output))


def _held_out(task: Task, share: float, seed: int) -> Split:
    count = round(share * task.n) if 0 < share < 1 else 0
    if min(count, task.n - count) < 2:
        raise InputError(
            f"validation = {share:g} holds out {count} of {task.n} training rows; expected a share between 0 and 1 "
            "that leaves two rows or more to either side, or validation points of their own."
        )
    order = torch.randperm(task.n, generator=generator_of(seed))
    held, kept = _without_twins(task, order[:count], order[count:])
    X, y = task.X, task.y

    def rows(of: Any, at: Tensor) -> Any:
        return mapped(of, lambda t: t[at.to(t.device)])

    rest = replace(task, X=rows(X, kept), y=rows(y, kept))
    return Split(rest, replace(rest, X_test=rows(X, held), y_test=rows(y, held)), held)


def _without_twins(task: Task, held: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Rows to hold out and to keep, ascending; a row that is identical to one that is kept is kept as well.

    Raises:
        DataError: fewer than two rows are left to hold out.
    """
    groups = row_groups(task.X).cpu()
    is_twin = torch.isin(groups[held], groups[kept])
    kept, held = torch.cat([kept, held[is_twin]]), held[~is_twin]
    if len(held) < 2:
        raise DataError(
            "nearly all rows of X come more than once, so that none can be held out without being trained on: pass "
            "validation points of their own."
        )
    return held.sort().values, kept.sort().values


def _check_apart(X: AnyInputs, X_validation: AnyInputs) -> None:
    """Refuse validation rows that are trained on.

    Raises:
        DataError: says which they are.
    """
    trained = {row: i for i, row in reversed(list(enumerate(row_bytes(X))))}
    pairs = [(i, trained[row]) for i, row in enumerate(row_bytes(X_validation)) if row in trained]
    if not pairs:
        return
    raise DataError(
        f"{len(pairs)} of {len(X_validation)} validation rows are training rows: {_listed([i for i, _ in pairs])} of "
        f"the validation set are rows {_listed([j for _, j in pairs])} of X. Leave them out of one of the two."
    )


def _listed(rows: Sequence[int]) -> str:
    shown = ", ".join(map(str, rows[:LISTED]))
    return shown if len(rows) <= LISTED else f"{shown}, …"


def _kind(value: Any) -> str:
    return repr(value) if value is None or isinstance(value, str | bool) else f"a {type(value).__name__}"

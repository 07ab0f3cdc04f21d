"""What leaving rows out does, as sentences, columns and pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from whichmin.decision import Decision
from whichmin.report.numbers import MISSING, accuracy, number, percent, signed
from whichmin.report.thumbnails import thumbnail
from whichmin.studies.left_out import LeftOut
from whichmin.task import Task

#: Groups that a table shows.
GROUPS = 20
#: Test points whose rows are shown.
POINTS = 8
#: Rows shown for and against each of them.
ROWS = 5


@dataclass(frozen=True)
class Row:
    """A training row, and what it does for a test point.

    Attributes:
        index: its number.
        image: a data URI of its picture, or None where inputs are no pictures.
        target: its target as text.
        influence: as text.
    """

    index: int
    image: str | None
    target: str
    influence: str


@dataclass(frozen=True)
class PointView:
    """A test point with the rows that hold it up and those that pull it down."""

    index: int
    image: str | None
    target: str | None
    supporting: tuple[Row, ...]
    opposing: tuple[Row, ...]


def finding(found: LeftOut) -> list[str]:
    """What came out, in sentences."""
    known = torch.isfinite(found.effect)
    count, effect = int(known.sum()), found.effect[known]
    if not count:
        return ["No group was predicted."]
    what = "training rows, each left out alone" if found.is_each else "groups of training rows"
    error = float(found.error[known].median())
    off = f"; a prediction may be off by {number(error, 2)}" if error else ""
    clear = int((effect > found.error[known]).sum())
    if clear < count:
        off += (
            f"; {f'only {clear:,}' if clear else 'none'} of them moves the outputs by more than its prediction’s error"
        )
    said = [
        f"Of {count:,} {what}, leaving one out moves the test outputs by {number(float(effect.mean()), 2)} on average "
        f"and {number(float(effect.max()), 2)} at most (root mean squares){off}."
    ]
    flips = found.flips[known].any(dim=0)
    if Decision.of(found.task).classes and bool(flips.any()):
        said.append(f"{int(flips.sum())} of {len(flips)} test points are decided differently without some of them.")
    elif Decision.of(found.task).classes:
        said.append(f"None of {len(flips)} test points is decided differently without any of them.")
    if found.task.y_test is not None:
        helped = int((found.loss_change[known] < 0).sum())
        best = int(found.loss_change.nan_to_num(nan=torch.inf).argmin())
        named = (
            f"the test error ({found.task.loss.label}) would be lower than the {number(found.full_loss)} of all rows"
        )
        lowest = f"; lowest, {number(float(found.test_loss[best]))}, without group {best}"
        said.append(
            f"Without {helped:,} of them {named}{lowest}." if helped else f"There is none without which {named}."
        )
    return said


def strongest(found: LeftOut, count: int = GROUPS) -> list[int]:
    """Groups whose removal lowers the test loss most, or without test targets those that move the outputs most."""
    values = -found.effect if found.task.y_test is None else found.loss_change
    return values.nan_to_num(nan=torch.inf).argsort(stable=True)[:count].tolist()


def columns_of(found: LeftOut) -> dict[str, Callable[[int], str]]:
    """The columns of the table of groups: heading, and the text of a group."""
    rows = found.to_frame()["rows"].tolist()
    columns: dict[str, Callable[[int], str]] = {"rows": lambda i: rows[i] if len(rows[i]) < 30 else f"{found.sizes[i]}"}
    if found.task.y_test is not None:
        columns["test error"] = lambda i: number(float(found.test_loss[i]))
        columns["change"] = lambda i: signed(float(found.loss_change[i]), 2)
    right = found.accuracy
    if right is not None:
        columns["accuracy"] = lambda i: accuracy(float(right[i]))
    flips, effect = found.flips.double().mean(dim=1), found.effect
    if Decision.of(found.task).classes:
        columns["labels that flip"] = lambda i: percent(float(flips[i]))
    columns["outputs move by"] = lambda i: number(float(effect[i]), 2)
    columns["error"] = lambda i: number(float(found.error[i]), 2)
    columns["by"] = lambda i: found.method[i] or MISSING
    return columns


def point_views(found: LeftOut) -> list[PointView]:
    """The test points that depend most on single rows, where what each row does is known."""
    task = found.task
    decision = Decision.of(task)
    if decision.positions > 1 or not (decision.classes or task.outputs == 1):
        return []
    influence = found.by_row()
    size = influence.nan_to_num().square().sum(dim=1)
    return [
        _point(found, influence, int(i)) for i in size.argsort(descending=True, stable=True)[:POINTS] if size[i] > 0
    ]


def _point(found: LeftOut, influence: torch.Tensor, i: int) -> PointView:
    task = found.task
    assert task.X_test is not None
    target = None if task.y_test is None else _target(task, task.y_test[i])

    def rows(of: torch.Tensor) -> tuple[Row, ...]:
        return tuple(
            Row(j, thumbnail(task.X[j : j + 1][0]), _target(task, task.y[j]), signed(float(influence[i, j]), 2))
            for j in of.tolist()
        )

    image = thumbnail(task.X_test[i : i + 1][0])
    return PointView(i, image, target, rows(found.supporting(i, ROWS)), rows(found.opposing(i, ROWS)))


def _target(task: Task, y: torch.Tensor) -> str:
    if task.classes is not None and y.numel() == 1 and int(y) >= 0:
        return str(task.classes[int(y)])
    return ", ".join(number(float(v)) if v.is_floating_point() else str(int(v)) for v in y.reshape(-1)[:4])

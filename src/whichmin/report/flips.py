"""The test points on which entries disagree: those that another seed or optimizer would decide differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whichmin.decision import Decision
from whichmin.report.entry_view import Array, EntryView, way_of_all
from whichmin.report.numbers import MISSING, number, percent
from whichmin.report.thumbnails import thumbnail
from whichmin.task import Task

#: Kinds of outputs, the best first, and what they are called.
SOURCES = {"trained": "trained networks", "relinearized": "predictions {way}", "linearized": "linearized predictions"}
SHOWN = 12


@dataclass(frozen=True)
class Point:
    """One contested test point.

    Attributes:
        index: its row in ``X_test``.
        image: a data URI of its picture, or None where the inputs are no pictures.
        target: its target as text, or None.
        votes: how many entries decide how, as text.
        cells: per entry the text of its output and the class that it decides for.
        strip: per entry the place on a strip, from 0 to 100, and the class; empty for several outputs.
        middle: the threshold's place on that strip.
        position: which of the row's class numbers it is; None where rows have one.
    """

    index: int
    image: str | None
    target: str | None
    votes: str
    cells: tuple[tuple[str, int], ...]
    strip: tuple[tuple[float, int], ...]
    middle: float
    position: int | None = None


@dataclass(frozen=True)
class Flips:
    """The contested points, the most evenly split first, and sentences about them; whether targets are classes."""

    text: str
    labels: tuple[str, ...]
    points: tuple[Point, ...]
    total: int
    classes: bool


@dataclass(frozen=True)
class _Scale:
    """Places on the strips, the same for all points: from 5 to 95 between the extremes of the outputs."""

    low: float
    high: float
    threshold: float

    @classmethod
    def over(cls, outputs: Array, threshold: float) -> _Scale:
        values = np.append(outputs, threshold)
        return cls(float(values.min()), float(values.max()), threshold)

    def __call__(self, value: float) -> float:
        return 5 + 90 * (value - self.low) / ((self.high - self.low) or 1.0)


def flips(entries: Sequence[EntryView]) -> Flips | None:
    """The points that entries decide differently; None where there are no two entries with the same test points."""
    source, members = _comparable(entries)
    if source is None:
        return None
    task = members[0].task
    rule = Decision.of(task) if task is not None else Decision(0.0, True)
    tests = np.stack([view.outputs[source] for view in members])
    outputs, decided = rule.by_position(tests), rule.labels(tests)
    contested = np.flatnonzero((decided != decided[0]).any(axis=0))
    spread = outputs.std(axis=0).sum(axis=1)
    order = sorted(contested, key=lambda i: (max(Counter(decided[:, i].tolist()).values()), -spread[i], i))
    scale = _Scale.over(outputs[:, order[:SHOWN]], rule.threshold)
    points = tuple(_point(int(i), task, rule, outputs[:, i], decided[:, i], scale) for i in order[:SHOWN])
    how = "the largest output" if outputs.shape[-1] > 1 else f"the side of {number(rule.threshold)}"
    text = _sentences(source, members, decided, how, rule)
    return Flips(text, tuple(view.label for view in members), points, len(contested), rule.classes)


def _comparable(entries: Sequence[EntryView]) -> tuple[str | None, list[EntryView]]:
    """The best kind of outputs that at least two entries have for the same test points, and those entries."""
    for source in SOURCES:
        members = [view for view in entries if source in view.outputs]
        members = [v for v in members if v.outputs[source].shape == members[0].outputs[source].shape]
        if len(members) > 1 and len(members[0].outputs[source]):
            return source, members
    return None, []


def _sentences(source: str, members: Sequence[EntryView], decided: NDArray[np.int64], how: str, rule: Decision) -> str:
    n, contested = decided.shape[1], int((decided != decided[0]).any(axis=0).sum())
    text = f"Deciding by {how}, the {len(members)} {_called(source, members)} "
    if not contested:
        text += f"agree on every one of the {n:,} test points: none would be flipped."
    else:
        text += f"disagree on {contested:,} of {n:,} test points ({percent(contested / n)})."
    if not rule.classes:
        text += " The targets are not two classes or one-hot rows, so read the decisions as a sign, no more."
    agreement = _foreseen(source, members, decided, rule)
    return text + (f" {agreement}" if agreement else "")


def _called(source: str, members: Sequence[EntryView]) -> str:
    """What a kind of outputs is called, with how predictions were made."""
    return SOURCES[source].format(way=way_of_all(members))


def _foreseen(source: str, members: Sequence[EntryView], decided: NDArray[np.int64], rule: Decision) -> str:
    """How often the prediction decides as the trained network does."""
    if source != "trained":
        return ""
    for kind in ("relinearized", "linearized"):
        if all(kind in v.outputs and v.outputs[kind].shape == v.outputs[source].shape for v in members):
            predicted = rule.labels(np.stack([v.outputs[kind] for v in members]))
            contested, foreseen = (decided != decided[0]).any(axis=0), (predicted != predicted[0]).any(axis=0)
            share = percent(float((predicted == decided).mean()))
            text = f"The {_called(kind, members)} decide as the trained networks in {share} of all cases"
            if contested.any():
                hit, total = int((contested & foreseen).sum()), int(contested.sum())
                text += (
                    f" and foresee {'all of these points' if hit == total else f'{hit:,} of these {total:,} points'}"
                )
            return text + "."
    return ""


def _point(
    i: int, task: Task | None, rule: Decision, outputs: Array, decided: NDArray[np.int64], scale: _Scale
) -> Point:
    """One row of the table; ``outputs`` is (entries, C)."""
    single, (row, position) = outputs.shape[1] == 1, divmod(i, rule.positions)
    labels = _labels(task, outputs.shape[1])
    counts = sorted(Counter(decided.tolist()).items())
    names = {0: "below", 1: "above"} if single else {c: f"class {labels[c]}" for c, _ in counts}
    strip = [(scale(float(o[0])), int(d)) for o, d in zip(outputs, decided, strict=True)]
    return Point(
        index=row,
        image=thumbnail(task.X_test[row]) if task is not None and task.X_test is not None else None,
        target=None if task is None else _target(i, task, rule),
        votes=", ".join(f"{count} {names[c]}" for c, count in counts),
        cells=tuple(
            (number(float(o[0])) if single else f"{labels[int(d)]} ({number(float(o[d]))})", int(d))
            for o, d in zip(outputs, decided, strict=True)
        ),
        strip=tuple(strip) if single else (),
        middle=scale(scale.threshold),
        position=None if rule.positions == 1 else position,
    )


def _labels(task: Task | None, outputs: int) -> tuple[Any, ...]:
    """What the classes of several outputs are called: the task's labels, or their numbers."""
    return tuple(range(outputs)) if task is None or task.classes is None else tuple(task.classes)


def _target(i: int, task: Task, rule: Decision) -> str | None:
    """A test point's target as text; None where it is not known."""
    if task.y_test is None:
        return None
    target = rule.by_position(task.encoded(task.y_test))[i]
    if len(target) == 1:
        return f"{float(target[0]):g}".replace("-", "−")
    return f"class {_labels(task, len(target))[int(target.argmax())]}" if target.any() else MISSING

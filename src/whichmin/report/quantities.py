"""The table: quantities by group, a value per entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whichmin.decision import Decision
from whichmin.dynamics.prediction import Prediction
from whichmin.report.entry_view import EntryView, array, by_optimizer, mse, present, term_names
from whichmin.report.numbers import mean_sd, number

#: What the table calls each kind of outputs.
NAMES = {
    "trained": "trained network",
    "linearized": "predicted, linearized",
    "relinearized": "predicted, along the path",
}
#: Up to so many entries have a column of their own.
FEW = 6


@dataclass(frozen=True)
class Quantity:
    """One row of the table.

    Attributes:
        name: what it is.
        values: one per entry, None where unknown.
        groups: the places of each optimizer's entries, where there are several optimizers.
    """

    name: str
    values: tuple[float | None, ...]
    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Per entry the full value, for machines, and its text."""
        return [("" if v is None else repr(v), number(v)) for v in self.values]

    @property
    def means(self) -> list[str]:
        """Mean ± standard deviation of each optimizer."""
        by_optimizer = [present(self.values[i] for i in places) for places in self.groups]
        return [mean_sd(values) if values else number(None) for values in by_optimizer]

    @property
    def mean(self) -> str:
        """Mean ± standard deviation over the entries that have it."""
        values = present(self.values)
        return mean_sd(values) if values else number(None)

    @property
    def extremes(self) -> tuple[str, str]:
        """The smallest and the largest value."""
        values = present(self.values)
        return (number(min(values)), number(max(values))) if values else (number(None), number(None))


@dataclass(frozen=True)
class Group:
    """Quantities that belong together; those that no entry has are left out."""

    name: str
    rows: tuple[Quantity, ...]


def summary(entries: Sequence[EntryView]) -> list[Group]:
    """The groups of the table that have something to show."""
    groups = [
        _group("Test error (mean square)", entries, _test_error(entries)),
        _group("Distance of prediction to trained network on test points (mean square)", entries, _differences()),
        _group("Training", entries, _training()),
        _group("Seconds", entries, _seconds()),
        _group("Mean square of each term", entries, _terms(entries)),
    ]
    return [group for group in groups if group.rows]


def laziness_rows(entries: Sequence[EntryView]) -> list[Group]:
    """The certificates and the number of linearizations."""
    rows: dict[str, Callable[[EntryView], float | None]] = {
        "training error at the one-shot parameters (mean square)": lambda v: (
            v.linearized and v.linearized.certificate and v.linearized.certificate.train_loss
        ),
        "test deviation from the linearized prediction (mean square)": lambda v: (
            v.linearized and v.linearized.certificate and v.linearized.certificate.test_deviation
        ),
        "the same, root mean square over the targets’ standard deviation": relative_deviation,
        "linearizations along the path": lambda v: v.relinearized and int(v.relinearized.intervals),
    }
    group = _group("Certificate", entries, rows)
    return [group] if group.rows else []


def relative_deviation(view: EntryView) -> float | None:
    """The root mean square test deviation of the certificate over the standard deviation of the targets."""
    if view.linearized is None or view.linearized.certificate is None or not view.linearized.target_std > 0:
        return None
    return float(np.sqrt(view.linearized.certificate.test_deviation)) / view.linearized.target_std


_Rows = dict[str, "Callable[[EntryView], float | None]"]


def _group(name: str, entries: Sequence[EntryView], rows: _Rows) -> Group:
    places = {name: tuple(i for i, v in enumerate(entries) if v.optimizer == name) for name in by_optimizer(entries)}
    groups = tuple(places.values())
    quantities = [Quantity(row, tuple(value(view) for view in entries), groups) for row, value in rows.items()]
    return Group(name, tuple(q for q in quantities if any(v is not None for v in q.values)))


def _test_error(entries: Sequence[EntryView]) -> _Rows:
    names = term_names(entries)

    def first(view: EntryView) -> float | None:
        errors = view.partial_errors(names[:1]) if names else None
        return None if errors is None else float(errors[0])

    def wrong(view: EntryView) -> float | None:
        if view.target is None or "trained" not in view.outputs or view.task is None:
            return None
        rule = Decision.of(view.task)
        if not rule.classes:
            return None
        return int((rule.labels(view.outputs["trained"]) != rule.labels(view.target)).sum())

    rows: _Rows = {text: (lambda v, k=key: v.test_mse(k)) for key, text in NAMES.items()}
    if names:
        rows[f"the {names[0]} alone"] = first
    return rows | {"test points that the trained network decides wrongly (number)": wrong}


def _differences() -> _Rows:
    return {
        "linearized, measured": lambda v: mse(v.outputs.get("linearized"), v.outputs.get("trained")),
        "linearized, estimated without training": lambda v: _estimate(v.linearized),
        "along the path, measured": lambda v: mse(v.outputs.get("relinearized"), v.outputs.get("trained")),
        "along the path, estimated without training": lambda v: _estimate(v.relinearized),
    }


def _estimate(prediction: Prediction | None) -> float | None:
    return None if prediction is None else float(prediction.error) ** 2


def _training() -> _Rows:
    return {
        "training error at the end (mean square)": train_mse,
        "steps": lambda v: v.run and int(v.run.steps),
        "learning rate": lambda v: v.run.learning_rate if v.run else v.prediction and v.prediction.learning_rate,
    }


def train_mse(view: EntryView) -> float | None:
    """The training mean square error of the trained network."""
    return None if view.run is None else mse(array(view.run.train), array(view.run.task.y))


def _seconds() -> _Rows:
    def ratio(view: EntryView) -> float | None:
        if view.run is None or view.prediction is None or not view.prediction.seconds > 0:
            return None
        return view.run.seconds / view.prediction.seconds

    return {
        "to train": lambda v: v.run and float(v.run.seconds),
        "to predict, linearized": lambda v: v.linearized and float(v.linearized.seconds),
        "to predict, along the path": lambda v: v.relinearized and float(v.relinearized.seconds),
        "training time over prediction time": ratio,
    }


def _terms(entries: Sequence[EntryView]) -> _Rows:
    def share(view: EntryView, name: str) -> float | None:
        return view.explanation and view.explanation.shares().get(name)

    return {name: (lambda v, n=name: share(v, n)) for name in term_names(entries)}

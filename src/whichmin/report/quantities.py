"""The table: quantities by group, a value per entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whichmin.dynamics.prediction import Prediction
from whichmin.report.entry_view import (
    EntryView,
    by_optimizer,
    labelled,
    last_steps,
    mse,
    present,
    scale_of,
    term_names,
    way_of_all,
)
from whichmin.report.numbers import mean_sd, number
from whichmin.studies.experiment.summary import column_groups, column_labels

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
        _group(title if title != "test error" else labelled(title, entries), entries, rows)
        for title, rows in zip(column_groups(way_of_all(entries)), _rows(entries), strict=True)
    ]
    return [group for group in groups if group.rows]


def _rows(entries: Sequence[EntryView]) -> list[_Rows]:
    """Of each of the groups of columns."""
    labels = column_labels(way_of_all(entries))
    return [
        _test_error(entries, labels),
        _accuracy(entries, labels),
        _differences(labels),
        _training(entries, labels),
        _seconds(labels),
        _terms(entries),
    ]


def laziness_rows(entries: Sequence[EntryView]) -> list[Group]:
    """The certificates and the number of linearizations."""
    rows: dict[str, Callable[[EntryView], float | None]] = {
        labelled("training loss at the one-shot parameters", entries): lambda v: (
            v.linearized and v.linearized.certificate and v.linearized.certificate.train_loss
        ),
        "test deviation from the linearized prediction (mean square)": lambda v: (
            v.linearized and v.linearized.certificate and v.linearized.certificate.test_deviation
        ),
        f"the same, root mean square over the {scale_of(entries)} standard deviation": relative_deviation,
        "linearizations along the path": lambda v: v.relinearized and (int(v.relinearized.intervals) or None),
    }
    group = _group("certificate", entries, rows)
    return [group] if group.rows else []


def relative_deviation(view: EntryView) -> float | None:
    """The root mean square test deviation of the certificate over ``Prediction.target_std``."""
    if view.linearized is None or view.linearized.certificate is None or not view.linearized.target_std > 0:
        return None
    return float(np.sqrt(view.linearized.certificate.test_deviation)) / view.linearized.target_std


_Rows = dict[str, "Callable[[EntryView], float | None]"]
_KINDS = ("trained", "linearized", "relinearized")


def _group(name: str, entries: Sequence[EntryView], rows: _Rows) -> Group:
    places = {name: tuple(i for i, v in enumerate(entries) if v.optimizer == name) for name in by_optimizer(entries)}
    groups = tuple(places.values())
    quantities = [Quantity(row, tuple(value(view) for view in entries), groups) for row, value in rows.items()]
    return Group(name[0].upper() + name[1:], tuple(q for q in quantities if any(v is not None for v in q.values)))


def _test_error(entries: Sequence[EntryView], labels: dict[str, str]) -> _Rows:
    names = term_names(entries)

    def first(view: EntryView) -> float | None:
        errors = view.partial_errors(names[:1]) if names else None
        return None if errors is None else float(errors[0])

    rows: _Rows = {labels[f"test_loss_{kind}"]: (lambda v, k=kind: v.test_error(k)) for kind in _KINDS}
    if names:
        rows[f"the {names[0]} alone"] = first
    return rows


def _accuracy(entries: Sequence[EntryView], labels: dict[str, str]) -> _Rows:
    """Of the outputs, and of the sums of the terms so far."""
    names = term_names(entries)

    def up_to(view: EntryView, count: int) -> float | None:
        values = view.partial_accuracies(names[:count])
        return None if values is None else float(values[-1])

    rows: _Rows = {labels[f"accuracy_{kind}"]: (lambda v, k=kind: v.accuracy(k)) for kind in _KINDS}
    for count, name in enumerate(names[:-1], 1):
        rows[f"the {name} alone" if count == 1 else f"the terms up to {name}"] = lambda v, n=count: up_to(v, n)
    return rows


def _differences(labels: dict[str, str]) -> _Rows:
    return {
        labels["mse_to_trained_linearized"]: lambda v: mse(v.outputs.get("linearized"), v.outputs.get("trained")),
        labels["estimated_linearized"]: lambda v: _estimate(v.linearized),
        labels["mse_to_trained_relinearized"]: lambda v: mse(v.outputs.get("relinearized"), v.outputs.get("trained")),
        labels["estimated_relinearized"]: lambda v: _estimate(v.relinearized),
    }


def _estimate(prediction: Prediction | None) -> float | None:
    return None if prediction is None else float(prediction.error) ** 2


def _training(entries: Sequence[EntryView], labels: dict[str, str]) -> _Rows:
    return {
        labelled("training loss at the end", entries): train_loss,
        labels["steps_trained"]: lambda v: v.run and int(v.run.steps),
        labels["steps_predicted"]: lambda v: v.relinearized and _whole(last_steps(v.relinearized)),
        labels["learning_rate"]: lambda v: (
            v.run.learning_rate if v.run else v.prediction and v.prediction.learning_rate
        ),
    }


def _whole(steps: float) -> float:
    """A number of steps, a whole one where it is finite."""
    return round(steps) if math.isfinite(steps) else steps


def train_loss(view: EntryView) -> float | None:
    """The training loss of the trained network."""
    return None if view.run is None else view.run.task.loss.value(view.run.train.double(), view.run.task.y)


def _seconds(labels: dict[str, str]) -> _Rows:
    def ratio(view: EntryView) -> float | None:
        if view.run is None or view.prediction is None or not view.prediction.seconds > 0:
            return None
        return view.run.seconds / view.prediction.seconds

    return {
        labels["seconds_train"]: lambda v: v.run and float(v.run.seconds),
        "to predict, one linearization": lambda v: v.linearized and float(v.linearized.seconds),
        labels["seconds_predict"]: lambda v: v.relinearized and float(v.relinearized.seconds),
        labels["speedup"]: ratio,
    }


def _terms(entries: Sequence[EntryView]) -> _Rows:
    def share(view: EntryView, name: str) -> float | None:
        return view.explanation and view.explanation.shares().get(name)

    return {name: (lambda v, n=name: share(v, n)) for name in term_names(entries)}

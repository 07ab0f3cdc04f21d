"""The table: quantities by group, a value per entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from whichmin.decision import Decision
from whichmin.dynamics.prediction import Prediction
from whichmin.report.apart import by_optimizer
from whichmin.report.numbers import mean_sd, number
from whichmin.report.view import View, array, distance, known, term_names

NAMES = {
    "trained": "trained network",
    "linearized": "predicted, linearized",
    "relinearized": "predicted, along the path",
}
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
        found = [known(self.values[i] for i in places) for places in self.groups]
        return [mean_sd(values) if values else number(None) for values in found]

    @property
    def mean(self) -> str:
        """Mean ± standard deviation over the entries that have it."""
        values = known(self.values)
        return mean_sd(values) if values else number(None)

    @property
    def extremes(self) -> tuple[str, str]:
        """The smallest and the largest value."""
        values = known(self.values)
        return (number(min(values)), number(max(values))) if values else (number(None), number(None))


@dataclass(frozen=True)
class Group:
    """Quantities that belong together; those that no entry has are left out."""

    name: str
    rows: tuple[Quantity, ...]


def summary(shown: Sequence[View]) -> list[Group]:
    """The groups of the table that have something to show."""
    groups = [
        _group("Test error (mean square)", shown, _test_error(shown)),
        _group("Distance of prediction to trained network on test points (mean square)", shown, _distances()),
        _group("Training", shown, _training()),
        _group("Seconds", shown, _seconds()),
        _group("Mean square of each term", shown, _terms(shown)),
    ]
    return [group for group in groups if group.rows]


def laziness_rows(shown: Sequence[View]) -> list[Group]:
    """The certificates and the number of linearizations."""
    rows: dict[str, Callable[[View], float | None]] = {
        "training error at the one-shot parameters (mean square)": lambda v: (
            v.linearized and v.linearized.certificate and v.linearized.certificate.train_mse
        ),
        "test deviation from the linearized prediction (mean square)": lambda v: (
            v.linearized and v.linearized.certificate and v.linearized.certificate.test_deviation
        ),
        "the same, root mean square over the targets’ standard deviation": relative_deviation,
        "linearizations along the path": lambda v: v.relinearized and int(v.relinearized.intervals),
    }
    group = _group("Certificate", shown, rows)
    return [group] if group.rows else []


def relative_deviation(view: View) -> float | None:
    """The root mean square test deviation of the certificate over the standard deviation of the targets."""
    if view.linearized is None or view.linearized.certificate is None or not view.linearized.target_std > 0:
        return None
    return float(np.sqrt(view.linearized.certificate.test_deviation)) / view.linearized.target_std


_Rows = dict[str, "Callable[[View], float | None]"]


def _group(name: str, shown: Sequence[View], rows: _Rows) -> Group:
    places = {name: tuple(i for i, v in enumerate(shown) if v.optimizer == name) for name in by_optimizer(shown)}
    groups = tuple(places.values())
    quantities = [Quantity(row, tuple(value(view) for view in shown), groups) for row, value in rows.items()]
    return Group(name, tuple(q for q in quantities if any(v is not None for v in q.values)))


def _test_error(shown: Sequence[View]) -> _Rows:
    names = term_names(shown)

    def first(view: View) -> float | None:
        errors = view.partial_errors(names[:1]) if names else None
        return None if errors is None else float(errors[0])

    def wrong(view: View) -> float | None:
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


def _distances() -> _Rows:
    return {
        "linearized, measured": lambda v: distance(v.outputs.get("linearized"), v.outputs.get("trained")),
        "linearized, estimated without training": lambda v: _estimate(v.linearized),
        "along the path, measured": lambda v: distance(v.outputs.get("relinearized"), v.outputs.get("trained")),
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


def train_mse(view: View) -> float | None:
    """The training mean square error of the trained network."""
    return None if view.run is None else distance(array(view.run.train), array(view.run.task.y))


def _seconds() -> _Rows:
    def ratio(view: View) -> float | None:
        if view.run is None or view.prediction is None or not view.prediction.seconds > 0:
            return None
        return view.run.seconds / view.prediction.seconds

    return {
        "to train": lambda v: v.run and float(v.run.seconds),
        "to predict, linearized": lambda v: v.linearized and float(v.linearized.seconds),
        "to predict, along the path": lambda v: v.relinearized and float(v.relinearized.seconds),
        "training time over prediction time": ratio,
    }


def _terms(shown: Sequence[View]) -> _Rows:
    def share(view: View, name: str) -> float | None:
        return view.explanation and view.explanation.shares().get(name)

    return {name: (lambda v, n=name: share(v, n)) for name in term_names(shown)}

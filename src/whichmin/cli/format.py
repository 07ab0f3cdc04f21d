"""Numbers as a reader wants them: a table that fits the terminal, or an object for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whichmin.decomposition.explanation import MEANINGS
from whichmin.experiment.config import Experiment
from whichmin.report.entry import Entry

if TYPE_CHECKING:
    import pandas as pd

#: Up to so many entries have a column of their own.
MAX_COLUMNS = 5

_GROUPS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "test error (mean square)",
        (
            ("test_mse_trained", "trained"),
            ("test_mse_linearized", "predicted, one linearization"),
            ("test_mse_followed", "predicted, path followed"),
        ),
    ),
    (
        "distance to the trained network (mean square)",
        (
            ("distance_linearized", "one linearization"),
            ("estimated_linearized", "one linearization, as estimated"),
            ("distance_followed", "path followed"),
            ("estimated_followed", "path followed, as estimated"),
        ),
    ),
    ("size of each term (mean square)", tuple((f"share_{name}", name) for name in MEANINGS)),
    (
        "training",
        (
            ("learning_rate", "learning rate"),
            ("steps_trained", "steps, trained"),
            ("steps_predicted", "steps, predicted"),
            ("seconds_train", "seconds to train"),
            ("seconds_predict", "seconds to predict the path"),
            ("speedup", "training over predicting"),
        ),
    ),
)


def headline(experiment: Experiment) -> str:
    """What was asked, in a line."""
    classes = experiment.chosen_classes
    parts = [experiment.data if classes is None else f"{experiment.data} {_against(classes)}"]
    parts.append(f"{experiment.n_train} training and {experiment.n_test} test points")
    if experiment.model is not None:
        parts.append(experiment.model)
    else:
        parts.append(f"{experiment.network} {'-'.join(map(str, experiment.layers))}, {experiment.activation}")
    parts.append("gradient descent")
    return " · ".join(parts)


def _against(classes: Sequence[int | str]) -> str:
    return f"{classes[0]} against {classes[1]}" if len(classes) == 2 else ", ".join(map(str, classes))


def format_table(frame: pd.DataFrame) -> str:
    """The table with quantities as rows and entries as columns, mean ± standard deviation last.

    Args:
        frame: of :func:`whichmin.experiment.table`.

    Returns:
        Lines, aligned. More than ``MAX_COLUMNS`` entries are summed up by their least and greatest value.
    """
    labels = [str(label) for label in frame.index if label not in ("mean", "sd")]
    few, several = len(labels) <= MAX_COLUMNS, len(labels) > 1
    header = (labels if few else ["least", "greatest"]) + (["mean ± sd"] if several else [])
    rows: list[list[str]] = [["", *header]]
    for title, quantities in _GROUPS:
        lines = [(text, [float(v) for v in frame[name]]) for name, text in quantities if name in frame]
        lines = [(text, values) for text, values in lines if not all(map(math.isnan, values[: len(labels)]))]
        rows += [[title]] if lines else []
        for text, (*values, mean, sd) in lines:
            known = [value for value in values if not math.isnan(value)]
            cells = [number(value) for value in (values if few else (min(known), max(known)))]
            rows.append([f"  {text}", *cells, *([f"{number(mean)} ± {_spread(mean, sd)}"] if several else [])])
    return "\n".join(_aligned(rows))


def _aligned(rows: list[list[str]]) -> list[str]:
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(row[i]) for row in full) for i in range(len(full[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return lines


def number(value: float) -> str:
    """Three digits, without an exponent where there is no need for one."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if value == 0:
        return "0"
    if abs(value) >= 1000 and abs(value) < 1e7:
        return f"{value:,.0f}"
    if abs(value) < 1e-3 or abs(value) >= 1e7:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:#.3g}".rstrip(".")


def _spread(mean: float, sd: float) -> str:
    """Two digits of a standard deviation; one that is only rounding is 0."""
    if sd <= 1e-9 * abs(mean):
        return "0"
    return number(sd) if sd < 1e-3 or sd >= 100 else f"{sd:#.2g}".rstrip(".")


def to_json(frame: pd.DataFrame) -> dict[str, Any]:
    """The table's numbers as JSON has them: unknown ones are null."""
    rows = {str(label): {name: _finite(value) for name, value in row.items()} for label, row in frame.iterrows()}
    mean, sd = rows.pop("mean"), rows.pop("sd")
    return {"seeds": [{"label": label, **row} for label, row in rows.items()], "mean": mean, "sd": sd}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def notes(entries: Sequence[Entry]) -> list[str]:
    """What a reader should know: what predictions remarked, and training that did not get there."""
    said: dict[str, None] = {}
    for entry in entries:
        for prediction in (entry.lazy, entry.followed):
            said |= dict.fromkeys(f"{entry.label}: {note}" for note in (prediction.notes if prediction else ()))
        if entry.run is not None and not entry.run.converged:
            said[f"{entry.label}: {entry.run.reason}"] = None
    return list(said)

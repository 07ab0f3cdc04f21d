"""Numbers as a reader wants them: a table that fits the terminal, or an object for machines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from whichmin.cli.tables import aligned, finite
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.experiment.optimizers import labels
from whichmin.studies.experiment.summary import ALONG, column_groups
from whichmin.studies.remarks import told_once

if TYPE_CHECKING:
    import pandas as pd

    from whichmin.report.optimizer_distances import OptimizerDistances

#: Characters that a line of the table may have.
WIDTH = 100
#: Up to so many entries have a column of their own.
MAX_COLUMNS = 5

#: What every entry shows where optimizers are compared.
_BRIEF = (
    ("learning_rate", "learning rate"),
    ("steps_trained", "steps"),
    ("test_loss_trained", "test error"),
    ("test_loss_relinearized", "predicted"),
    ("accuracy_trained", "accuracy"),
    ("accuracy_relinearized", "predicted"),
    ("mse_to_trained_relinearized", "distance"),
    ("speedup", "speedup"),
)


def headline(experiment: Experiment) -> str:
    """What was asked, in a line."""
    classes = experiment.chosen_classes
    parts = [experiment.data if classes is None else f"{experiment.data} {_against(classes)}"]
    parts.append(_points(experiment))
    if experiment.model is not None:
        parts.append(experiment.model)
    else:
        layers = " and ".join("-".join(map(str, widths)) for widths in experiment.networks)
        parts.append(f"{experiment.network} {layers}, {experiment.activation}")
    if len(experiment.scales) > 1:
        parts.append(f"scales {', '.join(f'{scale:g}' for scale in experiment.scales)}")
    names = labels(experiment.optimizer)
    parts.append("gradient descent" if names == ["sgd"] else ", ".join(names))
    if experiment.loss != "mse":
        parts.append(experiment.loss)
    sizes = experiment.batch_sizes
    if sizes != (None,):
        parts.append(f"batches of {', '.join('all' if size is None else str(size) for size in sizes)}")
    return " · ".join(parts)


def _points(experiment: Experiment) -> str:
    """How many points train and test; a table's rows are not counted yet."""
    train, test, share = experiment.n_train, experiment.n_test, experiment.test
    if train is not None and test is not None:
        return f"{train} training and {test} test points"
    if train is not None:
        return f"{train} training points and {share:.0%} of the rows to test on"
    if test is not None:
        return f"{test} test points and all other rows to train on"
    return f"{1 - share:.0%} of the rows to train on and {share:.0%} to test on"


def _against(classes: Sequence[int | str]) -> str:
    return f"{classes[0]} against {classes[1]}" if len(classes) == 2 else ", ".join(map(str, classes))


def format_table(frame: pd.DataFrame, optimizers: Sequence[str] = (), loss: str = "", way: str = ALONG) -> str:
    """The table with quantities as rows and entries as columns, mean ± standard deviation last.

    Args:
        frame: of :func:`whichmin.studies.experiment.table`.
        optimizers: several, whose means ± standard deviations are the columns then.
        loss: what the test error is.
        way: that of the relinearized predictions, see :func:`whichmin.studies.experiment.summary.way_of`.

    Returns:
        Lines, aligned. More than ``MAX_COLUMNS`` entries are summed up by their least and greatest value, columns that
        do not fit beside each other are set below each other.
    """
    if len(optimizers) > 1:
        return _by_optimizer(frame, optimizers, loss, way)
    labels = [str(label) for label in frame.index if label not in ("mean", "sd")]
    few, several = len(labels) <= MAX_COLUMNS, len(labels) > 1
    header = (labels if few else ["least", "greatest"]) + (["mean ± sd"] if several else [])

    def cells(name: str) -> list[str]:
        *values, mean, sd = (float(v) for v in frame[name])
        known = [value for value in values if not math.isnan(value)]
        shown = [_cell(name, value) for value in (values if few else (min(known), max(known)))]
        return shown + ([f"{_cell(name, mean)} ± {_spread(mean, sd)}"] if several else [])

    return "\n".join(aligned(_rows(frame.loc[labels], header, cells, loss, way)))


def _by_optimizer(frame: pd.DataFrame, optimizers: Sequence[str], loss: str, way: str) -> str:
    sums = {name: (frame.loc[f"{name}, mean"], frame.loc[f"{name}, sd"]) for name in optimizers}
    entries = frame.loc[[i for i in frame.index if not str(i).endswith((", mean", ", sd"))]]

    def cells_of(names: Sequence[str]) -> Callable[[str], list[str]]:
        def cell(name: str, quantity: str) -> str:
            mean, sd = (float(part[quantity]) for part in sums[name])
            return _cell(quantity, mean) + ("" if math.isnan(sd) else f" ± {_spread(mean, sd)}")

        return lambda quantity: [cell(name, quantity) for name in names]

    def block(names: Sequence[str]) -> list[str]:
        return aligned(_rows(entries, names, cells_of(names), loss, way))

    blocks, left = [], list(optimizers)
    while left:
        count = next((n for n in range(len(left), 1, -1) if max(map(len, block(left[:n]))) <= WIDTH), 1)
        blocks.append("\n".join(block(left[:count])))
        left = left[count:]
    shown = [(name, text) for name, text in _BRIEF if name in entries]
    brief = [["", *(text for _, text in shown)]]
    brief += [[str(label), *(_cell(name, float(row[name])) for name, _ in shown)] for label, row in entries.iterrows()]
    return "\n\n".join([*blocks, "\n".join(aligned(brief))])


def _rows(
    entries: pd.DataFrame, header: Sequence[str], cells: Callable[[str], list[str]], loss: str, way: str
) -> list[list[str]]:
    """A header, and the groups of quantities of which any entry has one."""
    rows: list[list[str]] = [["", *header]]
    for title, quantities in column_groups(way).items():
        lines = [
            (text, cells(name))
            for name, text in quantities.items()
            if name in entries and not all(math.isnan(float(v)) for v in entries[name])
        ]
        named = f"{title} ({loss})" if title == "test error" and loss else title
        rows += [[named]] if lines else []
        rows += [[f"  {text}", *values] for text, values in lines]
    return rows


def format_distances(distances: OptimizerDistances) -> str:
    """The matrices of root mean square distances between optimizers, the predicted ones below the trained ones."""
    parts = []
    for title, rows in distances.tables:
        table = [["", *distances.names]]
        table += [[name, *(number(float(value)) if value else "–" for value, _ in cells)] for name, cells in rows]
        heading = f"distance between optimizers (root mean square of outputs), {title.lower()}"
        parts.append("\n".join([heading, *aligned(table)]))
    return "\n\n".join(parts)


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


def _cell(name: str, value: float) -> str:
    """A number of the table; counts of steps are whole."""
    is_count = name.startswith("steps") and math.isfinite(value) and value.is_integer()
    return f"{value:,.0f}" if is_count else number(value)


def _spread(mean: float, sd: float) -> str:
    """Two digits of a standard deviation; one that is only rounding is 0."""
    if sd <= 1e-9 * abs(mean):
        return "0"
    return number(sd) if sd < 1e-3 or sd >= 100 else f"{sd:#.2g}".rstrip(".")


def to_json(
    frame: pd.DataFrame, entries: Sequence[Entry] = (), distances: OptimizerDistances | None = None
) -> dict[str, Any]:
    """The table's numbers as JSON has them: unknown ones are null.

    Args:
        frame: of :func:`whichmin.studies.experiment.table`.
        entries: what it is of.
        distances: between the optimizers.

    Returns:
        ``seeds``, a list of entries, each with the ``method`` of its relinearized prediction; ``mean`` and ``sd``, or
        with several optimizers ``optimizers``, these by name, and ``apart``, the distances.
    """
    rows = {str(label): finite(row.to_dict()) for label, row in frame.iterrows()}
    known = {entry.label: entry for entry in entries}
    several = {name for entry in entries if (name := entry.optimizer) is not None and f"{name}, mean" in rows}
    names = [name for name in dict.fromkeys(e.optimizer for e in entries) if name in several]
    sums = {name: {part: rows.pop(f"{name}, {part}") for part in ("mean", "sd")} for name in names}
    ends: dict[str, Any] = {"optimizers": sums} if sums else {part: rows.pop(part) for part in ("mean", "sd")}
    if distances is not None:
        matrices = {"trained": distances.trained, "predicted": distances.predicted}
        ends["apart"] = {"optimizers": distances.names} | matrices
    return {"seeds": [{"label": label} | _about(known.get(label)) | row for label, row in rows.items()]} | ends


def _about(entry: Entry | None) -> dict[str, Any]:
    if entry is None:
        return {}
    method = None if entry.relinearized is None else entry.relinearized.method
    failed = None if entry.failure is None else str(entry.failure)
    return {"optimizer": entry.optimizer, "failed": failed, "method": method}


def notes(entries: Sequence[Entry]) -> list[str]:
    """What a reader should know: what failed, what predictions remarked, and training that did not get there."""
    remarks: dict[str, list[tuple[str, str]]] = {}
    for entry in entries:
        of_optimizer = remarks.setdefault(entry.optimizer or "", [])
        if entry.failure is not None:
            of_optimizer.append((f"{entry.label} failed", str(entry.failure)))
        of_optimizer += [(entry.label, note) for note in entry.notes]
        for part in (entry.linearized, entry.relinearized, entry.run):
            of_optimizer += [(entry.label, note) for note in (part.notes if part else ())]
        if entry.run is not None and not entry.run.converged:
            of_optimizer.append((entry.label, entry.run.reason))
    return told_once(remarks, "seed")

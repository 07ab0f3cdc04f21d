"""The result of :func:`whichmin.sweep`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from whichmin.errors import ResultError
from whichmin.jobs.store import Failure, Question, Store
from whichmin.shown import Shown
from whichmin.studies.sweeping.grid import COLUMNS, Cell
from whichmin.studies.sweeping.run import Kind

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the table by kind of run: its name, and what the run calls it.
MEASURED: dict[Kind, dict[str, str]] = {
    "predicted": {
        "learning_rate": "learning_rate",
        "method": "method",
        "intervals": "intervals",
        "steps_predicted": "steps",
        "train_loss_predicted": "train_loss",
        "validation_loss_predicted": "validation_loss",
        "test_loss_predicted": "test_loss",
        "accuracy_predicted": "accuracy",
        "estimated_error": "error",
        "test_loss_interpolant": "test_loss_interpolant",
        "chosen_scale": "chosen_scale",
    },
    "trained": {
        "steps_trained": "steps",
        "train_loss_trained": "train_loss",
        "validation_loss_trained": "validation_loss",
        "test_loss_trained": "test_loss",
        "accuracy_trained": "accuracy",
        "reached": "reached",
    },
}
#: Columns that are whole numbers, or missing.
_WHOLE = ("batch_size", "intervals", "n_train", "n_test")


@dataclass(frozen=True, eq=False)
class Done:
    """One run of a cell.

    Attributes:
        question: what names it in the store.
        numbers: what it measured; None where it failed.
        failure: why it failed; None where it did not.
        mse: mean square distance of the test outputs to the prediction's, of a trained network.
    """

    question: Question
    numbers: Mapping[str, Any] | None
    failure: Failure | None = None
    mse: float = math.nan


@dataclass(frozen=True, eq=False)
class Sweep(Shown):
    """All cells of a grid.

    Attributes:
        cells: the cells, in the order of the grid: the last of its keys and then the seeds change fastest.
        keys: the keys of the grid.
        runs: of each cell, by kind: "predicted", "trained".
        store: the folder of the runs.
        notes: what the runs remarked.
        reused: how many runs were finished before, and read from the store.
    """

    cells: tuple[Cell, ...] = field(repr=False)
    keys: tuple[str, ...]
    runs: tuple[Mapping[str, Done], ...] = field(repr=False)
    store: str
    notes: tuple[str, ...] = ()
    reused: int = 0

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed, a sentence each."""
        return tuple(
            f"{self.label(i)} could not be {kind}: {done.failure}"
            for i, runs in enumerate(self.runs)
            for kind, done in runs.items()
            if done.failure is not None
        )

    @property
    def distinct(self) -> set[str]:
        """The names of all runs in the store; cells may share some."""
        return {done.question.name for runs in self.runs for done in runs.values()}

    @property
    def seconds(self) -> float:
        """What all runs took together, wherever and whenever they were done."""
        numbers = [done.numbers for runs in self.runs for done in runs.values() if done.numbers is not None]
        return sum(float(n["seconds"]) for n in numbers)

    def label(self, row: int) -> str:
        """What tells a cell from the others, such as ``scale=0.5, seeds=3``."""
        return label_of(self.cells[row], varied_keys(self.cells, self.keys))

    def arrays(self, row: int, kind: Kind = "predicted") -> dict[str, Tensor]:
        """What a run measured beside its numbers, read from the store.

        ``test`` are the test outputs, (n_test, C); ``curve_steps`` and ``curve_losses`` the training curve, (T,) each;
        of predictions ``interpolant``, the interpolator at the test points; with remedies ``validation``, the outputs
        on the points held out, and of ``scale_search`` the ``search_scales`` with their ``search_losses``.

        Raises:
            ResultError: that run failed, was not asked for, or is not in the store any more.
        """
        done = self.runs[row].get(kind)
        if done is None or done.numbers is None:
            why = "was not asked for" if done is None else f"failed: {done.failure}"
            raise ResultError(f"{self.label(row)} has no {kind} run: it {why}")
        found = Store.existing(self.store).read(done.question, lambda _, __, arrays: arrays)
        if found is None:
            raise ResultError(f"the {kind} run of {self.label(row)} is not in {self.store} any more: sweep again.")
        return found

    def outputs(self, kind: Kind = "predicted") -> list[Tensor | None]:
        """The test outputs of every cell, (n_test, C) each; None where there are none."""
        there = [runs.get(kind) for runs in self.runs]
        return [
            self.arrays(row, kind).get("test") if done is not None and done.numbers is not None else None
            for row, done in enumerate(there)
        ]

    def to_frame(self) -> pd.DataFrame:
        """A row for each cell, in the order of the grid: the keys of the grid, what was measured, and what failed.

        A full batch has no ``batch_size``. It is the same however often the sweep was interrupted: nothing in it
        depends on when and where a run was done.

        Columns, where anything has them: ``learning_rate``; of the prediction ``method``, ``intervals``,
        ``steps_predicted``, ``train_loss_predicted``, ``validation_loss_predicted``, ``test_loss_predicted``,
        ``accuracy_predicted``, ``estimated_error`` (root mean square, in the units of the outputs),
        ``test_loss_interpolant``, ``chosen_scale``; of the training ``steps_trained``, ``train_loss_trained``,
        ``validation_loss_trained``, ``test_loss_trained``, ``accuracy_trained``, ``reached``; ``mse_to_trained``, the
        mean square on the test points of the prediction's outputs minus the trained network's; ``failure``, why a run
        failed.
        """
        import pandas as pd

        columns: dict[str, Any] = {COLUMNS.get(key, key): [cell.value(key) for cell in self.cells] for key in self.keys}
        for kind, names in MEASURED.items():
            told = [runs[kind].numbers if kind in runs else None for runs in self.runs]
            for column, name in names.items():
                values = [None if numbers is None else numbers.get(name) for numbers in told]
                if any(value is not None for value in values):
                    columns.setdefault(column, values)
        if any("trained" in runs for runs in self.runs):
            columns["mse_to_trained"] = [runs["trained"].mse if "trained" in runs else math.nan for runs in self.runs]
        columns["failure"] = [
            "; ".join(f"{kind}: {done.failure}" for kind, done in runs.items() if done.failure is not None)
            for runs in self.runs
        ]
        return pd.DataFrame({name: _column(name, values) for name, values in columns.items()})

    def _finding(self) -> Sequence[str]:
        failed = sum(done.failure is not None for runs in self.runs for done in runs.values())
        count = sum(map(len, self.runs))
        said = f"{count} runs of {len(self.cells)} cells" + (f", {failed} of which failed." if failed else ".")
        kind: Kind = "trained" if any("trained" in runs for runs in self.runs) else "predicted"
        losses = [_test_loss(runs.get(kind)) for runs in self.runs]
        known = [i for i, loss in enumerate(losses) if not math.isnan(loss)]
        if not known:
            return [said]
        best = min(known, key=losses.__getitem__)
        return [said, f"The {kind} test error is least, {losses[best]:.3g}, at {self.label(best)}."]


def varied_keys(cells: Sequence[Cell], keys: Sequence[str]) -> list[str]:
    """The keys whose values tell cells from each other; the initialization where there is one cell."""
    return [key for key in keys if any(cell.value(key) != cells[0].value(key) for cell in cells)] or ["seeds"]


def label_of(cell: Cell, keys: Sequence[str]) -> str:
    """The values of some keys, such as ``scale=0.5, initialization=3``."""
    return ", ".join(f"{COLUMNS.get(key, key)}={_said(cell.value(key))}" for key in keys)


def _test_loss(done: Done | None) -> float:
    return math.nan if done is None or done.numbers is None else float(done.numbers.get("test_loss", math.nan))


def _said(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _column(name: str, values: list[Any]) -> Any:
    import pandas as pd

    if name in _WHOLE:
        return pd.array(values, dtype="Int64")
    if all(value is None or (isinstance(value, float | int) and not isinstance(value, bool)) for value in values):
        whole = all(isinstance(value, int) for value in values)
        return values if whole else [math.nan if value is None else float(value) for value in values]
    return values

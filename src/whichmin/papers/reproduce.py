"""``reproduce``: measure the figures that are asked for, judge their claims, draw them, and write it all down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whichmin.errors import OutputError
from whichmin.jobs.executors import Processes, as_executor, check_count, workers_of
from whichmin.jobs.perform import Attempt, Terms, perform
from whichmin.jobs.progress import progress_bar
from whichmin.jobs.store import Store
from whichmin.papers.claims import Verdict
from whichmin.papers.figure import PaperFigure, Size, find
from whichmin.papers.measure import Measurement
from whichmin.report.palette import styled
from whichmin.report.panel import HEIGHT, panels
from whichmin.storage import write_text
from whichmin.studies.sweeping.run import Measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: What a kind of measurement is called in a heading.
KINDS = {"predicted": "Predicted", "trained": "Trained", "measured": "Measured"}
#: What a prediction knows of a network, and what tells the network and its data.
_THEORY = ("interpolator", "initialization")
_SUBJECT = ("data", "n_train", "width", "depth", "scale", "seed", "optimizer", "batch_size", "order")
#: Inches that a panel is wide.
PANEL = 3.7
DOTS = 144


@dataclass(frozen=True, eq=False)
class Reproduced:
    """A figure made again.

    Attributes:
        figure: which one.
        tables: of each kind of measurement, a row for each, arrays included.
        verdicts: of each kind, in the order of the claims; without those that another kind alone can measure.
        failures: what could not be measured, a sentence each.
        seconds: what all measurements took.
    """

    figure: PaperFigure
    tables: dict[str, pd.DataFrame]
    verdicts: dict[str, list[Verdict]]
    failures: tuple[str, ...]
    seconds: float

    def to_frame(self) -> pd.DataFrame:
        """The numbers: a row for each measurement, without arrays."""
        import pandas as pd

        whole: Any = pd.concat(list(self.tables.values()), ignore_index=True)
        return whole[[name for name in whole if not whole[name].map(_is_array).any()]]

    def plot(self) -> Figure:
        """The figure, a row of panels for each kind of measurement."""
        return _drawn(self)


def reproduce(
    names: Sequence[str],
    out: str | os.PathLike[str],
    size: Size = Size(),  # noqa: B008
    *,
    executor: Executor | Any | None = None,
    workers: int | None = None,
    retry: bool = False,
    progress: bool = False,
) -> list[Reproduced]:
    """Make figures of the papers again and judge their claims.

    Measurements are kept in ``out`` as they are finished: the same call again goes on from there.

    Args:
        names: ``which-minimizer/fig2``, ``initialization``, or a paper for all of its figures.
        out: the folder; of each figure it gets NAME.png, .svg and .csv, and ``reproduction.html`` and ``claims.csv``
            of all.
        size: how large the study is, and whether it predicts, trains, or does both.
        executor: any ``concurrent.futures.Executor``; None for processes of this machine.
        workers: how many processes; 0 for none, to measure in this one.
        retry: whether what failed before is tried again.
        progress: show a bar with the time left on standard error.

    Returns:
        The figures.

    Raises:
        ConfigError: a figure that does not exist.
        DataError: data that cannot be had; the message says how to get them.
        OutputError: ``out`` cannot be written to.
    """
    asked = find(names)
    check_count(0 if workers is None else workers, "workers", "processes", least=0)
    cells = {figure.path: list(figure.cells(size)) for figure in asked}
    jobs = list(dict.fromkeys(job for figure in asked for job in cells[figure.path]))
    store = Store.open(out)
    with ExitStack() as stack:
        there = None if executor is None else as_executor(executor)
        if executor is None and workers != 0 and jobs:
            there = stack.enter_context(Processes(min(workers or workers_of(1), len(jobs)), 1))
        done = _done(jobs, Terms(store, retry, there, 1), progress)
    found = [_package(figure, cells[figure.path], done) for figure in asked]
    write(found, Path(out), size)
    return found


def _done(jobs: list[Measurement], terms: Terms, progress: bool) -> dict[Measurement, Attempt[Measured]]:
    found = {}
    with progress_bar(len(jobs), "measurement", progress) as bar:
        for number, attempt in perform(jobs, terms):
            found[jobs[number]] = attempt
            bar.update()
    return found


def _package(figure: PaperFigure, cells: list[Measurement], done: dict[Measurement, Attempt[Measured]]) -> Reproduced:
    rows: dict[str, list[dict[str, Any]]] = {}
    failures: dict[str, None] = {}
    for cell in cells:
        attempt = done[cell]
        if attempt.answer is None:
            told = ", ".join(f"{name}={value}" for name, value in cell.arguments.items())
            failures[f"{told}: {attempt.failure}"] = None
            continue
        arrays = {name: tensor.numpy() for name, tensor in attempt.answer.arrays.items()}
        row = {"kind": "measured"} | cell.arguments | attempt.answer.numbers | arrays
        rows.setdefault(str(row["kind"]), []).append(row)
    _share_theory(rows)
    tables = {kind: figure.refine(_table(rows[kind])) for kind in KINDS if kind in rows}
    judged = {kind: [claim.judge(table) for claim in figure.claims] for kind, table in tables.items()}
    seen = {v.claim for of_kind in judged.values() for v in of_kind if v.count}
    verdicts = {k: [v for v in of_kind if v.count or v.claim not in seen] for k, of_kind in judged.items()}
    seconds = sum(float(row.get("seconds", 0.0)) for of_kind in rows.values() for row in of_kind)
    return Reproduced(figure, tables, verdicts, tuple(failures), seconds)


def _share_theory(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Give trained networks what the theory says of the same initialization: interpolator and initialization term."""
    known = {_key(row): row for row in rows.get("predicted", []) if "interpolator" in row}
    for row in rows.get("trained", []):
        if (predicted := known.get(_key(row))) is not None:
            row |= {name: predicted[name] for name in _THEORY}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _SUBJECT)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {name: [row.get(name) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)}
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and getattr(value, "ndim", 0) > 0


@styled
def _drawn(found: Reproduced) -> Figure:
    rows, columns = max(1, len(found.tables)), found.figure.panels
    figure, axes = panels(None, (PANEL * max(columns, 1.25), HEIGHT * rows), rows, columns)
    for i, (kind, table) in enumerate(found.tables.items()):
        mine = axes[i * columns : (i + 1) * columns]
        found.figure.draw(mine, table)
        if len(found.tables) > 1:
            mine[0].set_ylabel(f"{KINDS[kind].lower()}: {mine[0].get_ylabel()}")
    return figure


def write(found: Sequence[Reproduced], out: Path, size: Size) -> Path:
    """The files of all figures; returns that of the page.

    Raises:
        OutputError: they cannot be written.
    """
    from whichmin.papers.page import claims_frame, reproduction_page

    try:
        for one in found:
            place = out / one.figure.paper / one.figure.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if not one.tables:
                continue
            picture = one.plot()
            for ending in ("png", "svg"):
                picture.savefig(
                    place.with_suffix(f".{ending}"), dpi=DOTS, metadata={"Date": None} if ending == "svg" else {}
                )
            write_text(place.with_suffix(".csv"), one.to_frame().to_csv(index=False, lineterminator="\n"))
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror or error}.") from error
    write_text(out / "claims.csv", claims_frame(found).to_csv(index=False, lineterminator="\n"))
    page = out / "reproduction.html"
    write_text(page, reproduction_page(found, size))
    return page

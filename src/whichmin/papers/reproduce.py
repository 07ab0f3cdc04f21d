"""``reproduce``: measure the figures that are asked for, judge their claims, draw them, and write it all down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whichmin.errors import OutputError
from whichmin.jobs.executors import check_count, workplace
from whichmin.jobs.perform import Attempt, Terms
from whichmin.jobs.progress import performed, progress_bar
from whichmin.jobs.store import Store
from whichmin.papers.figure import PaperFigure, Size
from whichmin.papers.measure import Measurement
from whichmin.papers.page import claims_frame, reproduction_page
from whichmin.papers.registry import find
from whichmin.papers.reproduced import KINDS, Reproduced
from whichmin.storage import write_text
from whichmin.studies.experiment.build import build_device
from whichmin.studies.sweeping.run import Measured

if TYPE_CHECKING:
    import pandas as pd

#: What a prediction knows of a network, and what tells the network and its data.
_THEORY = ("interpolator", "initialization")
_SUBJECT = ("data", "n_train", "width", "depth", "scale", "seed", "optimizer", "batch_size", "order")
#: Dots per inch of PNGs.
DOTS = 144


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
        ConfigError: a figure that does not exist; a device that cannot be used.
        DataError: data that cannot be had; the message says how to get them.
        OutputError: ``out`` cannot be written to.
    """
    asked = find(names)
    check_count(0 if workers is None else workers, "workers", "processes", least=0)
    build_device(size.device)
    cells = {figure.path: list(figure.cells(size)) for figure in asked}
    jobs = list(dict.fromkeys(job for figure in asked for job in cells[figure.path]))
    store = Store.open(out)
    with workplace(executor, workers, 1, len(jobs)) as there, progress_bar(len(jobs), "measurement", progress) as bar:
        done = {jobs[number]: attempt for number, attempt in performed(jobs, Terms(store, retry, there, 1), bar)}
    found = [_package(figure, cells[figure.path], done) for figure in asked]
    write(found, Path(out), size)
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


def write(found: Sequence[Reproduced], out: Path, size: Size) -> Path:
    """The files of all figures; returns that of the page.

    Raises:
        OutputError: they cannot be written.
    """
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

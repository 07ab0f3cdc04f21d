"""Tables with named columns: ``.csv`` and ``.parquet`` files, as pandas reads them, and those of OpenML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whichmin.data.openml import read_openml
from whichmin.errors import DataError
from whichmin.formats import OPENML
from whichmin.frames import is_labels
from whichmin.task import Task

if TYPE_CHECKING:
    import pandas as pd


def table_task(
    name: str,
    target: str | None,
    classes: Sequence[int | str] | None,
    test: float | None,
    standardize: bool,
    seed: int,
    n_train: int | None,
    n_test: int | None,
    loss: Any = None,
) -> Task:
    """The task of a table, as :meth:`whichmin.Task.from_frame` makes it.

    Args:
        name: the file, or ``openml:`` and a number.
        target: the column of targets; None for the one that OpenML names.
        classes: the values of the target whose rows are taken; None for all.
        test: the share of rows to test on.
        standardize: whether columns of numbers get mean 0 and standard deviation 1.
        seed: of the split.
        n_train: how many rows to train on; None for all that are not tested on.
        n_test: how many rows to test on; None for the share.
        loss: as for a task.

    Raises:
        DataError: no target, an unreadable file, or a table that makes no task.
    """
    frame, target = _with_target(name, target)
    if classes is not None and target in frame.columns:
        frame = _of_classes(frame, target, classes, name)
    task = Task.from_frame(
        frame,
        target,
        test=test,
        standardize=standardize,
        seed=seed,
        n_train=n_train,
        n_test=n_test,
        loss=loss,
    )
    kept = None if classes is None else list(classes)
    prepared = {"data": name, "seed": seed, "target": target, "classes": kept, "numbers standardized": standardize}
    return replace(task, prepared=prepared)


def has_labels(name: str, target: str | None) -> bool:
    """Whether the target of a table is text or categories, and not numbers.

    Args:
        name: the file, or ``openml:`` and a number.
        target: the column of targets; None for the one that OpenML names.

    Raises:
        DataError: as :func:`table_task`.
    """
    return is_labels(*_with_target(name, target))


def _with_target(name: str, target: str | None) -> tuple[pd.DataFrame, str]:
    frame, usual = read_openml(name) if name.lower().startswith(OPENML) else (read_table(Path(name)), None)
    target = usual if target is None else target
    if target is None:
        columns = ", ".join(map(repr, list(frame.columns)[:50]))
        raise DataError(
            f"{name} is a table: say which column is the target, target={list(frame.columns)[-1]!r} or --target; its "
            f"columns are {columns}."
        )
    return frame, target


def read_table(path: Path) -> pd.DataFrame:
    """The table in a file.

    Raises:
        DataError: it cannot be read, or pandas has nothing installed that reads such files.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except ImportError as error:
        raise DataError(
            f"reading {path} needs pyarrow: pip install pyarrow, or write the table as .csv, frame.to_csv(…)."
        ) from error
    except (OSError, ValueError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"cannot read {path} as a {path.suffix} file: {said}") from error
    if not len(frame.columns) or not len(frame):
        raise DataError(f"{path} holds no rows.")
    return frame


def _of_classes(frame: pd.DataFrame, target: str, classes: Sequence[int | str], name: str) -> pd.DataFrame:
    there = frame[target].unique().tolist()
    for value in classes:
        if value not in there:
            listed = ", ".join(repr(c) for c in there[:10]) + (", …" if len(there) > 10 else "")
            raise DataError(f"the column {target!r} of {name} has no class {value!r}; it has {listed}.")
    return frame.loc[frame[target].isin(list(classes))].reset_index(drop=True)

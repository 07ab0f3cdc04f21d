"""Tables with named columns: ``.csv`` and ``.parquet`` files, as pandas reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whichmin.errors import DataError
from whichmin.task import Task

if TYPE_CHECKING:
    import pandas as pd


def table_task(
    path: Path,
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
        path: the file.
        target: the column of targets.
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
    frame = read_table(path)
    if target is None:
        columns = ", ".join(map(repr, list(frame.columns)[:50]))
        raise DataError(
            f"{path} is a table: say which column is the target, target={list(frame.columns)[-1]!r} or --target; its "
            f"columns are {columns}."
        )
    if classes is not None and target in frame.columns:
        frame = _of_classes(frame, target, classes, path)
    return Task.from_frame(
        frame,
        target,
        test=test,
        standardize=standardize,
        seed=seed,
        n_train=n_train,
        n_test=n_test,
        loss=loss,
    )


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


def _of_classes(frame: pd.DataFrame, target: str, classes: Sequence[int | str], path: Path) -> pd.DataFrame:
    there = frame[target].unique().tolist()
    for value in classes:
        if value not in there:
            listed = ", ".join(repr(c) for c in there[:10]) + (", …" if len(there) > 10 else "")
            raise DataError(f"the column {target!r} of {path} has no class {value!r}; it has {listed}.")
    return frame.loc[frame[target].isin(list(classes))].reset_index(drop=True)

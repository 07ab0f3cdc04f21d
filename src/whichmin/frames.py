"""Data frames of numbers and categories as training and test arrays."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.arrays import check_int64, row_count
from whichmin.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

#: The largest seed that numpy's legacy generator takes, by which scikit-learn splits rows.
LARGEST_SEED = 2**32 - 1
#: How many columns or classes a message lists.
_LISTED = 8


@dataclass(frozen=True, eq=False)
class Split:
    """A frame as training and test rows.

    Attributes:
        X: (N, d), numbers first, in the order of their columns, then a column for each category.
        y: (N,): amounts in a floating-point type, whole numbers and class numbers as int64.
        X_test: (N_test, d); None without test rows.
        y_test: (N_test,); None without test rows.
        classes: the labels by class number; none for a target of numbers.
    """

    X: Tensor
    y: Tensor
    X_test: Tensor | None
    y_test: Tensor | None
    classes: tuple[Any, ...]


def split_frame(
    frame: Any,
    target: Hashable,
    test: float | None,
    standardize: bool,
    seed: int,
    n_train: int | None = None,
    n_test: int | None = None,
) -> Split:
    """Encode a frame and split its rows at random; everything is fitted on the training rows.

    Args:
        frame: rows of examples; no value may be missing.
        target: the column of targets: numbers, or labels as text or categories.
        test: the share of the rows that are kept for testing, rounded to whole rows; the classes of labels have theirs
            as equal as can be. None or 0 for none.
        standardize: whether columns of numbers get mean 0 and standard deviation 1.
        seed: of the split.
        n_train: how many of the rows to train on; None for all that are not tested on.
        n_test: how many rows to test on, in place of the share; None for the share.

    Raises:
        DataError: no such column, columns that are neither numbers nor categories, missing or infinite values, a class
            with a single row or that the split leaves out, a share that is none or leaves no row.
    """
    table = _checked(frame, target)
    if not (isinstance(seed, int | np.integer) and 0 <= seed <= LARGEST_SEED):
        raise DataError(f"seed is {seed!r}; expected a whole number from 0 to {LARGEST_SEED}.")
    kinds = {i: _kind(table.iloc[:, i], table.columns[i]) for i in range(table.shape[1])}
    at = list(table.columns).index(target)
    _check_values(table, kinds)
    y, classes = _labels(table.iloc[:, at], str(target)) if kinds.pop(at) == "category" else (None, ())
    rows = _rows(_sizes(len(table), test, n_train, n_test), len(table), seed, y, classes)
    numbers, categories = ([i for i, kind in kinds.items() if kind == wanted] for wanted in ("number", "category"))
    parts = _numbers(table.iloc[:, numbers], rows, standardize), _one_hot(table.iloc[:, categories], rows)
    X = [torch.from_numpy(np.hstack(pair)).to(torch.get_default_dtype()) for pair in zip(*parts, strict=True)]
    values = _amounts(table.iloc[:, at]) if y is None else torch.from_numpy(y)
    targets = [values[torch.from_numpy(part)] for part in rows]
    if len(rows) == 1:
        return Split(X[0], targets[0], None, None, classes)
    return Split(X[0], targets[0], X[1], targets[1], classes)


def is_labels(frame: pd.DataFrame, target: Hashable) -> bool:
    """Whether a column is of labels, text or categories, and not of numbers.

    Raises:
        DataError: no such column, or one that is of neither.
    """
    column: Any = _checked(frame, target)[target]
    return _kind(column, target) == "category"


def _checked(frame: Any, target: Hashable) -> pd.DataFrame:
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        how = ": frame.to_pandas()" if hasattr(frame, "to_pandas") else ""
        raise DataError(f"got a {type(frame).__name__}; expected a data frame of pandas{how}.")
    names = list(frame.columns)
    if target not in names:
        close = difflib.get_close_matches(str(target), [str(name) for name in names], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(f"the frame has no column {target!r}; its columns are {_listed(names, 50)}.{hint}")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataError(f"several columns are called {_listed(twice)}: rename them, frame.columns = […].")
    if len(names) == 1:
        raise DataError(f"the frame has no column besides the target {target!r}: there is nothing to predict from.")
    if frame.empty:
        raise DataError("the frame has no rows.")
    return frame


def _kind(column: pd.Series, name: Hashable) -> Literal["number", "category"]:
    """Whether a column is of numbers or of categories.

    Raises:
        DataError: it is of neither.
    """
    import pandas as pd
    from pandas.api import types

    dtype, is_object = column.dtype, types.is_object_dtype(column.dtype)
    if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
        return "number"
    is_text = isinstance(dtype, pd.CategoricalDtype | pd.StringDtype)
    if is_text or (is_object and all(isinstance(v, str) for v in column.dropna())):
        return "category"
    kinds = sorted({type(v).__name__ for v in column.dropna()}) if is_object else []
    what = f"objects ({', '.join(kinds[:3])})" if kinds else str(dtype)
    raise DataError(
        f"column {name!r} holds {what}; expected numbers, text or categories: make it numbers, "
        f"pd.to_numeric(frame[{name!r}]), or categories, frame[{name!r}].astype(str), or drop it, "
        f"frame.drop(columns={[name]!r})."
    )


def _check_values(table: pd.DataFrame, kinds: dict[int, str]) -> None:
    """Refuse missing and infinite values, by column."""
    missing = {c: int(k) for c, k in zip(table.columns, table.isna().sum(), strict=True) if k}
    if missing:
        raise DataError(
            f"values are missing in {_counted(missing)} of {len(table)} rows: drop these rows, frame.dropna(), or fill "
            "them, frame.fillna(…)."
        )
    columns = {table.columns[i]: table.iloc[:, i].to_numpy(np.float64) for i, kind in kinds.items() if kind == "number"}
    infinite = {c: int(k) for c, v in columns.items() if (k := np.isinf(v).sum())}
    if infinite:
        raise DataError(f"values are infinite in {_counted(infinite)} of {len(table)} rows: replace or drop them.")


def _labels(column: pd.Series, name: str) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Class numbers and the labels: in their categories' order, or else in that of the alphabet."""
    values = column.astype("category").cat.remove_unused_categories()
    classes = tuple(values.cat.categories.tolist())
    if len(classes) < 2:
        raise DataError(f"all rows of the target {name!r} are {next(iter(classes))!r}: there is nothing to tell apart.")
    return values.cat.codes.to_numpy().astype(np.int64), classes


def _amounts(column: pd.Series) -> Tensor:
    from pandas.api import types

    if len(column) > 1 and column.nunique() == 1:
        raise DataError(f"all rows of the target {column.name!r} are {column.iloc[0]}: there is nothing to tell apart.")
    if types.is_float_dtype(column.dtype):
        return torch.from_numpy(column.to_numpy(np.float64).copy()).to(torch.get_default_dtype())
    check_int64(column.max(), str(column.name))
    return torch.from_numpy(column.to_numpy(np.int64).copy())


def _sizes(n: int, test: float | None, n_train: int | None, n_test: int | None) -> tuple[int, int]:
    """How many rows to train on and to test on."""
    share = 0.0 if test is None else test
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < 1:
        raise DataError(f"test is {test!r}; expected the share of rows to test on, from 0 to below 1, or None.")
    n_train, n_test = row_count(n_train, "n_train"), row_count(n_test, "n_test")
    tested = round(share * n) if n_test is None else n_test
    trained = n - tested if n_train is None else n_train
    if (share > 0 and n_test is None and tested == 0) or trained < 1 or tested < 0 or trained + tested > n:
        how = f"test = {share:g}" if n_test is None else f"n_test = {n_test}"
        how += "" if n_train is None else f" and n_train = {n_train}"
        raise DataError(f"{how} of {n} rows leave {trained} to train on and {tested} to test on: change the share.")
    return trained, tested


def _rows(
    sizes: tuple[int, int], n: int, seed: int, y: NDArray[np.int64] | None, classes: Sequence[Any]
) -> list[NDArray[np.int64]]:
    """The training rows and the test rows, in their order; the former alone where there is no test."""
    n_train, n_test = sizes
    if n_train == n:
        return [np.arange(n)]
    if y is not None:
        _check_classes(y, classes, sizes)
    from sklearn.model_selection import train_test_split

    whole, train, test = np.arange(n), n_train, n_test or n - n_train
    strata = y if n_test or test >= len(classes) else None  # too few rows are left to have all classes
    parts = train_test_split(whole, train_size=train, test_size=test, random_state=seed, stratify=strata)
    parts = parts if n_test else parts[:1]
    for part, what in zip(parts, ("training", "test"), strict=False):
        out = [] if y is None else [c for k, c in enumerate(classes) if k not in y[part]]
        if out:
            raise DataError(
                f"the classes {_listed(out)} have too few rows to be among the {len(part)} {what} rows: change the "
                "share of test rows, or drop or join small classes."
            )
    return [np.sort(part) for part in parts]


def _check_classes(y: NDArray[np.int64], classes: Sequence[Any], sizes: tuple[int, int]) -> None:
    counts = np.bincount(y, minlength=len(classes))
    single = [c for c, k in zip(classes, counts, strict=True) if k == 1]
    if single:
        raise DataError(
            f"the classes {_listed(single)} have a single row each, which cannot be both trained and tested on: drop "
            "or join them, or leave out the test, test=None."
        )
    for count, what in zip(sizes, ("train", "test"), strict=True):
        if 0 < count < len(classes):
            raise DataError(
                f"there are {count} rows to {what} on and {len(classes)} classes, so that some are left out: "
                f"{'raise' if what == 'test' else 'lower'} the share of test rows."
            )


def _numbers(table: pd.DataFrame, rows: Sequence[NDArray[np.int64]], standardize: bool) -> list[NDArray[np.float64]]:
    values = table.to_numpy(np.float64)
    parts = [values[part] for part in rows]
    if not standardize or not values.shape[1]:
        return parts
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(parts[0])
    return [np.asarray(scaler.transform(part)) for part in parts]


def _one_hot(table: pd.DataFrame, rows: Sequence[NDArray[np.int64]]) -> list[NDArray[np.float64]]:
    """A column for each category of the training rows; others are zero in all of them."""
    values = table.astype(object).to_numpy()
    parts = [values[part] for part in rows]
    if not values.shape[1]:
        return [np.zeros((len(part), 0)) for part in parts]
    from sklearn.preprocessing import OneHotEncoder

    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(parts[0])
    return [np.asarray(encoder.transform(part)) for part in parts]


def _counted(columns: dict[Any, int]) -> str:
    text = ", ".join(f"{name!r} ({count})" for name, count in list(columns.items())[:_LISTED])
    return text + (", …" if len(columns) > _LISTED else "")


def _listed(names: Sequence[Any], most: int = _LISTED) -> str:
    return ", ".join(repr(name) for name in names[:most]) + (", …" if len(names) > most else "")

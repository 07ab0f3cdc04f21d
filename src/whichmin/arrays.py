"""What users pass as arrays, as dense real tensors: tensors, numpy arrays, lists, data frames and series of numbers."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from whichmin.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

#: A tensor where the caller passed what it is of, such as a test set, and None else. To a type checker it is a tensor,
#: so that a caller who has a test set need not check.
TensorIfKnown: TypeAlias = Tensor | Any
#: How many columns, or different values, a message lists.
_LISTED = 5


def as_tensor(value: Any, name: str, floating: torch.dtype | None = None) -> Tensor:
    """A value as a dense tensor of real numbers without a graph.

    Args:
        value: a tensor, an array, a list of numbers, of lists, of tensors or of arrays, a data frame or a series.
        name: what messages call it.
        floating: the type of data frames, series and lists of numbers, by default torch's floating-point type; those of
            integers and booleans alone are int64 and bool.

    Raises:
        DataError: sparse, complex or masked values, text, columns that are not numbers (named), or what torch cannot
            read.
    """
    if _is_scipy_sparse(value):
        raise DataError(f"{name} is sparse (scipy's {type(value).__name__}); expected dense rows: {name}.toarray().")
    if is_frame(value):
        return _of_frame(value, name, floating or torch.get_default_dtype())
    if isinstance(value, list | tuple) and value:
        value = _stacked(value, name)
    value = _numbers(value, name)
    if isinstance(value, np.ndarray):
        value = _readable(value, name)
    try:
        tensor = torch.as_tensor(value)
        if floating is not None and isinstance(value, list | tuple) and tensor.is_floating_point():
            tensor = torch.as_tensor(value, dtype=floating)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} is a {type(value).__name__} that torch.as_tensor cannot read: {error}. Expected a tensor, an "
            "array, nested lists of one length or a data frame, of numbers, one row per example."
        ) from error
    tensor = tensor.detach()
    if tensor.is_inference():  # which autograd could not use later
        with torch.inference_mode(False):
            tensor = tensor.clone()
    check_dense(tensor, name)
    if tensor.is_quantized or (tensor.is_floating_point() and tensor.element_size() < 2):
        how = "dequantize()" if tensor.is_quantized else "float()"
        raise DataError(f"{name} is {tensor.dtype}, a type for storage; expected numbers: {name}.{how}.")
    if tensor.is_complex():
        raise DataError(f"{name} is complex ({tensor.dtype}); whichmin works on real numbers.")
    return tensor


def is_frame(value: Any) -> bool:
    """Whether it is a data frame or a series of pandas, which need not be installed."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)


def _of_frame(value: pd.DataFrame | pd.Series, name: str, dtype: torch.dtype) -> Tensor:
    from pandas.api import types

    frame: Any = value.to_frame() if value.ndim == 1 else value
    pairs = [(column, frame.iloc[:, i].dtype) for i, column in enumerate(frame.columns)]
    other = [(c, t) for c, t in pairs if not (types.is_numeric_dtype(t) or types.is_bool_dtype(t))]
    other += [(c, t) for c, t in pairs if types.is_complex_dtype(t)]
    if other:
        text = ", ".join(f"{c!r} ({t})" for c, t in other[:_LISTED]) + (", …" if len(other) > _LISTED else "")
        if value.ndim == 1:
            raise DataError(f"{name} is a series of {pairs[0][1]}; expected numbers. {_encode(name)}")
        names = [c for c, _ in other[:_LISTED]]
        raise DataError(
            f"{name} has columns that are not numbers: {text}. Encode categories, pd.get_dummies({name}, "
            f"columns={names!r}, dtype=float), turn dates into numbers, or drop them, {name}.drop(columns={names!r})."
        )
    whole = all(types.is_integer_dtype(t) or types.is_bool_dtype(t) for _, t in pairs)
    whole = whole and not bool(frame.isna().any(axis=None))
    if whole and frame.size:
        check_int64(frame.max(axis=None), name)
    array = value.to_numpy(dtype=np.int64) if whole else value.to_numpy(dtype=np.float64, na_value=np.nan)
    tensor = torch.from_numpy(np.array(array))
    return tensor if whole else tensor.to(dtype)


def _numbers(value: Any, name: str) -> Any:
    """An array of objects that are numbers as an array of numbers; text is refused."""
    if not isinstance(value, np.ndarray | list | tuple):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OUS":
        return value
    if isinstance(value, np.ndarray) and value.ndim == 2:
        _check_columns(value, name)
    first = _first(value)
    if isinstance(first, str | bytes):
        raise DataError(f"{name} holds text, such as {str(first)!r}; expected numbers. {_encode(name)}")
    if not isinstance(value, np.ndarray):
        return value
    try:
        return np.array(value.tolist(), dtype=None if _are_numbers(value) else np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} is an array of objects ({type(first).__name__}); expected numbers: {name}.astype(float)."
        ) from error


def _readable(array: np.ndarray, name: str) -> np.ndarray:
    """An array as torch reads it: of the machine's byte order, forward strides, one of torch's types, its own memory.

    Raises:
        DataError: a masked or structured array, or numbers beyond 64 bits.
    """
    if isinstance(array, np.ma.MaskedArray):
        count = int(np.ma.getmaskarray(array).sum())
        raise DataError(
            f"{name} is a masked array, {count} of its {array.size} entries masked: fill them, {name}.filled(…), or "
            f"drop their rows; where none is masked, {name}.data."
        )
    if array.dtype.names:
        raise DataError(
            f"{name} is a structured array of the fields {', '.join(map(repr, array.dtype.names[:_LISTED]))}; expected "
            f"numbers: numpy.lib.recfunctions.structured_to_unstructured({name})."
        )
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.uint64 and array.size:
        check_int64(array.max(), name)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    # Torch warns of memory that may not be written to, and refuses steps backwards or across fields.
    strange = not array.flags.writeable or any(s < 0 or s % array.itemsize for s in array.strides)
    return array.copy() if strange else array


def check_int64(largest: Any, name: str) -> None:
    """Refuse whole numbers of which the largest is beyond int64.

    Raises:
        DataError: says which.
    """
    if int(largest) > np.iinfo(np.int64).max:
        raise DataError(f"{name} holds the whole number {int(largest)}, beyond int64: {name}.astype(float).")


def _first(value: Any) -> Any:
    while isinstance(value, np.ndarray | list | tuple) and len(value):
        value = value[0]
    return value


def _check_columns(value: np.ndarray, name: str) -> None:
    """Name the columns of an array of objects that are not numbers, where others are."""
    strange = {i: v for i in range(value.shape[1]) for v in value[:, i][::-1] if not _is_number(v)}
    if 0 < len(strange) < value.shape[1]:
        text = ", ".join(f"{i} ({type(v).__name__}, such as {v!r})" for i, v in list(strange.items())[:_LISTED])
        raise DataError(
            f"{name} is an array of objects whose columns {text} are not numbers: encode or drop them, such as with "
            "pandas and Task.from_frame."
        )


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | np.number | np.bool_)


def _are_numbers(value: np.ndarray) -> bool:
    return all(isinstance(v, bool | int | float | np.number | np.bool_) for v in value.ravel())


def _stacked(rows: Sequence[Any], name: str) -> Any:
    """Rows that are tensors, or arrays, as one; others as they are."""
    for kind, what, stack in ((Tensor, "tensors", torch.stack), (np.ndarray, "arrays", np.stack)):
        if all(isinstance(row, kind) for row in rows):
            try:
                return stack(list(rows))
            except (TypeError, ValueError, RuntimeError) as error:
                function = f"{stack.__module__.split('.')[0]}.stack"
                raise DataError(f"{name} is a list of {what} that {function} cannot join: {error}") from error
    return rows


def _encode(name: str) -> str:
    """What to do with labels that are text."""
    return (
        f"For classes, names, codes = np.unique({name}, return_inverse=True) numbers them, and 2.0 * "
        "torch.nn.functional.one_hot(torch.tensor(codes)) - 1 are targets, one output per class; of two classes "
        "2.0 * torch.tensor(codes) - 1, one output."
    )


def _is_scipy_sparse(value: Any) -> bool:
    return type(value).__module__.startswith("scipy.sparse")


def row_count(n: Any, name: str) -> int | None:
    """How many rows are asked for; None for all.

    Raises:
        DataError: no whole number, or one below 0.
    """
    if n is None:
        return None
    try:
        count = operator.index(n)
    except TypeError as error:
        raise DataError(f"{name} is {n!r}; expected a whole number of rows, or None for all.") from error
    if count < 0:
        raise DataError(f"{name} is {n}; expected a whole number of rows, or None for all.")
    return count


def check_dense(tensor: Tensor, name: str) -> None:
    """Refuse tensors that are no array.

    Raises:
        DataError: a nested or a sparse one.
    """
    if tensor.is_nested:
        raise DataError(
            f"{name} is a nested tensor, whose rows have different shapes: pad it, {name}.to_padded_tensor(0.0)."
        )
    if tensor.layout is not torch.strided:
        raise DataError(f"{name} is sparse ({tensor.layout}); expected dense rows: {name}.to_dense().")

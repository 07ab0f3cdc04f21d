"""Inputs as users pass them, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whichmin.arrays import as_tensor, check_dense, is_frame
from whichmin.errors import DataError
from whichmin.inputs.inputs import AnyInputs, Inputs, named_tensors
from whichmin.inputs.output import Output


def as_inputs(value: Any, name: str, output: Output | None = None) -> Any:
    """Inputs as they are kept: mappings and tuples of tensors as :class:`Inputs`, anything else as it is.

    Args:
        value: what the user passed.
        name: what messages call it.
        output: which of the model's outputs is meant.

    Raises:
        DataError: an empty mapping or tuple, keys that are no names, values that are no arrays of rows, or different
            numbers of rows.
    """
    if isinstance(value, Inputs):
        return value if output is None else Inputs(value.tensors, output)
    if isinstance(value, Mapping):
        return _checked(Inputs(_by_name(value, name), output), name)
    if isinstance(value, tuple) and any(_is_array(v) for v in value):
        return _checked(Inputs(tuple(_read(v, f"{name}[{i}]") for i, v in enumerate(value)), output), name)
    return value if output is None else Inputs((as_tensor(value, name),), output)


def _by_name(value: Mapping[Any, Any], name: str) -> dict[str, Tensor]:
    if not value:
        raise DataError(f"{name} is an empty mapping; expected tensors by the names of the model's arguments.")
    for key in value:
        if not isinstance(key, str):
            raise DataError(f"{name} has the key {key!r}; expected names of arguments of the model, as 'input_ids'.")
    return {key: _read(v, f"{name}[{key!r}]") for key, v in value.items()}


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) or is_frame(value)


def _read(value: Any, name: str) -> Tensor:
    if not (_is_array(value) or (isinstance(value, list) and value)):
        raise DataError(
            f"{name} is {_kind(value)}; expected a tensor with the rows along axis 0. Leave it out; settings of a call "
            "belong in a module of your own that makes it."
        )
    tensor = as_tensor(value, name)
    if tensor.ndim == 0:
        raise DataError(f"{name} is a single number; expected a tensor with the rows along axis 0.")
    return tensor


def _kind(value: Any) -> str:
    return repr(value) if value is None or isinstance(value, bool | int | float | str) else f"a {type(value).__name__}"


def _checked(X: Inputs, name: str) -> Inputs:
    first, *others = named_tensors(X, name).items()
    for label, tensor in others:
        if len(tensor) != len(first[1]):
            raise DataError(
                f"{label} has {len(tensor)} rows and {first[0]} has {len(first[1])}: rows run along axis 0 of each; "
                "expand what all rows share, tensor.expand(n, -1)."
            )
    return X


def check_inputs(X: Any, name: str) -> None:
    """Refuse inputs that are empty or not finite.

    Raises:
        DataError: which, with the first such row.
    """
    for label, x in named_tensors(X, name).items():
        if isinstance(x, Tensor):
            check_dense(x, label)
        if not isinstance(x, Tensor) or x.ndim == 0 or x.numel() == 0:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise DataError(
                f"{label} is {got}; expected a tensor of at least one row, (n, …), or a mapping or tuple of them."
            )
        if x.is_floating_point() and not math.isfinite(float(x.abs().max())):
            row = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero()[0, 0])
            raise DataError(f"{label} holds NaN or infinity, first in row {row}: drop or impute those rows.")


def pair_of_inputs(x1: Any, x2: Any) -> tuple[AnyInputs, AnyInputs | None]:
    """The two inputs of a kernel, checked; the second is the first where it is the same object.

    Raises:
        DataError: as :func:`as_inputs` and :func:`check_inputs`.
    """
    first = as_inputs(x1, "x1")
    check_inputs(first, "x1")
    if x2 is None or x2 is x1:
        return first, None if x2 is None else first
    second = as_inputs(x2, "x2")
    check_inputs(second, "x2")
    return first, second

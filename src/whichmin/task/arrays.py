"""Arrays as a task stores them, and those that do not belong together."""

from __future__ import annotations

import torch
from torch import Tensor

from whichmin.arrays import as_tensor, is_frame
from whichmin.errors import DataError
from whichmin.inputs import AnyInputs, Inputs, Output, as_inputs, described, named_tensors


def read_inputs(value: object, name: str, output: Output | None) -> AnyInputs:
    """The inputs as they are stored, all on one device.

    Raises:
        DataError: as :func:`whichmin.inputs.as_inputs`; empty, not finite, or on several devices.
    """
    X = as_inputs(value, name, output)
    if isinstance(X, Inputs):
        for label, tensor in named_tensors(X, name).items():
            _check(tensor, label)
            if tensor.device != X.device:
                raise DataError(f"{label} is on {tensor.device} and others on {X.device}: move them to one device.")
        return X
    X = read_tensor(value, name)
    return X.to(torch.get_default_dtype()) if is_frame(value) else X


def read_tensor(value: object, name: str) -> Tensor:
    """An array of rows as a tensor.

    Raises:
        DataError: not of numbers, a single one, empty or not finite.
    """
    return _check(as_tensor(value, name), name)


def _check(tensor: Tensor, name: str) -> Tensor:
    if tensor.ndim == 0:
        raise DataError(f"{name} is a single number; expected one row per example, shape (N, …).")
    if tensor.numel() == 0:
        raise DataError(f"{name} is empty, shape {tuple(tensor.shape)}; expected at least one row and one feature.")
    if tensor.is_floating_point():
        if tensor.is_meta:
            raise DataError(f"{name} is on the meta device and holds no numbers: make it on a device that does.")
        bad = ~torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)
        if bad.any():
            row = int(bad.nonzero()[0, 0])
            raise DataError(
                f"{name} holds NaN or infinity in {int(bad.sum())} of {len(tensor)} rows, first in row {row}: "
                "drop or impute those rows."
            )
    return tensor


def check_index(X: object, y: object, x_name: str, y_name: str) -> None:
    """Refuse a data frame and a series whose rows have other labels."""
    if is_frame(X) and is_frame(y) and not X.index.equals(y.index):  # type: ignore[attr-defined]
        raise DataError(
            f"the index of {y_name} is not that of {x_name}: pass {y_name}.loc[{x_name}.index], or, where the rows "
            f"belong together in their order, {y_name}.to_numpy()."
        )


def check_same_rows(X: AnyInputs, X_test: AnyInputs) -> None:
    """Refuse test inputs of other names, shapes, types or devices than the training inputs."""
    tests, trains = named_tensors(X_test, "X_test"), named_tensors(X, "X")
    if {label.removeprefix("X_test") for label in tests} != {label.removeprefix("X") for label in trains}:
        raise DataError(f"X_test is {described(X_test)} and X is {described(X)}: pass the same arguments for both.")
    for label, train in trains.items():
        test_label = f"X_test{label.removeprefix('X')}"
        test = tests[test_label]
        if train.shape[1:] != test.shape[1:]:
            raise DataError(
                f"the rows of {test_label} have shape {tuple(test.shape[1:])} and those of {label} "
                f"{tuple(train.shape[1:])}: preprocess both alike."
            )
        if train.dtype != test.dtype:
            raise DataError(
                f"{label} is {train.dtype} and {test_label} {test.dtype}: convert one, for example "
                f"{test_label}.to({label}.dtype)."
            )
        if train.device != test.device:
            raise DataError(f"{label} is on {train.device} and {test_label} on {test.device}: move them to one device.")

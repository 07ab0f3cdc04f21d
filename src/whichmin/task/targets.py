"""Targets as a task stores them: amounts, probabilities or class numbers, each checked."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from whichmin.arrays import as_tensor
from whichmin.errors import DataError
from whichmin.inputs import AnyInputs, tensors_of
from whichmin.losses import Loss
from whichmin.losses.cross_entropy import CrossEntropy
from whichmin.task.arrays import read_tensor

#: Integers of at most so many values, or of any number that are 0, 1, 2, …, are taken for class numbers.
MOST_CLASSES = 20


def read_targets(
    value: object, name: str, n: int, inputs: str, X: AnyInputs, loss: Loss
) -> tuple[Tensor, tuple[int, ...]]:
    """The targets as they are stored, and the axes of a row."""
    y = read_tensor(value, name)
    row_shape = tuple(y.shape[1:])
    if len(y) != n:
        raise DataError(f"{name} has {len(y)} rows and {inputs} has {n}: one target per input is expected.")
    is_class = loss.takes_classes and not y.is_floating_point()
    y = y.reshape(len(y), -1)
    if is_class:
        y = y.long()
        y = y[:, 0] if y.shape[1] == 1 else y
    elif not y.is_floating_point():
        types = (t.dtype for t in tensors_of(X) if t.is_floating_point())
        y = y.to(next(types, torch.get_default_dtype()))
    loss.check(y, name)
    return y, row_shape


def class_labels(given: object, loss: Loss, numbers: dict[str, Tensor | None]) -> tuple[Any, ...]:
    """The labels of all classes, where class numbers are within them."""
    weights = loss.weight if isinstance(loss, CrossEntropy) else None
    labels: tuple[Any, ...]
    if given is None:
        largest = max(int(y.max()) for y in numbers.values() if y is not None)
        labels = tuple(range(max(largest + 1, 2) if weights is None else len(weights)))
    else:
        labels = _given_labels(given)
    ignored = loss.ignored if isinstance(loss, CrossEntropy) else -100
    for name, y in numbers.items():
        if y is None:
            continue
        bad = ((y < 0) & (y != ignored)) | (y >= len(labels))
        if bool(bad.any()):
            row = int(bad.reshape(len(y), -1).any(dim=1).nonzero()[0, 0])
            raise DataError(
                f"{name} has class number {int(y[bad][0])} in row {row}; expected 0 to {len(labels) - 1}, for "
                f"{len(labels)} classes. Count classes from 0, or pass classes= with all of them."
            )
    return labels


def _given_labels(given: Any) -> tuple[Any, ...]:
    """The labels of a number of classes, or those of a sequence."""
    try:
        labels = tuple(given) if isinstance(given, Iterable) else tuple(range(operator.index(given)))
    except TypeError:
        labels = ()
    if not labels:
        raise DataError(f"classes is {given!r}; expected the number of classes, or their labels.")
    return labels


def check_weights(loss: Loss, outputs: int) -> None:
    """Refuse weights of another number of classes or outputs."""
    for name in ("weight", "positive", "variance"):
        values = getattr(loss, name, None)
        if isinstance(values, tuple) and len(values) != outputs:
            raise DataError(
                f"the loss {loss!r} has {len(values)} numbers for {name}; expected {outputs}, one for each output."
            )


def check_amounts(given: object, y: Tensor) -> None:
    """Refuse class numbers, which the mean square error would take for amounts: integers of few values, three or more.

    Two values are two classes as they are, on either side of the middle.
    """
    if y.shape[1] != 1 or as_tensor(given, "y").is_floating_point():
        return
    values = y.unique()
    k = len(values)
    is_counted = torch.equal(values, torch.arange(k).to(values))
    if not 3 <= k <= len(y) // 2 or (k > MOST_CLASSES and not is_counted):
        return
    listed = ", ".join(f"{v:g}" for v in values[:4].tolist()) + (", …" if k > 4 else "")
    numbers = "torch.as_tensor(y).long()" if is_counted else "torch.unique(torch.as_tensor(y), return_inverse=True)[1]"
    raise DataError(
        f"y holds the integers {listed}: {k} different ones in {len(y)} rows, which the mean square error takes for "
        f"amounts. For classes pass loss=torch.nn.CrossEntropyLoss() with y = {numbers}, or a target for each, "
        f"y = 2.0 * torch.nn.functional.one_hot({numbers}) - 1, with as many outputs of the network; if they are "
        "amounts, torch.as_tensor(y).float()."
    )

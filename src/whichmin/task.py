"""A task: what the network is trained on and where its predictions are looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from whichmin.arrays import as_tensor, is_frame
from whichmin.errors import DataError
from whichmin.losses import Loss, MeanSquaredError, loss_of

#: Integers of at most so many values, or of any number that are 0, 1, 2, …, are taken for class numbers.
MOST_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Task:
    """Training inputs and targets, and test inputs with or without targets.

    Each is a tensor, an array, lists of numbers, or a data frame or series of numbers, which becomes torch's default
    floating-point type.

    Args:
        X: training inputs, (N, …), finite.
        y: training targets, (N,) or (N, C), finite; stored as (N, C), a floating-point type. Integers of three or more
            values that come again and again, as class numbers do, are refused: pass a target for each class, or amounts
            as floating-point numbers.
        X_test: test inputs, (N_test, …), of the shape and type of X; none means that only training outputs are
            predicted.
        y_test: test targets, (N_test,) or (N_test, C); none means that no test error is known.
        loss: what training minimizes: ``torch.nn.MSELoss()``, L = (1/(N·C)) Σ (f − y)², also where nothing is said;
            stored as a :class:`whichmin.losses.Loss`.

    Raises:
        InputError: another loss.
        DataError: an array that is empty, sparse, complex, not of numbers (the message names the columns), not finite
            (it names the array and the first such row), or of a length or shape that does not match; class numbers.
    """

    X: Tensor
    y: Tensor
    X_test: Tensor | None = None
    y_test: Tensor | None = None
    loss: Loss = field(default_factory=MeanSquaredError)

    def __post_init__(self) -> None:
        """Validate once; afterwards every array is finite and the shapes agree."""
        X = _inputs(self.X, "X")
        y = _targets(self.y, "y", len(X), "X", X)
        _check_amounts(self.y, y)
        _check_index(self.X, self.y, "X", "y")
        X_test = None if self.X_test is None else _inputs(self.X_test, "X_test")
        y_test = None
        if X_test is not None:
            _same_rows(X, X_test)
        if self.y_test is not None:
            if X_test is None:
                raise DataError("got y_test without X_test: pass the test inputs that these targets belong to.")
            y_test = _targets(self.y_test, "y_test", len(X_test), "X_test", X_test)
            _check_index(self.X_test, self.y_test, "X_test", "y_test")
            if y_test.shape[1] != y.shape[1]:
                raise DataError(
                    f"y_test has {y_test.shape[1]} outputs per row and y has {y.shape[1]}: encode both alike."
                )
        arrays = {"X": X, "y": y, "X_test": X_test, "y_test": y_test}
        for name, value in (arrays | {"loss": loss_of(self.loss)}).items():
            object.__setattr__(self, name, value)

    @property
    def n(self) -> int:
        """The number of training points N."""
        return len(self.X)

    @property
    def n_test(self) -> int:
        """The number of test points; 0 without a test set."""
        return 0 if self.X_test is None else len(self.X_test)

    @property
    def outputs(self) -> int:
        """The number of outputs per point, C."""
        return self.y.shape[1]

    def contradiction(self) -> tuple[int, int] | None:
        """Two training rows of identical inputs with different targets, or None. Costs a sort of the rows."""
        flat = self.X.reshape(self.n, -1)
        _, group = torch.unique(flat, dim=0, return_inverse=True)
        first: dict[int, int] = {}
        for row, g in enumerate(group.tolist()):
            other = first.setdefault(g, row)
            if other != row and not torch.equal(self.y[other], self.y[row]):
                return other, row
        return None

    def to(self, *args: object, **kwargs: object) -> Task:
        """The task on another device or in another type, as ``Tensor.to``; integer inputs keep their type."""

        def move(t: Tensor | None) -> Tensor | None:
            if t is None:
                return None
            moved = t.to(*args, **kwargs)  # type: ignore[call-overload]
            return moved if t.is_floating_point() else moved.to(t.dtype)

        return Task(move(self.X), move(self.y), move(self.X_test), move(self.y_test), self.loss)  # type: ignore[arg-type]


def _inputs(value: object, name: str) -> Tensor:
    X = _tensor(value, name)
    return X.to(torch.get_default_dtype()) if is_frame(value) else X


def _tensor(value: object, name: str) -> Tensor:
    tensor = as_tensor(value, name)
    if tensor.ndim == 0:
        raise DataError(f"{name} is a single number; expected one row per example, shape (N, …).")
    if tensor.numel() == 0:
        raise DataError(f"{name} is empty, shape {tuple(tensor.shape)}; expected at least one row and one feature.")
    if tensor.is_floating_point():
        bad = ~torch.isfinite(tensor).reshape(len(tensor), -1).all(dim=1)
        if bad.any():
            row = int(bad.nonzero()[0, 0])
            raise DataError(
                f"{name} holds NaN or infinity in {int(bad.sum())} of {len(tensor)} rows, first in row {row}: "
                "drop or impute those rows."
            )
    return tensor


def _targets(value: object, name: str, n: int, inputs: str, X: Tensor) -> Tensor:
    y = _tensor(value, name)
    if len(y) != n:
        raise DataError(f"{name} has {len(y)} rows and {inputs} has {n}: one target per input is expected.")
    if y.ndim > 2:
        raise DataError(f"{name} has shape {tuple(y.shape)}; expected (N,) or (N, C).")
    y = y.reshape(len(y), -1)
    if not y.is_floating_point():
        y = y.to(X.dtype if X.is_floating_point() else torch.get_default_dtype())
    return y


def _check_amounts(given: object, y: Tensor) -> None:
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
        f"amounts. For classes pass a target for each, y = 2.0 * torch.nn.functional.one_hot({numbers}) - 1, with as "
        "many outputs of the network; if they are amounts, torch.as_tensor(y).float()."
    )


def _check_index(X: object, y: object, x_name: str, y_name: str) -> None:
    """Refuse a data frame and a series whose rows have other labels."""
    if is_frame(X) and is_frame(y) and not X.index.equals(y.index):  # type: ignore[attr-defined]
        raise DataError(
            f"the index of {y_name} is not that of {x_name}: pass {y_name}.loc[{x_name}.index], or, where the rows "
            f"belong together in their order, {y_name}.to_numpy()."
        )


def _same_rows(X: Tensor, X_test: Tensor) -> None:
    if X.shape[1:] != X_test.shape[1:]:
        raise DataError(
            f"the rows of X_test have shape {tuple(X_test.shape[1:])} and those of X {tuple(X.shape[1:])}: "
            "preprocess both alike."
        )
    if X.dtype != X_test.dtype:
        raise DataError(f"X is {X.dtype} and X_test {X_test.dtype}: convert one, for example X_test.to(X.dtype).")
    if X.device != X_test.device:
        raise DataError(f"X is on {X.device} and X_test on {X_test.device}: move them to one device.")

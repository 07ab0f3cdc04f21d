"""A task: what the network is trained on and where its predictions are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from whichmin.arrays import as_tensor, is_frame
from whichmin.datasets import draw
from whichmin.decision import Decision
from whichmin.errors import DataError, InputError
from whichmin.frames import split_frame
from whichmin.inputs import (
    AnyInputs,
    Inputs,
    Output,
    as_inputs,
    described,
    moved,
    named_tensors,
    output_of,
    row_groups,
    tensors_of,
)
from whichmin.losses import Loss, MeanSquaredError, Objective, loss_of
from whichmin.losses.cross_entropy import CrossEntropy
from whichmin.losses.general import General
from whichmin.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

#: Integers of at most so many values, or of any number that are 0, 1, 2, …, are taken for class numbers.
MOST_CLASSES = 20


@dataclass(frozen=True, eq=False)
class Task(Shown):
    """Training inputs and targets, and test inputs with or without targets.

    Each is a tensor, an array, lists of numbers, or a data frame or series of numbers, which becomes torch's default
    floating-point type. Inputs may also be several of these: a mapping, of keyword arguments of the model, or a tuple,
    of positional ones; each has the rows along axis 0. They are stored as :class:`whichmin.inputs.Inputs`, which is
    indexed by rows like a tensor (``task.X[:3]``), and by name (``task.X["input_ids"]``).

    Args:
        X: training inputs, (N, …), finite.
        y: training targets, (N,), (N, C) or (N, …), finite; stored as (N, C), a floating-point type, where the axes of
            a row are flattened; the model's outputs are flattened alike. For ``torch.nn.CrossEntropyLoss`` integers are
            class numbers, stored as (N,) int64, or (N, positions) for networks whose outputs are (N, positions, C);
            floating-point numbers are probabilities, (N, C). With the mean square error integers of three or more
            values that come again and again, as class numbers do, are refused: pass that loss, or a target for each
            class, or amounts as floating-point numbers.
        X_test: test inputs, (N_test, …), of the shape and type of X; none means that only training outputs are
            predicted.
        y_test: test targets, in the form of ``y``; none means that no test error is known.
        loss: what training minimizes: ``torch.nn.MSELoss()``, L = (1/(N·C)) Σ (f − y)², also where nothing is said;
            ``CrossEntropyLoss``, ``BCEWithLogitsLoss``, ``HuberLoss``, ``SmoothL1Loss``, ``PoissonNLLLoss``,
            ``GaussianNLLLoss`` (of variance 1, or that of ``partial(GaussianNLLLoss(), var=…)``), each with their
            settings; or any function of outputs (n, C) and targets that is a mean or a sum over rows. Stored as a
            :class:`whichmin.losses.Loss`.
        classes: the classes that class numbers are of: their number, or their labels; by default as many as the largest
            class number, or the loss's weights, say. Stored as a tuple of labels; None without class numbers.
        output: which output is meant where the model returns more than a tensor: the name of a key or an attribute, or
            a function of what it returns, which makes a tensor (N, …) of it. ``logits`` is found by itself. With an
            output, ``X`` is stored as :class:`whichmin.inputs.Inputs`, which knows it.
        row_shape: the axes of a row's targets before they were flattened, where ``y`` is flat already; else taken from
            it.

    Raises:
        InputError: a loss that mixes rows, is not finite or has no gradient; an output that is neither a name nor a
            function.
        DataError: an array that is empty, sparse, complex, not of numbers (the message names the columns), not finite
            (it names the array and the first such row), or of a length or shape that does not match; class numbers
            outside of the classes, or where the loss takes amounts; probabilities that do not add up to one; inputs
            whose numbers of rows differ, or that have other names than the training inputs.
    """

    X: AnyInputs
    y: Tensor
    X_test: AnyInputs | None = None
    y_test: Tensor | None = None
    loss: Loss = field(default_factory=MeanSquaredError)
    classes: Sequence[Any] | None = None
    output: str | Callable[[Any], Any] | None = field(default=None, metadata={"saved": False})
    row_shape: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Validate once; afterwards every array is finite and the shapes agree."""
        loss, output = loss_of(self.loss), Output.of(self.output)
        X = _inputs(self.X, "X", output)
        y, row_shape = _targets(self.y, "y", len(X), "X", X, loss)
        if loss.is_quadratic:
            _check_amounts(self.y, y)
        _check_index(self.X, self.y, "X", "y")
        X_test = None if self.X_test is None else _inputs(self.X_test, "X_test", output)
        y_test = None
        if X_test is not None:
            _same_rows(X, X_test)
        if self.y_test is not None:
            if X_test is None:
                raise DataError("got y_test without X_test: pass the test inputs that these targets belong to.")
            y_test, test_shape = _targets(self.y_test, "y_test", len(X_test), "X_test", X_test, loss)
            _check_index(self.X_test, self.y_test, "X_test", "y_test")
            if len(row_shape) > 1 and len(test_shape) > 1 and row_shape != test_shape:
                raise DataError(f"a row of y_test has shape {test_shape} and one of y {row_shape}: encode both alike.")
            if y_test.shape[1:] != y.shape[1:] or y_test.is_floating_point() != y.is_floating_point():
                raise DataError(
                    f"y_test has rows of shape {tuple(y_test.shape[1:])}, {y_test.dtype}, and y of "
                    f"{tuple(y.shape[1:])}, {y.dtype}: encode both alike."
                )
        classes = None if y.is_floating_point() else _classes(self.classes, loss, {"y": y, "y_test": y_test})
        if classes is None and self.classes is not None:
            raise DataError(f"classes are of class numbers, and y holds {y.dtype} for {loss!r}: leave classes out.")
        if len(row_shape) < 2 and math.prod(self.row_shape) == y[0].numel():
            row_shape = self.row_shape
        arrays = {"X": X, "y": y, "X_test": X_test, "y_test": y_test}
        rest = {"loss": loss, "classes": classes, "output": output_of(X), "row_shape": row_shape}
        for name, value in (arrays | rest).items():
            object.__setattr__(self, name, value)
        _check_weights(loss, self.outputs if classes is None else len(classes))
        if isinstance(loss, General) and loss.function is not None:
            loss.check_rows(y, self.outputs)

    @classmethod
    def from_dataset(
        cls,
        train: Any,
        test: Any = None,
        *,
        n_train: int | None = None,
        n_test: int | None = None,
        seed: int = 0,
        inputs: str | Sequence[str] | None = None,
        target: str | None = None,
        loss: Any = None,
        output: str | Callable[[Any], Any] | None = None,
    ) -> Task:
        """A task from data sets of torch, or of Hugging Face: ``Task.from_dataset(train, test, n_train=200)``.

        A data set has items by number: pairs (x, y), (x1, x2, …, y) for several inputs, or mappings, whose keys are
        keyword arguments of the model. Of a ``DataLoader`` its data set is read, all rows in one batch of its
        ``collate_fn``, which may pad them.

        Args:
            train: the data set to train on.
            test: the one to test on; None to keep ``n_test`` rows of ``train`` for that.
            n_train: how many rows to train on, drawn at random; None for all.
            n_test: how many rows to test on; None for all of ``test``.
            seed: of the draw.
            inputs: of items that are mappings: the keys of the model's arguments, or a single key, whose values are
                then a plain tensor; None for all but the target.
            target: of items that are mappings: the key of the target; None for ``labels``, ``label`` or ``target``.
            loss: as for a task.
            output: as for a task.

        Raises:
            DataError: no map-style data set, fewer rows than are asked for, items of another form, keys that they do
                not have (the message lists those they have), text, rows of different shapes.
        """
        rows, tested = draw(train, test, n_train, n_test, seed, inputs, target)
        X_test, y_test = (None, None) if tested is None else (tested.X, tested.y)
        return cls(rows.X, rows.y, X_test, y_test, loss=loss, output=output)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        target: Hashable,
        *,
        test: float | None = 0.3,
        standardize: bool = True,
        seed: int = 0,
        n_train: int | None = None,
        n_test: int | None = None,
        loss: Any = None,
        output: str | Callable[[Any], Any] | None = None,
    ) -> Task:
        """A task from a data frame of pandas: ``Task.from_frame(frame, target="price")``.

        Columns of numbers are standardized, those of text or categories become a column of zeros and ones for each
        category (through scikit-learn, fitted on the training rows; a category that they do not have is zero in all).
        Numbers come first, in the order of their columns.

        Args:
            frame: rows of examples, without missing values.
            target: the column of targets. Numbers stay as they are, whole ones become floating-point numbers unless
                the loss is one of class numbers. Labels, as text or categories, become class numbers 0, 1, … in their
                categories' order or else that of the alphabet; ``classes`` has the labels.
            test: the share of rows to test on, drawn at random, and of each class alike; None or 0 for none.
            standardize: whether columns of numbers get mean 0 and standard deviation 1, over the training rows.
            seed: of the draw.
            n_train: how many rows to train on; None for all that are not tested on.
            n_test: how many rows to test on, in place of ``test``; None for that share.
            loss: as for a task; for labels ``torch.nn.CrossEntropyLoss()`` unless told. For one that takes no class
                numbers, such as ``BCEWithLogitsLoss``, two labels become 0 and 1.
            output: as for a task.

        Raises:
            DataError: no such column (the message lists those there are), columns that are neither numbers nor text
                nor categories, missing or infinite values (it says in which columns, how many), a share of test rows
                that leaves a class out, a class with a single row.
        """
        split = split_frame(frame, target, test, standardize, seed, n_train, n_test)
        found = loss_of(nn.CrossEntropyLoss() if split.classes and loss is None else loss)
        y, y_test, classes = split.y, split.y_test, split.classes or None
        if not found.takes_classes:
            if len(split.classes) > 2:
                raise DataError(
                    f"the target {target!r} holds {len(split.classes)} labels, and {found!r} takes amounts: leave loss "
                    "out, or pass torch.nn.CrossEntropyLoss()."
                )
            y, y_test = (t if t is None else t.to(torch.get_default_dtype()) for t in (y, y_test))
            classes = None
        return cls(split.X, y, split.X_test, y_test, loss=found, classes=classes, output=output)  # type: ignore[arg-type]

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
        if self.classes is None:
            return self.y.shape[1]
        return len(self.classes) * (self.y.numel() // self.n)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The axes of a row of outputs: those of its targets, with the classes last where these are class numbers."""
        return self.row_shape if self.classes is None else (*self.row_shape, len(self.classes))

    @cached_property
    def objective(self) -> Objective:
        """The loss on the training set, as it is followed in function space."""
        return self.loss.objective(self.y, self.outputs)

    def encoded(self, y: Tensor) -> Tensor:
        """Targets as a number for each output, (n, C): of class numbers 1 for the class and 0 for all others.

        Args:
            y: ``y`` or ``y_test``.
        """
        if self.classes is None:
            return y
        counted = y.clamp(min=0)  # a class number that the loss ignores
        hot = torch.nn.functional.one_hot(counted, len(self.classes)) * (y == counted).unsqueeze(-1)
        return hot.reshape(len(y), -1).to(torch.get_default_dtype())

    def test_loss(self, outputs: Tensor) -> float:
        """The loss of test outputs, (n_test, C), against ``y_test``; not a number without test targets."""
        return math.nan if self.y_test is None else self.loss.value(outputs.to(self.y_test.device), self.y_test)

    def accuracy(self, outputs: Tensor) -> float:
        """The part of the test points at which outputs, (n_test, C), decide for the class of ``y_test``.

        Not a number without test targets, or where targets are no classes (:class:`whichmin.decision.Decision`).
        """
        decision = Decision.of(self)
        if self.y_test is None or not decision.classes:
            return math.nan
        return float(decision.right(self, outputs, self.y_test).mean())

    def check_until(self, until: float | None) -> None:
        """Refuse a training loss that no outputs have.

        Raises:
            InputError: says what the lowest one is.
        """
        if until is None:
            return
        is_number = isinstance(until, int | float) and math.isfinite(until)
        lowest = self.objective.lowest
        if is_number and until > lowest:
            return
        if lowest == 0 or not math.isfinite(lowest):
            raise InputError(f"until is {until}; expected a positive training {self.loss.label}, such as 1e-5.")
        raise InputError(
            f"until is {until}; expected a training {self.loss.label} above {lowest:.4g}: no outputs have a lower "
            f"{self.loss!r} on these targets."
        )

    def contradiction(self) -> tuple[int, int] | None:
        """Two training rows of identical inputs with different targets, or None. Costs a sort of the rows."""
        first: dict[int, int] = {}
        for row, g in enumerate(row_groups(self.X).tolist()):
            other = first.setdefault(g, row)
            if other != row and not torch.equal(self.y[other], self.y[row]):
                return other, row
        return None

    def only(self, rows: Tensor) -> Task:
        """The task with some of its training rows, by number; test rows, loss and classes stay."""
        return replace(self, X=self.X[rows.to(self.X.device)], y=self.y[rows.to(self.y.device)])

    def without(self, rows: Sequence[int]) -> Task:
        """The task without some of its training rows, by number; a loss that is a mean divides by what is left."""
        kept = torch.ones(self.n, dtype=torch.bool)
        kept[list(rows)] = False
        return self.only(kept.nonzero()[:, 0])

    def to(self, *args: object, **kwargs: object) -> Task:
        """The task on another device or in another type, as ``Tensor.to``; integer inputs keep their type."""

        def move(t: AnyInputs | None) -> Any:
            return None if t is None else moved(t, *args, **kwargs)

        arrays = {name: move(getattr(self, name)) for name in ("X", "y", "X_test", "y_test")}
        return replace(self, **arrays)


def _inputs(value: object, name: str, output: Output | None) -> AnyInputs:
    X = as_inputs(value, name, output)
    if isinstance(X, Inputs):
        for label, tensor in named_tensors(X, name).items():
            _check(tensor, label)
            if tensor.device != X.device:
                raise DataError(f"{label} is on {tensor.device} and others on {X.device}: move them to one device.")
        return X
    X = _tensor(value, name)
    return X.to(torch.get_default_dtype()) if is_frame(value) else X


def _tensor(value: object, name: str) -> Tensor:
    return _check(as_tensor(value, name), name)


def _check(tensor: Tensor, name: str) -> Tensor:
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


def _targets(value: object, name: str, n: int, inputs: str, X: AnyInputs, loss: Loss) -> tuple[Tensor, tuple[int, ...]]:
    """The targets as they are stored, and the axes of a row."""
    y = _tensor(value, name)
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


def _classes(given: object, loss: Loss, numbers: dict[str, Tensor | None]) -> tuple[Any, ...]:
    """The labels of all classes, where class numbers are within them."""
    weights = loss.weight if isinstance(loss, CrossEntropy) else None
    labels: tuple[Any, ...]
    if given is None:
        largest = max(int(y.max()) for y in numbers.values() if y is not None)
        labels = tuple(range(max(largest + 1, 2) if weights is None else len(weights)))
    else:
        labels = tuple(range(given)) if isinstance(given, int) else tuple(given)  # type: ignore[arg-type]
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


def _check_weights(loss: Loss, outputs: int) -> None:
    """Refuse weights of another number of classes or outputs."""
    for name in ("weight", "positive", "variance"):
        values = getattr(loss, name, None)
        if isinstance(values, tuple) and len(values) != outputs:
            raise DataError(
                f"the loss {loss!r} has {len(values)} numbers for {name}; expected {outputs}, one for each output."
            )


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
        f"amounts. For classes pass loss=torch.nn.CrossEntropyLoss() with y = {numbers}, or a target for each, "
        f"y = 2.0 * torch.nn.functional.one_hot({numbers}) - 1, with as many outputs of the network; if they are "
        "amounts, torch.as_tensor(y).float()."
    )


def _check_index(X: object, y: object, x_name: str, y_name: str) -> None:
    """Refuse a data frame and a series whose rows have other labels."""
    if is_frame(X) and is_frame(y) and not X.index.equals(y.index):  # type: ignore[attr-defined]
        raise DataError(
            f"the index of {y_name} is not that of {x_name}: pass {y_name}.loc[{x_name}.index], or, where the rows "
            f"belong together in their order, {y_name}.to_numpy()."
        )


def _same_rows(X: AnyInputs, X_test: AnyInputs) -> None:
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

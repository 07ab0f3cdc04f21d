"""A task: what the network is trained on and where its predictions are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from whichmin.arrays import TensorIfKnown
from whichmin.datasets import draw
from whichmin.decision import Decision
from whichmin.errors import DataError, InputError
from whichmin.frames import split_frame
from whichmin.inputs import AnyInputs, InputsIfKnown, Output, moved, output_of, row_groups
from whichmin.losses import Loss, MeanSquaredError, Objective, loss_of
from whichmin.losses.general import General
from whichmin.shown import Shown
from whichmin.task.arrays import check_index, check_same_rows, read_inputs
from whichmin.task.targets import check_amounts, check_weights, class_labels, read_targets

if TYPE_CHECKING:
    import pandas as pd


#: A training loss to stop below: a number, None for none, or ``"auto"`` (see :meth:`Task.aim`).
Until: TypeAlias = float | Literal["auto"] | None
#: How far above the lowest loss training ends, unless told.
FITTED = 1e-5


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
        prepared: how the arrays were made of the data, as plain values, for readers of results; none where the caller
            made them.

    Raises:
        InputError: a loss that mixes rows, is not finite or has no gradient; an output that is neither a name nor a
            function.
        DataError: an array that is empty, sparse, complex, not of numbers (the message names the columns), not finite
            (it names the array and the first such row), or of a length or shape that does not match; class numbers
            outside of the classes, or where the loss takes amounts; probabilities that do not add up to one; inputs
            whose numbers of rows differ, or that have other names than the training inputs.
    """

    X: InputsIfKnown
    y: Tensor
    X_test: InputsIfKnown = None
    y_test: TensorIfKnown = None
    loss: Loss = field(default_factory=MeanSquaredError)
    classes: Sequence[Any] | None = None
    output: str | Callable[[Any], Any] | None = field(default=None, metadata={"saved": False})
    row_shape: tuple[int, ...] = field(default=(), repr=False)
    prepared: Mapping[str, Any] | None = field(default=None, repr=False)

    if TYPE_CHECKING:
        # What is passed is more than what is kept: arrays, frames, several inputs, losses of torch.
        def __init__(
            self,
            X: Any,
            y: Any,
            X_test: Any = None,
            y_test: Any = None,
            loss: Loss | Callable[..., Tensor] | None = None,
            classes: int | Sequence[Any] | None = None,
            output: str | Callable[[Any], Any] | None = None,
            row_shape: tuple[int, ...] = (),
            prepared: Mapping[str, Any] | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Validate once; afterwards every array is finite and the shapes agree."""
        loss, output = loss_of(self.loss), Output.of(self.output)
        X = read_inputs(self.X, "X", output)
        y, row_shape = read_targets(self.y, "y", len(X), "X", X, loss)
        if loss.is_quadratic:
            check_amounts(self.y, y)
        check_index(self.X, self.y, "X", "y")
        X_test = None if self.X_test is None else read_inputs(self.X_test, "X_test", output)
        y_test = None
        if X_test is not None:
            check_same_rows(X, X_test)
        if self.y_test is not None:
            if X_test is None:
                raise DataError("got y_test without X_test: pass the test inputs that these targets belong to.")
            y_test, test_shape = read_targets(self.y_test, "y_test", len(X_test), "X_test", X_test, loss)
            check_index(self.X_test, self.y_test, "X_test", "y_test")
            if len(row_shape) > 1 and len(test_shape) > 1 and row_shape != test_shape:
                raise DataError(f"a row of y_test has shape {test_shape} and one of y {row_shape}: encode both alike.")
            if y_test.shape[1:] != y.shape[1:] or y_test.is_floating_point() != y.is_floating_point():
                raise DataError(
                    f"y_test has rows of shape {tuple(y_test.shape[1:])}, {y_test.dtype}, and y of "
                    f"{tuple(y.shape[1:])}, {y.dtype}: encode both alike."
                )
        classes = None if y.is_floating_point() else class_labels(self.classes, loss, {"y": y, "y_test": y_test})
        if classes is None and self.classes is not None:
            raise DataError(f"classes are of class numbers, and y holds {y.dtype} for {loss!r}: leave classes out.")
        if len(row_shape) < 2 and math.prod(self.row_shape) == y[0].numel():
            row_shape = self.row_shape
        arrays = {"X": X, "y": y, "X_test": X_test, "y_test": y_test}
        rest = {"loss": loss, "classes": classes, "output": output_of(X), "row_shape": row_shape}
        for name, value in (arrays | rest).items():
            object.__setattr__(self, name, value)
        check_weights(loss, self.outputs if classes is None else len(classes))
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
                    f"the target {target!r} holds {len(split.classes)} labels, and {found!r} takes amounts: take the "
                    "cross-entropy, loss=torch.nn.CrossEntropyLoss() or --loss cross-entropy."
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

    @property
    def axes(self) -> dict[str, Any]:
        """What a row of outputs must look like, as ``examine`` takes it."""
        return {"outputs": self.outputs, "row_shape": self.output_shape, "classes": self.classes is not None}

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

    def aim(self, until: Until) -> float | None:
        """The training loss to stop below; of ``"auto"`` 1e-5 above the lowest one, None where no lowest one is known.

        The lowest loss is 0 for the mean square error and for class numbers. With smoothed labels or probabilities it
        is above, that of Poisson's and Gauss's losses may be below, and that of a function of the user's own is not
        known.

        Raises:
            InputError: a loss that no outputs have.
        """
        if until == "auto":
            lowest = self.objective.lowest
            return lowest + FITTED if math.isfinite(lowest) else None
        self.check_until(until)
        return until

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
        kept = torch.ones(self.n, dtype=torch.bool, device="cpu")
        kept[list(rows)] = False
        return self.only(kept.nonzero()[:, 0])

    def to(self, *args: object, **kwargs: object) -> Task:
        """The task on another device or in another type, as ``Tensor.to``; integer inputs keep their type."""

        def move(t: AnyInputs | None) -> Any:
            return None if t is None else moved(t, *args, **kwargs)

        arrays = {name: move(getattr(self, name)) for name in ("X", "y", "X_test", "y_test")}
        return replace(self, **arrays)

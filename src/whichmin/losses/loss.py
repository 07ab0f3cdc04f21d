"""A loss, and a loss with the targets of a training set. Everything that is special to a loss is asked of it here.

A :class:`Loss` is a function L(f, y) of the outputs f of some rows and their targets y. An :class:`Objective` is a loss
with the targets of a training set: what the theory follows in function space, in float64 and on flattened outputs,
``outputs.reshape(-1)``. It follows r = f − origin. The origin of a loss that is least at the targets is the targets, so
that r is the residual and keeps its digits when it is small.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.errors import DataError

Array = NDArray[np.float64]
Reduction = Literal["mean", "sum"]


class Loss(ABC):
    """A loss that is a mean or a sum over rows: a frozen dataclass of plain values.

    Attributes:
        label: its name in messages.
        is_quadratic: whether its gradient is γ·(f − y), so that full batches on linear features have closed forms.
        takes_classes: whether targets may be class numbers.
    """

    is_quadratic: ClassVar[bool] = False
    takes_classes: ClassVar[bool] = False
    label: ClassVar[str]

    @property
    def takes_log_probabilities(self) -> bool:
        """Whether outputs are logarithms of probabilities, so that their differences are no outputs."""
        return False

    @property
    def name(self) -> str:
        """What torch calls it."""
        return f"{type(self).__name__}Loss"

    def __repr__(self) -> str:
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        settings = [f"{f.name}={getattr(self, f.name)!r}" for f in fields if getattr(self, f.name) != f.default]
        return f"{self.name}({', '.join(settings)})"

    @abstractmethod
    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """L(f, y), a scalar with a graph: what a training loop calls.

        Args:
            outputs: f, (n, C).
            targets: y of the same rows, as a task holds them: (n, C), or class numbers (n,) or (n, positions).
        """

    @abstractmethod
    def objective(self, targets: Tensor, outputs: int) -> Objective:
        """This loss on a training set.

        Args:
            targets: y, as a task holds them.
            outputs: C.
        """

    def check(self, targets: Tensor, name: str) -> None:  # noqa: B027
        """Refuse targets that this loss is not meant for; any finite numbers here.

        Raises:
            DataError: says what was got and expected.
        """

    def value(self, outputs: Tensor, targets: Tensor) -> float:
        """L(f, y), computed in float64; outputs (n, C)."""
        exact = targets.double() if targets.is_floating_point() else targets
        return float(self(outputs.detach().double(), exact))

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """∂L/∂f, (n, C), in the type of the outputs; a mean is over these n rows."""
        with torch.enable_grad():
            f = outputs.detach().requires_grad_()
            return torch.autograd.grad(self(f, targets), f)[0]


class Objective(ABC):
    """A loss on the flattened outputs of a training set; arrays are float64.

    Attributes:
        loss: the loss.
        origin: what outputs are counted from, (N·C,): r = f − origin.
        gamma: the largest curvature, the largest eigenvalue that ∂²L/∂f² has anywhere: γ where the loss is quadratic,
            so that ∂L/∂f = γ r. Of losses whose curvature has no bound, that at outputs of zero and at the minimizer.
        has_largest_curvature: whether γ bounds the curvature everywhere.
        minimizer: the one vector of outputs at which the loss is least, (N·C,); None where there are none or many.
        lowest: the loss that no outputs get below.
        is_bounded: whether the lowest loss is reached by finite outputs.
    """

    loss: Loss
    origin: Array
    gamma: float
    has_largest_curvature: bool = True
    minimizer: Array | None = None
    lowest: float = 0.0
    is_bounded: bool = True

    @abstractmethod
    def value(self, r: Array) -> float:
        """L at f = r + origin; of a quadratic loss also for r in another orthonormal basis."""

    @abstractmethod
    def gradient(self, r: Array, rows: NDArray[np.int64] | None = None) -> Array:
        """∂L/∂f at f = r + origin, (N·C,).

        Args:
            r: (N·C,).
            rows: some of the flattened outputs, all those of each of their rows: then (len(rows),), and a mean is over
                these.
        """

    def value_and_gradient(self, r: Array) -> tuple[float, Array]:
        """Both, where they share work."""
        return self.value(r), self.gradient(r)

    @abstractmethod
    def curve(self, r: Array, v: Array) -> Array:
        """(∂²L/∂f²) v at f = r + origin, (N·C,)."""

    @property
    def scale_of(self) -> str:
        """Whose standard deviation tolerances of predictions are relative to.

        Those of the least-loss outputs, which are the targets with the mean square error and its like, but not with
        probabilities of logits; where no one vector of outputs has the least loss, those of the predicted outputs.
        """
        if self.minimizer is None:
            return "predicted training outputs"
        return "targets" if self.minimizer is self.origin else "least-loss outputs"

    def excess(self, loss: float) -> float:
        """How far a loss is above the lowest one; above 0 where none is known."""
        return loss - self.lowest if math.isfinite(self.lowest) else loss

    def limit(self, start: Array, K: Array) -> Array | None:
        """The coefficients c for which f = start + K c has the lowest loss and c is a combination of gradients.

        Where training with a constant metric ends, whatever its steps are.

        Args:
            start: r at the start, (N·C,).
            K: the kernel, (N·C, N·C).

        Returns:
            (N·C,); None where no finite outputs have the lowest loss.
        """
        if self.minimizer is None:
            return None
        found = np.linalg.lstsq(K, self.minimizer - self.origin - start, rcond=1e-13)[0]
        return np.asarray(found, np.float64)


def mean_square(r: Array) -> float:
    """(1/n) Σ r²."""
    return float(np.dot(r, r)) / len(r)


def root_mean_square(r: Array | Tensor) -> float:
    """√((1/n) Σ r²) over all entries; infinity where it is not finite."""
    values = r.detach().double().reshape(-1).cpu().numpy() if isinstance(r, Tensor) else r.reshape(-1)
    size = math.sqrt(mean_square(values))
    return size if math.isfinite(size) else math.inf


def count_of(reduction: Reduction, count: float) -> float:
    """What a sum over so many entries is divided by."""
    return float(count) if reduction == "mean" else 1.0


def check_range(targets: Tensor, name: str, low: float, high: float, what: str) -> None:
    """Refuse targets outside of a range.

    Raises:
        DataError: names the first of them.
    """
    bad = (targets < low) | (targets > high)
    if bool(bad.any()):
        row = int(bad.reshape(len(targets), -1).any(dim=1).nonzero()[0, 0])
        raise DataError(f"{name} has {float(targets[bad][0]):g} in row {row}; expected {what}.")

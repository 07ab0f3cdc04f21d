"""How outputs decide for a class: one output by its side of a threshold, several by the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from whichmin.losses.elementwise import BinaryCrossEntropy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whichmin.task import Task


@dataclass(frozen=True)
class Decision:
    """The rule by which outputs of a task are turned into classes.

    Attributes:
        threshold: between the two values that a single target takes, in the units of the outputs; 0 where there are
            not two.
        classes: whether the targets are classes: two values, one-hot rows or class numbers.
        positions: how many class numbers a row has: each decides for itself.
    """

    threshold: float
    classes: bool
    positions: int = 1

    @classmethod
    def of(cls, task: Task) -> Decision:
        """The rule that the loss and the training targets of a task suggest."""
        if task.classes is not None:
            return cls(0.0, True, task.y.numel() // task.n)
        y = task.y.detach().double().cpu().numpy()
        values = np.unique(y)
        if y.shape[1] > 1:
            top = y == y.max(axis=1, keepdims=True)
            return cls(0.0, bool(len(values) == 2 and (top.sum(axis=1) == 1).all()))
        if len(values) != 2:
            return cls(0.0, False)
        is_logit = isinstance(task.loss, BinaryCrossEntropy)
        return cls(0.0 if is_logit else float(values.mean()), True)

    def right(self, task: Task, outputs: Tensor, y: Tensor) -> NDArray[np.bool_]:
        """Whether each row decides for the class of its target.

        Args:
            task: whose targets they are.
            outputs: (n, C).
            y: ``task.y`` or ``task.y_test``.

        Returns:
            (n,), or for class numbers of several positions (n·positions,); those that the loss ignores are left out.
        """
        if task.classes is not None:
            numbers = y.reshape(-1).cpu().numpy()
            return (self.labels(outputs) == numbers)[numbers >= 0]
        target = y.double().cpu()
        if target.shape[1] > 1:
            return self.labels(outputs) == target.numpy().argmax(axis=-1)
        low, high = float(task.y.min()), float(task.y.max())
        return self.labels(outputs) == (target[:, 0].numpy() > (low + high) / 2)

    def labels(self, outputs: Tensor | NDArray[np.float64]) -> NDArray[np.int64]:
        """The class that each row decides for.

        Args:
            outputs: (…, n, C).

        Returns:
            (…, n): 0 at or below the threshold and 1 above it for C = 1, 0 … C − 1 for several outputs, the first of
            equal ones; (…, n·positions) of several positions.
        """
        values = self.by_position(outputs)
        if values.shape[-1] > 1:
            return values.argmax(axis=-1)
        return (values[..., 0] > self.threshold).astype(np.int64)

    def margins(self, task: Task, outputs: Tensor | NDArray[np.float64], y: Tensor) -> NDArray[np.float64]:
        """f_y − max_{k ≠ y} f_k: how far the output of the true class is above all others, negative where it is not.

        Args:
            task: whose targets they are.
            outputs: (…, n, C), several of them.
            y: ``task.y`` or ``task.y_test``, classes.

        Returns:
            (…, n) or (…, n·positions), without those that the loss ignores.
        """
        encoded = self.by_position(task.encoded(y))
        counted = encoded.any(axis=-1)
        values, true = self.by_position(outputs)[..., counted, :], encoded[counted].argmax(axis=-1)
        at = np.arange(len(true))
        own = values[..., at, true]
        others = values.copy()
        others[..., at, true] = -np.inf
        return own - others.max(axis=-1)

    def by_position(self, outputs: Tensor | NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs, (…, n, C), with a row for each position: (…, n·positions, C/positions), float64."""
        values = outputs.detach().double().cpu().numpy() if isinstance(outputs, Tensor) else outputs
        rows = values.shape[-2] * self.positions
        return values.reshape(*values.shape[:-2], rows, values.shape[-1] // self.positions)

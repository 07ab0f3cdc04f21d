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
        classes: whether the targets are classes: two values, or one-hot rows.
    """

    threshold: float
    classes: bool

    @classmethod
    def of(cls, task: Task) -> Decision:
        """The rule that the loss and the training targets of a task suggest."""
        if task.classes is not None:
            return cls(0.0, True)
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
            decided = self.labels(outputs.reshape(-1, len(task.classes)))
            numbers = y.reshape(-1).cpu().numpy()
            return (decided == numbers)[numbers >= 0]
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
            equal ones.
        """
        values = outputs.detach().double().cpu().numpy() if isinstance(outputs, Tensor) else outputs
        if values.shape[-1] > 1:
            return values.argmax(axis=-1)
        return (values[..., 0] > self.threshold).astype(np.int64)

"""How outputs decide for a class: one output by its side of a threshold, several by the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

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
        """The rule that the training targets of a task suggest."""
        y = task.y.detach().double().cpu().numpy()
        values = np.unique(y)
        if y.shape[1] > 1:
            top = y == y.max(axis=1, keepdims=True)
            return cls(0.0, bool(len(values) == 2 and (top.sum(axis=1) == 1).all()))
        return cls(float(values.mean()), True) if len(values) == 2 else cls(0.0, False)

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

"""Batches and learning rates of every step, as training with the same seed and scheduler has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whichmin.batches import batch_order
from whichmin.task import Task


class Batches:
    """The rows of the flattened outputs, ``row·C + c``, that step number k uses."""

    def __init__(self, task: Task, batch_size: int, seed: int) -> None:
        self._order: Iterator[Tensor] = batch_order(task.n, batch_size, seed)
        self._rows: list[Tensor] = []
        self._outputs = task.outputs

    def rows(self, k: int) -> Tensor:
        """The rows of the data."""
        while len(self._rows) <= k:
            self._rows.append(next(self._order))
        return self._rows[k]

    def __call__(self, k: int) -> Any:
        """The rows of the outputs."""
        rows = self.rows(k).numpy()
        if self._outputs == 1:
            return rows
        return (rows[:, None] * self._outputs + np.arange(self._outputs)).reshape(-1)


class Rates:
    """The learning rate of step number k under a scheduler, which is stepped on an optimizer that never moves."""

    def __init__(self, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        self._optimizer, self._scheduler = optimizer, scheduler
        self._rates = [float(optimizer.param_groups[0]["lr"])]

    def __call__(self, k: int) -> float:
        """As the scheduler sets it."""
        while len(self._rates) <= k:
            self._optimizer.step()  # there are no gradients: nothing moves
            self._scheduler.step()
            self._rates.append(float(self._optimizer.param_groups[0]["lr"]))
        return self._rates[k]

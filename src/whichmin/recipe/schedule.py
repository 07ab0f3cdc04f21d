"""Batches and learning rates of every step, as training with the same seed and scheduler has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.recipe.batches import epoch_orders, generator_of
from whichmin.task import Task


class Batches:
    """The rows of the flattened outputs, ``row·C + c``, that step number k uses: those of a seeded order."""

    def __init__(self, task: Task, batch_size: int, seed: int) -> None:
        self._orders = epoch_orders(task.n, generator_of(seed))
        self._size, self._outputs = batch_size, task.outputs
        self._rows: list[NDArray[np.int64]] = []

    def rows(self, k: int) -> Tensor:
        """The rows of the data."""
        return torch.from_numpy(self(k)[:: self._outputs] // self._outputs)

    def __call__(self, k: int) -> NDArray[np.int64]:
        """The rows of the outputs."""
        while len(self._rows) <= k:
            order = next(self._orders).numpy()
            if self._outputs > 1:
                order = (order[:, None] * self._outputs + np.arange(self._outputs)).reshape(-1)
            size = self._size * self._outputs
            self._rows.extend(order[i : i + size] for i in range(0, len(order), size))
        return self._rows[k]


class GivenBatches:
    """As :class:`Batches`, the rows of the data that each step uses being given."""

    def __init__(self, rows: Sequence[Tensor], outputs: int) -> None:
        self._rows, self._columns = rows, np.arange(outputs)

    def rows(self, k: int) -> Tensor:
        """The rows of the data."""
        return self._rows[k]

    def __call__(self, k: int) -> NDArray[np.int64]:
        """The rows of the outputs."""
        return (self._rows[k].numpy()[:, None] * len(self._columns) + self._columns).reshape(-1)


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

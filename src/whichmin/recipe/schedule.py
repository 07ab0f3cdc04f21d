"""Batches, learning rates and momenta of every step, as training with the same seed and scheduler has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from whichmin.errors import OptimizerError

#: Whether learning rates die out is looked for in so many steps.
LOOKED_AT = 16_384


class Batches:
    """The rows of the flattened outputs, ``row·C + c``, that step number k uses.

    Args:
        order: the rows of the data of each step, ``recipe.batches(n)``.
        outputs: C.
        first: the number of the step that the order starts with; steps before are not asked for.
    """

    def __init__(self, order: Iterator[Tensor], outputs: int, first: int = 0) -> None:
        self._order, self._outputs, self._first = order, outputs, first
        self._rows: list[NDArray[np.int64]] = []

    def rows(self, k: int) -> Tensor:
        """The rows of the data."""
        return torch.from_numpy(self(k)[:: self._outputs] // self._outputs)

    def __call__(self, k: int) -> NDArray[np.int64]:
        """The rows of the outputs."""
        while len(self._rows) <= k - self._first:
            rows = next(self._order).numpy()
            if self._outputs > 1:
                rows = (rows[:, None] * self._outputs + np.arange(self._outputs)).reshape(-1)
            self._rows.append(rows)
        return self._rows[k - self._first]


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


class ScheduledSettings:
    """Learning rate and momentum of step number k under a scheduler, stepped with an optimizer that never moves.

    Args:
        optimizer: a built optimizer, scheduled as for the first step.
        scheduler: its scheduler.
        first: the number of that step; steps before count as that one.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, scheduler: LRScheduler, first: int = 0) -> None:
        self._optimizer, self._scheduler, self._first = optimizer, scheduler, first
        self._settings = [self._now()]

    def lr(self, k: int) -> float:
        """The learning rate of the first parameter group."""
        return self._at(k)[0]

    def momentum(self, k: int) -> float | None:
        """The momentum of the first parameter group, β₁ of optimizers with betas; None of one that has neither."""
        return self._at(k)[1]

    def _at(self, k: int) -> tuple[float, float | None]:
        k = max(k - self._first, 0)
        while len(self._settings) <= k:
            self._optimizer.step()  # there are no gradients: nothing moves
            try:
                self._scheduler.step()
            except Exception as error:
                raise OptimizerError(
                    f"the scheduler fails after step {self._first + len(self._settings)}: {error}. Pass fewer steps, "
                    "or a scheduler that goes on."
                ) from error
            self._settings.append(self._now())
        return self._settings[k]

    def _now(self) -> tuple[float, float | None]:
        group: dict[str, Any] = self._optimizer.param_groups[0]
        momentum = group["betas"][0] if "betas" in group else group.get("momentum")
        return float(group["lr"]), None if momentum is None else float(momentum)


@dataclass(frozen=True)
class Schedule:
    """What differs from step to step besides the rule itself.

    Attributes:
        batches: the rows of the outputs that step number k uses; None for full batches.
        eval_every: after how many steps the training error is measured, those of an epoch.
        lr: the learning rate of step number k; None where no scheduler changes it.
        momentum: the momentum of step number k, None where the optimizer has none; None where no scheduler changes it.
    """

    batches: Callable[[int], NDArray[np.int64]] | None = None
    eval_every: int = 1
    lr: Callable[[int], float] | None = None
    momentum: Callable[[int], float | None] | None = None

    @classmethod
    def of(
        cls,
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler | None,
        batches: Batches | GivenBatches | None = None,
        eval_every: int = 1,
        first: int = 0,
    ) -> Schedule:
        """The schedule of a built optimizer, which steps without gradients where there is a scheduler."""
        if scheduler is None:
            return cls(batches, eval_every)
        settings = ScheduledSettings(optimizer, scheduler, first)
        return cls(batches, eval_every, settings.lr, settings.momentum)

    @property
    def is_constant(self) -> bool:
        """Whether no step differs from another: full batches without a scheduler."""
        return self.batches is None and self.lr is None

    def dies_out(self, first: int) -> bool:
        """Whether the learning rates from step ``first`` on have a finite sum, so that training ends where they do.

        It is told from ``LOOKED_AT`` steps: their second half adds less than half of what their second quarter does.
        Constant rates add twice as much there, those of 1/k as much.
        """
        if self.lr is None:
            return False
        rates = [self.lr(first + k) for k in range(LOOKED_AT)]
        return sum(rates[LOOKED_AT // 2 :]) <= sum(rates[LOOKED_AT // 4 : LOOKED_AT // 2]) / 2

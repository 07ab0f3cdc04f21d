"""The result of :func:`whichmin.seeds`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from whichmin.decision import Decision
from whichmin.results import Result, by_point
from whichmin.task import Task


@dataclass(frozen=True, eq=False)
class SeedSpread(Result):
    """The minimizers of n initializations.

    ``to_frame`` has one row per test point and output: their numbers, ``mean``, ``seed_std``, ``majority``, flips and
    targets.

    Attributes:
        task: the data.
        test: predicted test outputs, (n, n_test, C).
        error: estimated root mean square error of each prediction, (n,), float64, in the units of the outputs.
        labels: the class that each network decides for, (n, n_test), int64: for one output the side of the middle of
            the two target values (of 0 where there are not two, or outputs are logits), for several the largest output.
        seconds: what it took.
        notes: what the predictions remarked; of remarks that differ by their numbers alone the first, with its seed.
    """

    kind: ClassVar[str] = "seeds"

    task: Task
    test: Tensor
    error: Tensor
    labels: Tensor
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> Tensor:
        """Mean output over seeds, (n_test, C): the prediction of the ensemble."""
        return self.test.mean(dim=0)

    @property
    def seed_std(self) -> Tensor:
        """Standard deviation over seeds, (n_test, C), with n − 1 in the denominator."""
        return self.test.std(dim=0)

    @property
    def majority(self) -> Tensor:
        """The label that most seeds decide for, (n_test,), int64; of several the least."""
        votes = torch.nn.functional.one_hot(self.labels).sum(dim=0)
        return torch.from_numpy(votes.numpy().argmax(axis=-1))

    @property
    def flip_probability(self) -> Tensor:
        """Share of seeds whose label is not the majority's, (n_test,), float64."""
        return (self.labels != self.majority).double().mean(dim=0)

    @property
    def test_error(self) -> Tensor | None:
        """The task's loss on the test set of each seed, (n,), float64; None without test targets."""
        if self.task.y_test is None:
            return None
        losses = [self.task.test_loss(test.double()) for test in self.test]
        return torch.tensor(losses, dtype=torch.float64, device="cpu")

    @property
    def accuracy(self) -> Tensor | None:
        """The part of the test points that each seed decides rightly, (n,), float64; None where none are classes."""
        if self.task.y_test is None or not Decision.of(self.task).classes:
            return None
        accuracies = [self.task.accuracy(test) for test in self.test]
        return torch.tensor(accuracies, dtype=torch.float64, device="cpu")

    def _columns(self) -> Mapping[str, Any]:
        columns = {"mean": self.mean, "seed_std": self.seed_std, "majority": self.majority}
        columns["flip_probability"] = self.flip_probability
        y = self.task.y_test
        return by_point(columns if y is None else columns | {"target": self.task.encoded(y)})

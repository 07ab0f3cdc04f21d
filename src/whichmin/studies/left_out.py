"""The result of :func:`whichmin.leave_out`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from whichmin.decision import Decision
from whichmin.devices import default_device_aside
from whichmin.errors import ResultError
from whichmin.results import Result
from whichmin.task import Task

#: Row numbers of a group that a table spells out.
SPELLED = 6


@dataclass(frozen=True)
class GroupFailure:
    """A group whose training on the rest could not be predicted, with the error's message."""

    group: int
    message: str

    def __str__(self) -> str:
        """A sentence."""
        return f"without group {self.group}: {self.message}"


@dataclass(frozen=True, eq=False)
class LeftOut(Result):
    """Where training ends without each of several groups of training rows.

    ``to_frame`` has one row per group: its size and first rows, the test loss without it and the change of it, the
    accuracy where targets are classes, how many labels flip, how far the test outputs move (root mean square), the
    estimated error of that, steps and method.

    Attributes:
        task: the data, all rows.
        members: the row numbers of all groups, one group after the other, int64.
        sizes: how many rows each group has, (groups,), int64.
        full: predicted test outputs of training on all rows, (n_test, C).
        full_error: their estimated error, root mean square.
        test: predicted test outputs of training on the rest, (groups, n_test, C); not a number where there are none.
        error: the estimated root mean square distance of each to really training on the rest, (groups,), float64.
        steps: how many steps training on the rest makes, (groups,), float64.
        method: of each group as :attr:`whichmin.Prediction.method`; empty where there is no prediction.
        batches: ``"kept"``: mini-batches are those of all rows with the left-out ones taken out; ``"redrawn"``: drawn
            again from the rest.
        seconds: what it took, kept answers not counted.
        failures: groups without a prediction, and why.
        notes: what a reader should know.
        settings: what was asked.
    """

    kind: ClassVar[str] = "leave_out"

    task: Task
    members: Tensor
    sizes: Tensor
    full: Tensor
    full_error: float
    test: Tensor
    error: Tensor
    steps: Tensor
    method: tuple[str, ...]
    batches: str
    seconds: float
    failures: tuple[GroupFailure, ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def groups(self) -> list[Tensor]:
        """The row numbers of each group."""
        return list(self.members.split(self.sizes.tolist()))

    @property
    def is_each(self) -> bool:
        """Whether the groups are all rows, one by one and in their order."""
        return len(self.members) == len(self.sizes) and torch.equal(self.members, torch.arange(self.task.n))

    @cached_property
    def _finished(self) -> Tensor:
        return torch.isfinite(self.test).flatten(1).all(dim=1).cpu()

    @property
    def effect(self) -> Tensor:
        """How far leaving each group out moves the test outputs, root mean square, (groups,), float64."""
        return (self.test.double() - self.full.double()).square().flatten(1).mean(dim=1).sqrt().cpu()

    @property
    def full_loss(self) -> float:
        """The task's loss on the test set after training on all rows; not a number without test targets."""
        return self.task.test_loss(self.full.double())

    @cached_property
    def test_loss(self) -> Tensor:
        """The task's loss on the test set without each group, (groups,), float64; not a number without test targets."""
        losses = [self.task.test_loss(test.double()) for test in self.test]
        return torch.tensor(losses, dtype=torch.float64, device="cpu").where(self._finished, torch.nan)

    @property
    def loss_change(self) -> Tensor:
        """``test_loss`` minus ``full_loss``, (groups,): below zero where leaving a group out helps."""
        return self.test_loss - self.full_loss

    @property
    def accuracy(self) -> Tensor | None:
        """The part of the test points decided rightly without each group, (groups,); None where none are classes."""
        if self.task.y_test is None or not Decision.of(self.task).classes:
            return None
        values = torch.tensor([self.task.accuracy(test) for test in self.test], dtype=torch.float64, device="cpu")
        return values.where(self._finished, torch.nan)

    @property
    def labels(self) -> Tensor:
        """The class decided for without each group, (groups, n_test), int64 (see :class:`whichmin.SeedSpread`)."""
        return torch.from_numpy(Decision.of(self.task).labels(self.test.nan_to_num()))

    @property
    def flips(self) -> Tensor:
        """Whether leaving a group out flips the label of a test point, (groups, n_test)."""
        full = torch.from_numpy(Decision.of(self.task).labels(self.full))
        return (self.labels != full) & self._finished[:, None]

    def influences(self, output: int | None = None) -> Tensor:
        """What each group does for each test point: with all rows minus without it, (n_test, groups), float64.

        Args:
            output: of which output; None for what decides: the output's distance to the threshold towards the true
                class, for several outputs the margin of the true class over all others. Without test targets the class
                that the network decides for takes the place of the true one. Where targets are no classes, the output.

        Raises:
            ResultError: several outputs that are no classes, and none named.
        """
        if output is not None:
            return (self.full[:, output, None] - self.test[:, :, output].mT).double()
        if not Decision.of(self.task).classes:
            if self.task.outputs > 1:
                raise ResultError(f"there are {self.task.outputs} outputs and no classes: name one, influences(0).")
            return self.influences(0)
        return self._scores(self.full)[:, None] - self._scores(self.test).mT

    @default_device_aside()
    def by_row(self, output: int | None = None) -> Tensor:
        """What each training row does for each test point, (n_test, N), float64.

        Of groups of one row the influence itself. Of larger groups the mean outcome over the groups that leave the row
        in minus that over those that leave it out; not a number for rows that none, or all, of them leave out.

        Args:
            output: as for :meth:`influences`.
        """
        return self._over_rows(self.influences(output))

    def _over_rows(self, influence: Tensor) -> Tensor:
        """:meth:`by_row` of the influences on some test points, (points, groups)."""
        finished = self._finished
        out = torch.zeros(len(self.sizes), self.task.n, dtype=torch.float64)
        out[torch.arange(len(self.sizes)).repeat_interleave(self.sizes), self.members] = 1.0
        if bool((self.sizes == 1).all()):
            rows = torch.full((influence.shape[0], self.task.n), torch.nan, dtype=torch.float64)
            rows[:, self.members] = influence
            return rows
        out, influence = out[finished], influence[:, finished]
        left_out, left_in = out.sum(dim=0), (1.0 - out).sum(dim=0)
        return influence @ out / left_out - influence @ (1.0 - out) / left_in

    def supporting(self, point: int, count: int = 10) -> Tensor:
        """The training rows that hold a test point up, the strongest first: without them its margin falls, int64."""
        return self._strongest(point, count, 1.0)

    def opposing(self, point: int, count: int = 10) -> Tensor:
        """The training rows that pull a test point down, the strongest first: without them its margin grows, int64."""
        return self._strongest(point, count, -1.0)

    def most_harmful(self, count: int = 10) -> Tensor:
        """The groups whose removal lowers the test loss most, the most harmful first, int64; only those that do.

        Raises:
            ResultError: there are no test targets.
        """
        if self.task.y_test is None:
            raise ResultError("which removal helps is told by test targets: pass a Task with y_test.")
        change = self.loss_change.nan_to_num(nan=torch.inf)
        order = change.argsort(stable=True)[:count]
        return order[change[order] < 0]

    def _strongest(self, point: int, count: int, sign: float) -> Tensor:
        values = (sign * self._over_rows(self.influences()[[point]])[0]).nan_to_num(nan=-torch.inf)
        order = values.argsort(descending=True, stable=True)[:count]
        return order[values[order] > 0]

    def _scores(self, outputs: Tensor) -> Tensor:
        """How clearly each test point is decided for its class, (…, n_test) or (…, n_test·positions)."""
        decision = Decision.of(self.task)
        values = torch.from_numpy(np.ascontiguousarray(decision.by_position(outputs)))
        towards = self._classes(decision)
        if values.shape[-1] == 1:
            return (values[..., 0] - decision.threshold) * (2.0 * towards - 1.0)
        at = torch.nn.functional.one_hot(towards, values.shape[-1]).bool().expand_as(values)
        return values[at].view(values.shape[:-1]) - values.masked_fill(at, -torch.inf).amax(dim=-1)

    def _classes(self, decision: Decision) -> Tensor:
        """The class that each test point is looked at for: the true one, or the decided one where that is not known."""
        decided = torch.from_numpy(decision.labels(self.full))
        if self.task.y_test is None:
            return decided
        if self.task.classes is not None:
            numbers = self.task.y_test.reshape(-1).cpu()
            return numbers.where((numbers >= 0) & (numbers < len(self.task.classes)), decided)
        y = self.task.y_test.double().cpu()
        if y.shape[1] > 1:
            return y.argmax(dim=1)
        low, high = float(self.task.y.min()), float(self.task.y.max())
        return (y[:, 0] > (low + high) / 2).long()

    def _columns(self) -> Mapping[str, Any]:
        rows = [_spelled(group) for group in self.groups]
        columns: dict[str, Any] = {"group": torch.arange(len(self.sizes)), "size": self.sizes, "rows": rows}
        if self.task.y_test is not None:
            columns |= {"test_loss": self.test_loss, "loss_change": self.loss_change}
        if self.accuracy is not None:
            columns["accuracy"] = self.accuracy
        columns |= {"flips": self.flips.sum(dim=1), "effect": self.effect, "error": self.error}
        return columns | {"steps": self.steps, "method": list(self.method)}


def _spelled(group: Tensor) -> str:
    some = ", ".join(map(str, group[:SPELLED].tolist()))
    return some if len(group) <= SPELLED else f"{some}, …"

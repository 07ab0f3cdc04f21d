"""What a :class:`whichmin.Recorder` has seen of a training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from whichmin.checkpoint import Checkpoint
from whichmin.errors import ResultError
from whichmin.results import Result
from whichmin.tangent.copying import private_copy
from whichmin.task import Task
from whichmin.training.blueprint import Blueprint
from whichmin.training.checkpoints import checkpoint_of
from whichmin.training.run import Run

if TYPE_CHECKING:
    import os


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The network's outputs after some step.

    Attributes:
        step: how many optimizer steps had been made.
        train: training outputs, (N, C), or those of ``rows``.
        test: test outputs, (N_test, C), or those of ``test_rows``; None without test inputs.
        loss: the training loss, on ``rows`` where there are any.
        lr: the learning rate of each parameter group in the step that led here.
        rows: the training rows that were looked at; None for all of them, as at the first and the last step.
        test_rows: the same of the test rows.
    """

    step: int
    train: Tensor = field(repr=False)
    test: Tensor | None = field(repr=False)
    loss: float
    lr: tuple[float, ...]
    rows: Tensor | None = field(default=None, repr=False)
    test_rows: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class _Content:
    """What is saved of a recording that has ended."""

    task: Task
    optimizer: str
    steps: int
    snapshots: tuple[Snapshot, ...]
    initial: dict[str, Tensor]
    final: dict[str, Tensor]
    metric: dict[str, Tensor] | None
    reason: str
    interrupted: bool
    seconds: float
    notes: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()


class Recording(Result):
    """What was recorded: filled by a :class:`whichmin.Recorder`, or read from disk.

    ``to_frame`` has one row per snapshot: ``step``, ``loss`` and ``lr``, that of the first parameter group.

    Args:
        task: the data at which the network was looked at.
        optimizer: the optimizer's class name.

    Raises:
        ResultError: by what is asked before the recorder was entered, or before its with block was left.
    """

    kind: ClassVar[str] = "recorder"

    def __init__(self, task: Task, optimizer: str) -> None:
        self.task = task
        self._optimizer_name = optimizer
        self._phase: Literal["new", "recording", "done"] = "new"
        self._snapshots: list[Snapshot] = []
        self._calls = 0
        self._skipped: Tensor | int = 0
        self._initial: dict[str, Tensor] = {}
        self._final: dict[str, Tensor] | None = None
        self._metric: dict[str, Tensor] | None = None
        self._network: nn.Module | None = None
        self._blueprint: Blueprint | None = None
        self._reason = ""
        self._interrupted = False
        self._seconds = 0.0
        self._notes: list[str] = []
        self._checkpoints: list[Checkpoint] = []
        self._no_checkpoints = ""

    def _facts(self) -> Mapping[str, Any]:
        if self._phase == "new":
            return {"optimizer": self._optimizer_name, "phase": "not entered"}
        first, last = self._snapshots[0], self._snapshots[-1]
        losses = {"first_loss": first.loss, "last_loss": last.loss}
        return {"optimizer": self._optimizer_name, "phase": self._phase, "steps": self.steps} | losses

    def _remarks(self) -> list[str]:
        return self._notes

    @property
    def steps(self) -> int:
        """How many optimizer steps were made so far; those that a ``GradScaler`` skipped are left out."""
        if self._phase == "new":
            raise ResultError("this recorder was not entered: put the training loop into `with recorder:`.")
        return self._calls - int(self._skipped)

    @property
    def snapshots(self) -> list[Snapshot]:
        """The snapshots so far, by step."""
        _ = self.steps
        return list(self._snapshots)

    @property
    def initial(self) -> dict[str, Tensor]:
        """θ₀, a state dict."""
        _ = self.steps
        return {k: v.detach().clone() for k, v in self._initial.items()}

    @property
    def final(self) -> dict[str, Tensor]:
        """θ_T, a state dict."""
        return {k: v.clone() for k, v in self._ended().items()}

    @property
    def metric(self) -> dict[str, Tensor] | None:
        """The optimizer's last metric D by parameter name; None where its state does not tell."""
        self._left()
        return self._metric

    @property
    def notes(self) -> tuple[str, ...]:
        """What the recorder noticed that changes what an explanation means, a sentence each."""
        _ = self.steps
        return tuple(self._notes)

    @property
    def reason(self) -> str:
        """Why recording ended, a sentence."""
        self._left()
        return self._reason

    @property
    def initial_model(self) -> nn.Module:
        """A copy of the network on entering, in evaluation mode."""
        return self._at(self.initial)

    @property
    def model(self) -> nn.Module:
        """A copy of the network on leaving, in evaluation mode."""
        return self._at(self._ended())

    def checkpoint(self, step: int) -> Checkpoint:
        """Where the loop stood after some step, in place of a model: see :class:`whichmin.Checkpoint`.

        The recipe that it is passed with says what the loop does: its optimizer, batches and scheduler.

        Args:
            step: one that was kept, ``Recorder(…, checkpoints=…)``.

        Raises:
            InputError: a step beyond the end.
            ResultError: a step that was not kept, or a loop whose optimizer had made steps before or skipped some: then
                the number of steps is not the place of its batches and its scheduler.
        """
        self._left()
        if self._no_checkpoints:
            raise ResultError(f"there are no checkpoints to go on from: {self._no_checkpoints}.")
        return checkpoint_of(self._checkpoints, step, self.steps, self._network, "Recorder")

    def run(self) -> Run:
        """What was recorded, as a :class:`Run` whose losses are those at the snapshots.

        Raises:
            ResultError: no step was made.
        """
        final = self.final
        if self.steps == 0:
            raise ResultError(
                f"no step was made: nothing in the with block stepped this {self._optimizer_name}. Make the recorder "
                "with the very optimizer that the loop steps, and put the loop inside."
            )
        first, last = self._snapshots[0], self._snapshots[-1]
        return Run(
            task=self.task,
            train=last.train,
            test=last.test,
            steps=self.steps,
            losses=torch.tensor([s.loss for s in self._snapshots], dtype=torch.float64),
            converged=False,
            interrupted=self._interrupted,
            reason=self._reason,
            optimizer=self._optimizer_name,
            learning_rate=first.lr[0] if first.lr else float("nan"),
            until=None,
            seconds=self._seconds,
            initial=self.initial,
            final=final,
            loss_steps=torch.tensor([s.step for s in self._snapshots]),
            metric=self._metric,
            notes=self.notes,
            checkpoints=tuple(self._checkpoints),
            _network=self._network,
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: nn.Module | None = None) -> Recording:
        """Read a folder that :meth:`save` wrote.

        Args:
            path: the folder.
            model: a network of the recorded kind, whatever its parameters; it is copied. Without it what is loaded
                gives no models and cannot be explained.
        """
        loaded = super().load(path)
        if model is not None:
            loaded._network = private_copy(model).eval()
        return loaded

    def _columns(self) -> Mapping[str, Any]:
        rates = [s.lr[0] if s.lr else float("nan") for s in self.snapshots]
        return {"step": [s.step for s in self.snapshots], "loss": [s.loss for s in self.snapshots], "lr": rates}

    def _content(self) -> _Content:
        return _Content(
            task=self.task,
            optimizer=self._optimizer_name,
            steps=self.steps,
            snapshots=tuple(self._snapshots),
            initial=self._initial,
            final=self._ended(),
            metric=self._metric,
            reason=self._reason,
            interrupted=self._interrupted,
            seconds=self._seconds,
            notes=self.notes,
            checkpoints=tuple(self._checkpoints),
        )

    @classmethod
    def _content_class(cls) -> type:
        return _Content

    @classmethod
    def _restored(cls, content: _Content) -> Recording:
        loaded = Recording(content.task, content.optimizer)
        loaded._snapshots, loaded._calls = list(content.snapshots), content.steps
        loaded._initial, loaded._final, loaded._metric = content.initial, content.final, content.metric
        loaded._interrupted, loaded._notes = content.interrupted, list(content.notes)
        loaded._checkpoints = list(content.checkpoints)
        loaded._reason, loaded._seconds, loaded._phase = content.reason, content.seconds, "done"
        return loaded

    def _left(self) -> None:
        _ = self.steps
        if self._phase == "recording":
            raise ResultError("this recorder is still recording: leave its with block first.")

    def _ended(self) -> dict[str, Tensor]:
        self._left()
        if self._final is None:
            raise ResultError(f"this recorder does not know where the loop ended: {self._reason}")
        return self._final

    def _at(self, state: dict[str, Tensor]) -> nn.Module:
        if self._network is None:
            raise ResultError("a loaded recorder holds no network: Recorder.load(path, model).")
        network = private_copy(self._network)
        network.load_state_dict(state)
        return network


def moved_buffers(model: nn.Module, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """The floating-point buffers of a network, by name, that differ between two of its state dicts."""
    names = [name for name, buffer in model.named_buffers() if buffer.is_floating_point() and name in before]
    return [name for name in names if name in after and not torch.equal(before[name].to(after[name]), after[name])]

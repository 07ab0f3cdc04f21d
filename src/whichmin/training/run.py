"""The result of :func:`whichmin.train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from whichmin.arrays import TensorIfKnown
from whichmin.checkpoint import Checkpoint
from whichmin.errors import ResultError
from whichmin.recipe.memory import OptimizerMemory
from whichmin.recipe.recipe import Recipe
from whichmin.results import NOT_SAVED, Result
from whichmin.tangent.copying import private_copy
from whichmin.task import Task
from whichmin.training.checkpoints import checkpoint_of


@dataclass(frozen=True, eq=False)
class Run(Result):
    """A network that was really trained.

    ``to_frame`` has one row per training loss that was measured: ``step`` and ``loss``.

    Attributes:
        task: what it was trained on.
        train: training outputs at the end, (N, C).
        test: test outputs at the end, (N_test, C); None without test inputs.
        steps: how many optimizer steps were made, from the beginning of training: with those before the checkpoint that
            it went on from, and so are all step counts.
        losses: (measured,) float64: training losses, over all of X: in full batches before each step and at the end,
            steps + 1 of them; with mini-batches at the start of each epoch and at the end.
        converged: whether ``until`` was reached.
        interrupted: whether Ctrl-C ended training before its end.
        stalled: whether training stopped above ``until`` because it came no nearer.
        reason: why training stopped, a sentence.
        optimizer: the optimizer's class name.
        learning_rate: its learning rate, with ``"best"`` resolved, before any scheduler.
        until: the training loss that was aimed at.
        seconds: what training took.
        initial: θ₀, a state dict; that of the checkpoint that training went on from.
        final: θ_T, a state dict.
        batch_size: rows per step; None where they were all of them.
        seed: the seed of the batches' order.
        loss_steps: (measured,) int64: the step of each entry of ``losses``; first, …, steps in full batches.
        metric: the optimizer's last preconditioner D, a tensor for each trainable parameter by name; None where it has
            none that is known (:func:`whichmin.optimizers.last_metric`).
        notes: what a recorder noticed of the loop, a sentence each.
        checkpoints: those that were kept, by step: where none were asked for, where training began if that was one.
    """

    kind: ClassVar[str] = "run"

    task: Task
    train: Tensor
    test: TensorIfKnown
    steps: int
    losses: Tensor
    converged: bool
    reason: str
    optimizer: str
    learning_rate: float
    until: float | None
    seconds: float
    initial: dict[str, Tensor] = field(repr=False)
    final: dict[str, Tensor] = field(repr=False)
    batch_size: int | None = None
    seed: int = 0
    interrupted: bool = False
    stalled: bool = False
    loss_steps: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    metric: dict[str, Tensor] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = field(default=(), repr=False)
    _network: nn.Module | None = field(default=None, repr=False, metadata=NOT_SAVED)
    _recipe: Recipe | None = field(default=None, repr=False, metadata=NOT_SAVED)

    def __post_init__(self) -> None:
        """Without steps of their own the losses are those of every step."""
        if not len(self.loss_steps):
            object.__setattr__(self, "loss_steps", torch.arange(len(self.losses)))

    @property
    def model(self) -> nn.Module:
        """A copy of the trained network."""
        return self._at(self.final)

    @property
    def initial_model(self) -> nn.Module:
        """A copy of the network before training."""
        return self._at(self.initial)

    def checkpoint(self, step: int) -> Checkpoint:
        """Where training stood after some step, in place of a model: see :class:`whichmin.Checkpoint`.

        Args:
            step: one that was kept, ``train(…, checkpoints=…)``; 0 always is.

        Raises:
            InputError: a step beyond the end.
            ResultError: a step that was not kept; the message says which were.
        """
        kept = self.checkpoints or (self._beginning,)
        return checkpoint_of(kept, step, self.steps, self._network, "train")

    @property
    def _beginning(self) -> Checkpoint:
        return Checkpoint(0, self.initial, OptimizerMemory(0, self.optimizer, (), {}))

    def _at(self, state: dict[str, Tensor]) -> nn.Module:
        if self._network is None:
            raise ResultError("a loaded run holds no network: model.load_state_dict(run.final).")
        network = private_copy(self._network)
        network.load_state_dict(state)
        return network

    def _columns(self) -> Mapping[str, Any]:
        return {"step": self.loss_steps, "loss": self.losses}

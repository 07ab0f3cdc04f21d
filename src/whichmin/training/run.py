"""The result of :func:`whichmin.train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from whichmin.errors import ResultError
from whichmin.recipe.recipe import Recipe
from whichmin.results import NOT_SAVED, Result
from whichmin.tangent.copying import private_copy
from whichmin.task import Task


@dataclass(frozen=True, eq=False)
class Run(Result):
    """A network that was really trained.

    ``to_frame`` has one row per training loss that was measured: ``step`` and ``loss``.

    Attributes:
        task: what it was trained on.
        train: training outputs at the end, (N, C).
        test: test outputs at the end, (N_test, C); None without test inputs.
        steps: how many optimizer steps were made.
        losses: (measured,) float64: training losses, over all of X: in full batches before each step and at the end,
            steps + 1 of them; with mini-batches at the start of each epoch and at the end.
        converged: whether ``until`` was reached.
        interrupted: whether Ctrl-C ended training before its end.
        reason: why training stopped, a sentence.
        optimizer: the optimizer's class name.
        learning_rate: its learning rate, with ``"best"`` resolved, before any scheduler.
        until: the training loss that was aimed at.
        seconds: what training took.
        initial: θ₀, a state dict.
        final: θ_T, a state dict.
        batch_size: rows per step; None where they were all of them.
        seed: the seed of the batches' order.
        loss_steps: (measured,) int64: the step of each entry of ``losses``; 0, …, steps in full batches.
        metric: the optimizer's last preconditioner D, a tensor for each trainable parameter by name; None where it has
            none that is known (:func:`whichmin.optimizers.last_metric`).
        notes: what a recorder noticed of the loop, a sentence each.
    """

    kind: ClassVar[str] = "run"

    task: Task
    train: Tensor
    test: Tensor | None
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
    loss_steps: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    metric: dict[str, Tensor] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
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

    def _at(self, state: dict[str, Tensor]) -> nn.Module:
        if self._network is None:
            raise ResultError("a loaded run holds no network: model.load_state_dict(run.final).")
        network = private_copy(self._network)
        network.load_state_dict(state)
        return network

    def _columns(self) -> Mapping[str, Any]:
        return {"step": self.loss_steps, "loss": self.losses}

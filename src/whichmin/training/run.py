"""The result of :func:`whichmin.train`."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from whichmin.errors import ResultError
from whichmin.task import Task

if TYPE_CHECKING:
    import os


@dataclass(frozen=True, eq=False)
class Run:
    """A network that was really trained.

    Attributes:
        task: what it was trained on.
        train: training outputs at the end, (N, C).
        test: test outputs at the end, (N_test, C); None without test inputs.
        steps: how many optimizer steps were made.
        losses: (steps + 1,) float64: the training mean square error before each step and at the end.
        converged: whether ``until`` was reached.
        reason: why training stopped, a sentence.
        optimizer: the optimizer's class name.
        learning_rate: its learning rate, with ``"best"`` resolved.
        until: the training mean square error that was aimed at.
        seconds: what training took.
        initial: θ₀, a state dict.
        final: θ_T, a state dict.
    """

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
    _network: nn.Module | None = field(default=None, repr=False)
    _factory: Any = field(default=None, repr=False)

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
        network = copy.deepcopy(self._network)
        network.load_state_dict(state)
        return network

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a result folder (see ``whichmin.storage``); the network's class is not stored, its parameters are."""
        from whichmin.storage import save_folder

        arrays = {"train": self.train, "losses": self.losses, "X": self.task.X, "y": self.task.y}
        optional = {"test": self.test, "X_test": self.task.X_test, "y_test": self.task.y_test}
        arrays |= {k: v for k, v in optional.items() if v is not None}
        arrays |= {f"initial.{k}": v for k, v in self.initial.items()} | {
            f"final.{k}": v for k, v in self.final.items()
        }
        config = {"kind": "run"} | {k: getattr(self, k) for k in _SCALARS}
        save_folder(path, config, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Run:
        """Read a folder that :meth:`save` wrote."""
        from whichmin.storage import load_folder

        config, arrays, _ = load_folder(path, "run")
        return cls(
            task=Task(arrays["X"], arrays["y"], arrays.get("X_test"), arrays.get("y_test")),
            train=arrays["train"],
            test=arrays.get("test"),
            losses=arrays["losses"],
            initial={k.removeprefix("initial."): v for k, v in arrays.items() if k.startswith("initial.")},
            final={k.removeprefix("final."): v for k, v in arrays.items() if k.startswith("final.")},
            **{k: config[k] for k in _SCALARS},
        )


_SCALARS = ("steps", "converged", "reason", "optimizer", "learning_rate", "until", "seconds")

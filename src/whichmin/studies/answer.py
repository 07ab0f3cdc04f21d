"""Where a recipe takes one initialization: predicted or trained, and what of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor, nn

from whichmin.dynamics.predict import predict
from whichmin.recipe.recipe import Recipe
from whichmin.task import Task
from whichmin.training.train import train


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a recipe takes one initialization, as predicted or as trained.

    Attributes:
        test: test outputs, (n_test, C).
        error: the prediction's estimated error; 0 for a trained network.
        steps: how many steps.
        seconds: what it took.
        notes: remarks.
    """

    test: Tensor
    error: float
    steps: float
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> dict[str, Any]:
        """All but the outputs, as plain values."""
        return {"error": self.error, "steps": self.steps, "seconds": self.seconds, "notes": list(self.notes)}

    @classmethod
    def of(cls, _: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> Self:
        """The answer that a folder of the store holds."""
        return cls(arrays["test"], config["error"], config["steps"], config["seconds"], tuple(config["notes"]))


class Procedure(Protocol):
    """How to answer where a recipe takes a network, and the settings that the answer depends on."""

    @property
    def kind(self) -> str:
        """What the network is said to be: "predicted" or "trained"."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """All that the answer depends on besides data, network and recipe, as plain values."""
        ...

    def ask(self, model: nn.Module, task: Task, recipe: Recipe) -> Answer:
        """The answer.

        Raises:
            KeyboardInterrupt: Ctrl-C, also where training ended with what there was.
        """
        ...


@dataclass(frozen=True)
class Predicting:
    """By prediction, with :func:`whichmin.predict`'s own arguments."""

    until: float | None
    steps: int | None
    tol: float
    kind = "predicted"

    @property
    def settings(self) -> dict[str, Any]:
        """The tolerance counts here, and nowhere in training."""
        return {"until": self.until, "steps": self.steps, "tol": self.tol}

    def ask(self, model: nn.Module, task: Task, recipe: Recipe) -> Answer:
        """The prediction."""
        prediction = predict(model, task, recipe, steps=self.steps, until=self.until, tol=self.tol)
        assert prediction.test is not None
        assert isinstance(prediction.steps, float | int)
        return Answer(prediction.test, prediction.error, float(prediction.steps), prediction.seconds, prediction.notes)


@dataclass(frozen=True)
class Training:
    """By training, with :func:`whichmin.train`'s own arguments."""

    until: float | None
    steps: int | None
    kind = "trained"

    @property
    def settings(self) -> dict[str, Any]:
        """Where training stops."""
        return {"until": self.until, "steps": self.steps}

    def ask(self, model: nn.Module, task: Task, recipe: Recipe) -> Answer:
        """The trained network; one that was interrupted is no answer."""
        run = train(model, task, recipe, until=self.until, steps=self.steps)
        if run.interrupted:
            raise KeyboardInterrupt
        assert run.test is not None
        short = () if run.converged or self.until is None else (f"training stopped short of its aim: {run.reason}",)
        return Answer(run.test, 0.0, float(run.steps), run.seconds, short)

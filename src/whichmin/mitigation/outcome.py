"""Where a way to train ends, and what a remedy brings: the rows of the result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from whichmin.results import NOT_SAVED
from whichmin.shown import Shown

Way = Literal["linearized", "relinearized", "trained"]


@dataclass(frozen=True, eq=False)
class Outcome(Shown):
    """A network at the end of training, as predicted or as trained.

    Attributes:
        validation: outputs on the validation points, (n_validation, C).
        test: outputs on the test points, (n_test, C); None without test inputs.
        error: the prediction's estimated root mean square error, in the units of the outputs; 0 for a trained network.
        train_loss: the training loss.
        steps: optimizer steps; of several networks together.
        seconds: what predicting or training took.
        training_seconds: what of a prediction real training took; nan where it is not by real training.
        way: how: by one linearization, by a path of several, or by training.
        reached: whether training got to the loss that was aimed at, or made all of its steps.
        notes: remarks.
        network: the network itself, where it was kept; it is not saved.
    """

    validation: Tensor
    test: Tensor | None
    error: float
    train_loss: float
    steps: float
    seconds: float
    way: Way
    reached: bool
    notes: tuple[str, ...] = ()
    network: nn.Module | None = field(default=None, repr=False, metadata=NOT_SAVED)
    training_seconds: float = math.nan


@dataclass(frozen=True, eq=False)
class Search(Shown):
    """One network at smaller and smaller scales.

    Attributes:
        scales: the factors in front of every layer's parameters, the standard scale 1 first.
        outcomes: where training ends at each.
        losses: the validation loss of each.
        p: of the test whether the validation loss falls from the scale before to this one; nan at the first.
        considered: how many scales the search looked at before it stopped; those after it are there for the record.
        chosen: the last of these whose validation loss is significantly lower than that before; 0 where none is.
        reason: why the search stopped, a sentence.
    """

    scales: tuple[float, ...]
    outcomes: tuple[Outcome, ...]
    losses: tuple[float, ...]
    p: tuple[float, ...]
    considered: int
    chosen: int
    reason: str

    @property
    def scale(self) -> float:
        """The chosen scale."""
        return self.scales[self.chosen]


def title_of(name: str) -> str:
    """A method's name as a reader wants it."""
    return name.replace("_", " ")


@dataclass(frozen=True, eq=False)
class Remedy(Shown):
    """What a method brings on one problem.

    Attributes:
        name: of the method.
        predicted: where it ends, as predicted; None where that failed.
        trained: where it ends, as trained; None where it was not trained.
        parameters: numbers that its network holds beyond those of the network as it is.
        passes: forward passes of a single network that a prediction of its network costs.
        step_cost: how many times as long as one of the network as it is a training step takes, about.
        search: of ``scale_search`` the predicted search.
        trained_search: of ``scale_search`` the same search by training, where every scale was trained.
        failure: why it could not be predicted or trained; empty where it could.
    """

    name: str
    predicted: Outcome | None = None
    trained: Outcome | None = None
    parameters: int = 0
    passes: float = 1.0
    step_cost: float = 1.0
    search: Search | None = None
    trained_search: Search | None = None
    failure: str = ""

    @property
    def outcome(self) -> Outcome | None:
        """Where it ends as trained, or else as predicted."""
        return self.trained or self.predicted

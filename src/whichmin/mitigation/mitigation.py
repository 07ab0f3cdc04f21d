"""The result of :func:`whichmin.mitigate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from whichmin.errors import ResultError
from whichmin.inputs import Output
from whichmin.losses import root_mean_square
from whichmin.mitigation.as_it_is import NAME
from whichmin.mitigation.outcome import Outcome, Remedy
from whichmin.mitigation.registry import METHODS
from whichmin.mitigation.significance import difference_error, paired_p, row_losses, standard_error
from whichmin.results import NOT_SAVED, Result
from whichmin.shown import Shown
from whichmin.tangent.copying import private_copy
from whichmin.task import Task

#: What the table says of an outcome: losses with standard errors, accuracies, and the distance to the interpolator.
_MEASURED: tuple[str, ...] = (
    "validation", "validation_se", "validation_accuracy", "test", "test_se", "test_accuracy", "distance",
)  # fmt: skip


@dataclass(frozen=True)
class Gain(Shown):
    """By how much a remedy lowers the predicted validation loss of the network as it is.

    Attributes:
        gain: the difference of the two losses; above 0 where the remedy is better.
        error: what the two predictions may be off by together.
        p: of the paired test over validation points whether the loss falls.
        level: what p is held against.
    """

    gain: float
    error: float
    p: float
    level: float

    @property
    def significant(self) -> bool:
        """Whether p ≤ level and the gain exceeds the predictions' error."""
        return self.p <= self.level and self.gain > self.error


@dataclass(frozen=True, eq=False)
class Mitigation(Result):
    """What each remedy brings on one problem, and which is recommended.

    ``to_frame`` has one row per method, and first the ``interpolator`` K(x', X) K⁺ Y, what the data alone say: losses
    on validation and test points with their standard errors, predicted and trained, the gain with its test, the
    predictions' error, and what the remedy costs beyond the network as it is.

    Attributes:
        task: what was trained on, with the test points.
        validation: the same with the validation points as test points.
        remedies: a row for each method, ``as_it_is`` first.
        interpolant: the interpolator of the network as it is.
        best: the name of the remedy with the lowest predicted validation loss of those that are significantly better
            than the network as it is; ``as_it_is`` where there is none.
        level: of the paired tests.
        seconds: what it took.
        seconds_per_step: what a training step of the network as it is takes, on average over a few.
        held_out: the rows of the caller's training set that validate; None where the points were given.
        interrupted: whether Ctrl-C ended it before its end.
        notes: remarks.
        settings: what was asked, as plain values.
        state: the state dict of the best network; empty where it was not kept.
    """

    kind: ClassVar[str] = "mitigation"

    task: Task
    validation: Task
    remedies: tuple[Remedy, ...]
    interpolant: Outcome
    best: str
    level: float
    seconds: float
    seconds_per_step: float
    held_out: Tensor | None = None
    interrupted: bool = False
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)
    _network: nn.Module | None = field(default=None, repr=False, metadata=NOT_SAVED)

    def __getitem__(self, name: str) -> Remedy:
        """The row of a method."""
        for remedy in self.remedies:
            if remedy.name == name:
                return remedy
        raise ResultError(f"there is no {name!r} here; there are {', '.join(r.name for r in self.remedies)}.")

    @property
    def lowest(self) -> str:
        """The name of the lowest predicted validation loss, whether it is significantly lower or not."""
        known = [remedy for remedy in self.remedies if remedy.predicted is not None]
        return min(known, key=lambda remedy: self._loss_of(remedy.predicted)).name

    def gain(self, name: str) -> Gain:
        """How a remedy compares with the network as it is, as predicted on the validation points.

        Raises:
            ResultError: one of the two was not predicted.
        """
        return gain_of(self.validation, self[NAME], self[name], self.level)

    def model(self, untrained: nn.Module | None = None) -> nn.Module:
        """The network of the best remedy: trained, or at its predicted parameters where nothing was trained.

        Args:
            untrained: of a loaded result: the network that was given, whose copy takes the saved parameters.

        Raises:
            ResultError: a loaded result, and no network to load into.
        """
        if self._network is not None:
            return private_copy(self._network)
        if untrained is None or not self.state:
            raise ResultError(
                "a loaded mitigation holds parameters and no network: pass the network that was given, "
                "result.model(untrained)."
            )
        network = METHODS[self.best]().shell(untrained, self.state, Output.of(self.task.output))
        network.load_state_dict(self.state)
        return network

    def _loss_of(self, outcome: Outcome | None) -> float:
        return math.nan if outcome is None else self.validation.test_loss(outcome.validation.double())

    def _columns(self) -> Mapping[str, Any]:
        rows = [self._row("interpolator", self.interpolant, None), *map(self._remedy_row, self.remedies)]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _remedy_row(self, remedy: Remedy) -> dict[str, Any]:
        return self._row(remedy.name, remedy.predicted, remedy.trained) | self._costs(remedy) | self._gains(remedy)

    def _row(self, name: str, predicted: Outcome | None, trained: Outcome | None) -> dict[str, Any]:
        row: dict[str, Any] = {"method": name}
        for kind, outcome in (("predicted", predicted), ("trained", trained)):
            row |= {f"{column}_{kind}": value for column, value in self._numbers(outcome).items()}
        empty = dict.fromkeys(("scale", "gain", "gain_error", "p"), math.nan)
        costs = dict.fromkeys(("parameters", "passes", "extra_steps", "extra_seconds"), math.nan)
        error = math.nan if predicted is None else predicted.error
        return row | {"error": error} | empty | {"significant": None} | costs | {"failure": ""}

    def _numbers(self, outcome: Outcome | None) -> dict[str, float]:
        """Losses, their standard errors, accuracies, and the distance to the interpolator."""
        numbers: dict[str, float] = dict.fromkeys(_MEASURED, math.nan)
        if outcome is None:
            return numbers
        sets = {"validation": (self.validation, outcome.validation), "test": (self.task, outcome.test)}
        for name, (task, outputs) in sets.items():
            if outputs is not None and task.y_test is not None:
                numbers[name] = task.test_loss(outputs.double())
                numbers[f"{name}_se"] = standard_error(task, outputs)
                numbers[f"{name}_accuracy"] = task.accuracy(outputs)
        numbers["distance"] = self.distance(outcome)
        return numbers

    def distance(self, outcome: Outcome) -> float:
        """Root mean square distance to the interpolator, over test points and outputs; validation points without."""
        one, other = outcome.test, self.interpolant.test
        if one is None or other is None:
            one, other = outcome.validation, self.interpolant.validation
        return root_mean_square(one.double().cpu() - other.double().cpu())

    def _costs(self, remedy: Remedy) -> dict[str, Any]:
        outcome, base = remedy.outcome, self[NAME]
        same = base.trained if remedy.trained is not None else base.predicted
        row: dict[str, Any] = {"parameters": remedy.parameters, "passes": remedy.passes, "failure": remedy.failure}
        if remedy.search is not None:
            row["scale"] = remedy.search.scale
        if outcome is not None and same is not None:
            row["extra_steps"] = outcome.steps - same.steps
            row["extra_seconds"] = self._extra_seconds(remedy)
        return row

    def _extra_seconds(self, remedy: Remedy) -> float:
        """Of training, beyond those of the network as it is; from the predicted steps where one was not trained."""
        base = self[NAME]
        if remedy.trained is not None and base.trained is not None:
            return remedy.trained.seconds - base.trained.seconds
        if remedy.predicted is None or base.predicted is None:
            return math.nan
        return (remedy.step_cost * remedy.predicted.steps - base.predicted.steps) * self.seconds_per_step

    def _gains(self, remedy: Remedy) -> dict[str, Any]:
        if remedy.predicted is None or self[NAME].predicted is None:
            return {}
        gain = self.gain(remedy.name)
        known = {"gain": gain.gain, "gain_error": gain.error, "p": gain.p}
        return known | {"significant": None if remedy.name == NAME else gain.significant}


def gain_of(validation: Task, base: Remedy, remedy: Remedy, level: float) -> Gain:
    """How a remedy compares with another, as predicted on the validation points.

    Raises:
        ResultError: one of the two was not predicted.
    """
    before, after = base.predicted, remedy.predicted
    if before is None or after is None:
        missing = base if before is None else remedy
        raise ResultError(f"{missing.name} was not predicted: {missing.failure}")
    losses = [validation.test_loss(outcome.validation.double()) for outcome in (before, after)]
    error = difference_error(validation, *((outcome.validation, outcome.error) for outcome in (before, after)))
    if remedy.name == base.name:
        return Gain(0.0, error, math.nan, level)
    p = paired_p(row_losses(validation, before.validation), row_losses(validation, after.validation))
    return Gain(losses[0] - losses[1], error, p, level)


def recommended(validation: Task, remedies: tuple[Remedy, ...], level: float) -> str:
    """The name of the remedy with the lowest predicted validation loss of those whose gain is significant."""
    base, *others = remedies
    if base.predicted is None:
        return base.name
    gains = {r.name: gain_of(validation, base, r, level) for r in others if r.predicted is not None}
    better = {name: gain.gain for name, gain in gains.items() if gain.significant}
    return max(better, key=better.__getitem__) if better else base.name


def state_of(network: nn.Module | None) -> dict[str, Tensor]:
    """A copy of a network's state dict; nothing of none."""
    if network is None:
        return {}
    return {name: torch.as_tensor(value).detach().clone() for name, value in network.state_dict().items()}

"""The result of :func:`whichmin.compare`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.decision import Decision
from whichmin.results import Result
from whichmin.studies.effects import Effect, Estimate, effect_of, least_seeds, smallest_p
from whichmin.task import Task


@dataclass(frozen=True)
class Failure:
    """What could not be had: ``kind`` is "predicted" or "trained"."""

    recipe: str
    seed: int
    kind: str
    message: str

    def __str__(self) -> str:
        """A sentence."""
        return f"{self.recipe}, seed {self.seed} could not be {self.kind}: {self.message}"


@dataclass(frozen=True)
class Pair:
    """Two recipes: the effect between them as predicted and, where there is training, as trained; None if unknown."""

    predicted: Effect | None
    trained: Effect | None

    @property
    def best(self) -> Effect | None:
        """The effect between the trained networks, or else the predicted one."""
        return self.trained or self.predicted


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """The minimizers that several ways to train reach from the same initializations.

    An effect is *significant* where (1) its sign-flip p is at most ``level``: the recipes' outputs differ in a
    direction that the initializations share, beyond what the scatter between seeds brings about; and (2) the size of
    that shared difference exceeds what the predictions may be off by. It says nothing about which recipe is better, nor
    that an effect which is not significant is absent: two recipes may lie far apart at each seed (``rms_distances``) in
    directions that differ from seed to seed. ``level`` is that of each pair alone: of many pairs without a difference,
    a share of about ``level`` is called significant. With few seeds p cannot come down to the level; ``significant`` is
    None then.

    ``to_frame`` has one row per pair, and what is known of it as predicted and as trained; None where nothing is.

    Attributes:
        task: the data.
        predicted: test outputs (seeds, n_test, C) by recipe; nan where a recipe failed.
        errors: estimated error of each prediction, (seeds,), float64, by recipe.
        trained: as ``predicted``, of really trained networks; None without training.
        steps: steps predicted, (seeds,), float64, by recipe.
        level: of tests and, as 1 − level, of confidence intervals.
        seconds: what it took, kept answers not counted.
        failures: what could not be had.
        notes: what a reader should know.
    """

    kind: ClassVar[str] = "comparison"

    task: Task
    predicted: dict[str, Tensor]
    errors: dict[str, Tensor]
    trained: dict[str, Tensor] | None
    steps: dict[str, Tensor]
    level: float
    seconds: float
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the recipes."""
        return tuple(self.predicted)

    @property
    def seeds(self) -> int:
        """How many initializations."""
        return len(next(iter(self.predicted.values())))

    @property
    def test_error(self) -> dict[str, Estimate] | None:
        """The task's loss on the test set by recipe, as trained or else as predicted; None without test targets."""
        return self.test_error_of(self.best_outputs)

    def test_error_of(self, outputs: dict[str, Tensor]) -> dict[str, Estimate] | None:
        """The same of ``predicted`` or ``trained``."""
        return None if self.task.y_test is None else self._over_seeds(outputs, self.task.test_loss)

    @property
    def accuracy(self) -> dict[str, Estimate] | None:
        """The part of the test points that is decided rightly, likewise; None where test targets are no classes."""
        return self.accuracy_of(self.best_outputs)

    def accuracy_of(self, outputs: dict[str, Tensor]) -> dict[str, Estimate] | None:
        """The same of ``predicted`` or ``trained``."""
        known = self.task.y_test is not None and Decision.of(self.task).classes
        found = self._over_seeds(outputs, self.task.accuracy) if known else None
        return None if found is None else {name: one.within(0.0, 1.0) for name, one in found.items()}

    @property
    def best_outputs(self) -> dict[str, Tensor]:
        """``trained``, or ``predicted`` where nothing was trained."""
        return self.predicted if self.trained is None else self.trained

    def _over_seeds(self, outputs: dict[str, Tensor], of: Callable[[Tensor], float]) -> dict[str, Estimate]:
        """A number of test outputs, (n_test, C), by recipe; over the seeds that have them."""

        def values(tests: Tensor) -> NDArray[np.float64]:
            return np.array([of(test.double()) for test in tests if bool(torch.isfinite(test).all())])

        return {name: Estimate.of(values(tests), self.level) for name, tests in outputs.items()}

    @cached_property
    def pairs(self) -> dict[tuple[str, str], Pair]:
        """Every two recipes."""
        return {
            (one, other): Pair(
                self._effect(self.predicted, one, other, predicted=True),
                None if self.trained is None else self._effect(self.trained, one, other, predicted=False),
            )
            for one, other in itertools.combinations(self.names, 2)
        }

    @property
    def rms_distances(self) -> dict[tuple[str, str], Estimate]:
        """Root mean square distance between minimizers of the same seed, trained ones if there are; mean over seeds."""
        return {names: effect.rms_distance for names, effect in self._known()}

    @property
    def significant(self) -> dict[tuple[str, str], bool | None]:
        """Whether each effect is significant, see above; None where there are too few seeds to say."""
        effects = dict(self._known())
        return {names: effects[names].significant if names in effects else None for names in self.pairs}

    @property
    def flips(self) -> dict[tuple[str, str], float]:
        """Share of test points whose label flips between two recipes of the same seed, mean over seeds."""
        return {names: effect.flips for names, effect in self._known()}

    def _columns(self) -> Mapping[str, Any]:
        kinds = ("predicted",) if self.trained is None else ("predicted", "trained")
        effects = {kind: [getattr(pair, kind) for pair in self.pairs.values()] for kind in kinds}
        one, other = zip(*self.pairs, strict=True) if self.pairs else ((), ())
        return {"one": one, "other": other} | {
            f"{name}_{kind}": [None if effect is None else of(effect) for effect in effects[kind]]
            for kind in kinds
            for name, of in _COLUMNS.items()
        }

    def _known(self) -> list[tuple[tuple[str, str], Effect]]:
        return [(names, pair.best) for names, pair in self.pairs.items() if pair.best is not None]

    def _effect(self, outputs: dict[str, Tensor], one: str, other: str, *, predicted: bool) -> Effect | None:
        """Over the seeds that both recipes have; None of fewer than two."""
        a, b = outputs[one].double().cpu(), outputs[other].double().cpu()
        both = torch.isfinite(a).flatten(1).all(dim=1) & torch.isfinite(b).flatten(1).all(dim=1)
        if int(both.sum()) < 2:
            return None
        error = 0.0
        if predicted:
            squares = [float(self.errors[name][both].square().mean()) for name in (one, other)]
            error = math.sqrt(sum(squares))
        decision = Decision.of(self.task)
        labels = decision.labels(a[both]), decision.labels(b[both])
        return effect_of(a[both].numpy(), b[both].numpy(), error, self.level, labels)


def notices(level: float, seeds: int) -> list[str]:
    """What a level and a number of seeds cannot do."""
    least = smallest_p(seeds)
    if least <= level:
        return []
    return [
        f"{seeds} seeds cannot tell at level {level:g} whether an effect is significant: the smallest p they can give "
        f"is {least:.2g}. Take {least_seeds(level)} seeds or more"
        + (f", or a level of {least:.2g} or more." if least < 1 else ".")
    ]


_COLUMNS: dict[str, Callable[[Effect], Any]] = {
    "rms_distance": lambda effect: effect.rms_distance.mean,
    "low": lambda effect: effect.rms_distance.low,
    "high": lambda effect: effect.rms_distance.high,
    "systematic": lambda effect: effect.systematic,
    "error": lambda effect: effect.error,
    "seed_std": lambda effect: effect.seed_std,
    "p": lambda effect: effect.p,
    "significant": lambda effect: effect.significant,
    "flips": lambda effect: effect.flips,
    "seeds": lambda effect: effect.seeds,
}


def filled(outputs: list[Tensor | None], like: Tensor) -> Tensor:
    """Outputs of all seeds, nan where there are none."""
    return torch.stack([torch.full_like(like, np.nan) if one is None else one for one in outputs])

"""The result of :func:`whichmin.compare`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.decision import Decision
from whichmin.results import Result
from whichmin.studies.effects import Answer, Effect, Estimate, effect_of, least_seeds, smallest_p, together
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
    """Two recipes: the effect between them as predicted and, where there is training, as trained; None if unknown.

    The p of both are corrected for the number of pairs of the comparison.
    """

    predicted: Effect | None
    trained: Effect | None

    @property
    def best(self) -> Effect | None:
        """The effect between the trained networks, or else the predicted one."""
        return self.trained or self.predicted


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """The minimizers that several ways to train reach from the same initializations.

    It answers two questions about every pair, each with an interval, the error of the predictions, and a p that is
    corrected for the number of pairs (Holm):

    - ``different``: do the two reach different minimizers *from the same initialization*? Their distance at each seed
      exceeds, over the seeds, what the predictions may be off by (Student's t, one-sided). It may point anywhere at
      each seed.
    - ``significant``: do they differ *beyond the seed*? Their outputs differ in a direction that the initializations
      share, by more than the predictions may be off by, and more consistently than exchanging the two at random seeds
      would bring about (sign-flip test). With few seeds p cannot come down to the level; the answer is None then.

    Trained networks count as off by √ε of the outputs' size, ε the unit of their floating-point type: so much may
    rounding on the way bring about. Neither says which recipe is better, nor that what is not significant is absent.

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
        settings: where training ends, and the tolerance of the predictions.
        networks: the names of the networks that are compared; empty where all recipes train the same ones. Pairs of
            different networks have the seed in common, not the initialization.
        reused: how many of the runs, predicted and trained, were read from a folder where they were finished before.
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
    networks: tuple[str, ...] = ()
    reused: int = 0

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
        if self.task.y_test is None:
            return None
        lowest = self.task.loss.objective(self.task.y_test, self.task.outputs).lowest
        found = self._over_seeds(outputs, self.task.test_loss)
        return {name: one.within(lowest, math.inf) for name, one in found.items()}

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
        every = list(itertools.combinations(self.names, 2))
        predicted, trained = self._effects(every, self.predicted), self._effects(every, self.trained)
        return {names: Pair(predicted.get(names), trained.get(names)) for names in every}

    def _effects(
        self, every: Sequence[tuple[str, str]], outputs: dict[str, Tensor] | None
    ) -> dict[tuple[str, str], Effect]:
        """Those that are known, of ``predicted`` or ``trained``."""
        if outputs is None:
            return {}
        found = {names: effect for names in every if (effect := self._effect(outputs, *names)) is not None}
        return dict(zip(found, together(list(found.values())), strict=True))

    @property
    def different(self) -> dict[tuple[str, str], bool | None]:
        """Whether two recipes reach different minimizers from the same initialization, see above; None if unknown."""
        return self._answered(lambda effect: effect.paired)

    @property
    def significant(self) -> dict[tuple[str, str], bool | None]:
        """Whether two recipes differ beyond the seed, see above; None where there are too few seeds to say."""
        return self._answered(lambda effect: effect.systematic)

    @property
    def rms_distances(self) -> dict[tuple[str, str], Estimate]:
        """Root mean square distance between minimizers of the same seed, trained ones if there are; mean over seeds."""
        return {names: effect.paired.distance for names, effect in self._known()}

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

    def _answered(self, question: Callable[[Effect], Answer]) -> dict[tuple[str, str], bool | None]:
        effects = dict(self._known())
        return {names: question(effects[names]).significant if names in effects else None for names in self.pairs}

    def _effect(self, outputs: dict[str, Tensor], one: str, other: str) -> Effect | None:
        """Over the seeds that both recipes have, as the only pair; None of fewer than two seeds."""
        a, b = outputs[one].double().cpu(), outputs[other].double().cpu()
        both = torch.isfinite(a).flatten(1).all(dim=1) & torch.isfinite(b).flatten(1).all(dim=1)
        if int(both.sum()) < 2:
            return None
        if outputs is self.predicted:
            squares = [self.errors[name][both].double().square() for name in (one, other)]
        else:
            eps = torch.finfo(outputs[one].dtype).eps
            squares = [eps * of[both].square().flatten(1).mean(dim=1) for of in (a, b)]
        errors = (squares[0] + squares[1]).sqrt().cpu().numpy()
        decision = Decision.of(self.task)
        labels = decision.labels(a[both]), decision.labels(b[both])
        return effect_of(a[both].numpy(), b[both].numpy(), errors, self.level, labels)


def notices(level: float, seeds: int, recipes: int) -> list[str]:
    """What a level and a number of seeds cannot do for the pairs of so many recipes."""
    pairs = math.comb(recipes, 2)
    least = min(1.0, pairs * smallest_p(seeds))
    if least <= level:
        return []
    corrected = f", corrected for {pairs} pairs," if pairs > 1 else ""
    enough = least_seeds(level / pairs)
    more = "Compare fewer recipes" if enough is None else f"Take {enough} seeds or more"
    return [
        f"{seeds} seeds cannot tell at level {level:g} whether recipes differ beyond the seed: the smallest p they can "
        f"give{corrected} is {least:.2g}. {more}" + (f", or a level of {least:.2g} or more." if least < 1 else ".")
    ]


_COLUMNS: dict[str, Callable[[Effect], Any]] = {
    "rms_distance": lambda effect: effect.paired.distance.mean,
    "low": lambda effect: effect.paired.distance.low,
    "high": lambda effect: effect.paired.distance.high,
    "error": lambda effect: effect.paired.error,
    "p_different": lambda effect: effect.paired.p_adjusted,
    "different": lambda effect: effect.paired.significant,
    "systematic": lambda effect: effect.systematic.distance.mean,
    "systematic_low": lambda effect: effect.systematic.distance.low,
    "systematic_high": lambda effect: effect.systematic.distance.high,
    "p": lambda effect: effect.systematic.p_adjusted,
    "significant": lambda effect: effect.systematic.significant,
    "seed_std": lambda effect: effect.seed_std,
    "flips": lambda effect: effect.flips,
    "seeds": lambda effect: effect.seeds,
}


def filled(outputs: list[Tensor | None], like: Tensor) -> Tensor:
    """Outputs of all seeds, nan where there are none."""
    return torch.stack([torch.full_like(like, np.nan) if one is None else one for one in outputs])

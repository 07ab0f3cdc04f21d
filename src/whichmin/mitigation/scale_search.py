"""Scale search: the same network at smaller and smaller scales, while the validation loss falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import nn

from whichmin.errors import InputError, WhichminError
from whichmin.mitigation.method import Method
from whichmin.mitigation.outcome import Outcome, Remedy, Search
from whichmin.mitigation.scaling import check_scale, scaled, unscaled
from whichmin.mitigation.work import OutOfBudgetError, Work
from whichmin.recipe.build import OptimizerFactory, build_optimizer
from whichmin.recipe.recipe import Recipe

#: A validation loss that falls by less than this part of itself has not fallen by a margin.
MARGIN = 0.01
#: Where a search hangs on the predictions' errors, it predicts again with these parts of the tolerance, one by one.
FINER = (0.1, 0.01)
#: The smallest scale that a search without scales of its own goes to.
SMALLEST = 0.01


@dataclass(frozen=True)
class ScaleSearch(Method):
    """The algorithm of Nonnenmacher, Reeb, Steinwart (2020), section 3, (a) to (e), predicted before it is trained.

    (a) the network at the standard scale, 1; (b) the same θ₀ at a smaller one; (c) go on while the validation loss
    falls significantly, by a paired test over validation points, and by a hundredth at least; (d) with smaller and
    smaller scales, until training becomes too slow; (e) take the last scale at which it fell so: scales below it are
    not told apart from it by the validation points, and train more slowly.

    Attributes:
        shrink: the factor from one scale to the next, between 0 and 1.
        scales: the scales after 1, descending, in place of powers of ``shrink``.
        follow_rate: whether the learning rate is adjusted to the scale, so that it is the same part of the limit of
            stability (of optimizers without a known limit: moves outputs alike); else training at scale α slows down
            with its kernel, by α^{2L} for L layers of rectifiers.
    """

    shrink: float = 0.8
    scales: tuple[float, ...] | None = None
    follow_rate: bool = True

    name = "scale_search"
    summary = "Train the network at a smaller scale of every layer."
    acts_on = "network"
    foreseen = "path"

    def __post_init__(self) -> None:
        """Refuse scales that do not descend from 1 to above 0."""
        if not (isinstance(self.shrink, int | float) and 0 < self.shrink < 1):
            raise InputError(f"shrink is {self.shrink!r}; expected a number between 0 and 1, such as 0.8.")
        if self.scales is None:
            return
        scales = tuple(map(check_scale, self.scales))
        if not scales or any(b >= a for a, b in pairwise((1.0, *scales))):
            raise InputError(f"scales is {self.scales}; expected numbers below 1 that descend, such as (0.7, 0.5).")
        object.__setattr__(self, "scales", scales)

    def predict(self, work: Work) -> Remedy:
        """The search by predictions."""
        finest: dict[float, float] = {}  # the parts of the tolerance that scales were predicted with

        def at(scale: float) -> Outcome:
            if scale == 1:
                return work.predicted
            network, recipe = self._at(work, scale)
            return _ordinary(work.outcome(work.predict(network, recipe)))

        def finer(scale: float, outcome: Outcome, part: float) -> Outcome:
            if outcome.way == "trained" or finest.get(scale, 1.0) <= part:
                return outcome
            finest[scale] = part
            network, recipe = self._at(work, scale) if scale != 1 else (work.model, work.recipe)
            found = _ordinary(work.outcome(work.predict(network, recipe, tol=part * work.aim.tol)))
            return found if found.error < outcome.error else outcome  # it may have run out of budget

        search = self._search(work, at, 1, finer=finer)
        return replace(self.remedy(work), predicted=search.outcomes[search.chosen], search=_lighter(search))

    def train(self, work: Work, remedy: Remedy, *, every: bool = False) -> Remedy:
        """The chosen scale, trained; or the search by training, through all scales that were predicted at least."""
        assert remedy.search is not None
        assert remedy.predicted is not None
        predicted = remedy.search
        known = dict(zip(predicted.scales, predicted.outcomes, strict=True)) | {predicted.scale: remedy.predicted}

        def at(scale: float) -> Outcome:
            if scale == 1:
                return work.trained
            network, recipe = self._at(work, scale)
            return _ordinary(work.train(network, recipe, predicted=known.get(scale)))

        if not every:
            return replace(remedy, trained=at(predicted.scale))
        search = self._search(work, at, len(predicted.scales), keep=predicted.scale)
        if predicted.scale not in search.scales:
            return replace(remedy, trained_search=_lighter(search), failure=search.reason)
        trained = search.outcomes[search.scales.index(predicted.scale)]
        return replace(remedy, trained=trained, trained_search=_lighter(search))

    def _at(self, work: Work, scale: float) -> tuple[nn.Module, Recipe]:
        """The network at a scale, and what trains it there."""
        network = scaled(work.model, scale, work.task.X)
        if not self.follow_rate or work.recipe.names_rate:
            return network, work.recipe
        weaker = float(work.prediction.eigenvalues[0]) / work.largest_eigenvalue(network)
        factor = math.sqrt(weaker) if work.prediction.limit is None else weaker
        return network, replace(work.recipe, optimizer=ScaledRate(work.recipe.optimizer, factor))

    def _scales(self) -> Iterator[float]:
        yield 1.0
        if self.scales is not None:
            yield from self.scales
            return
        scale = self.shrink
        while scale >= SMALLEST:
            yield scale
            scale *= self.shrink

    def _search(
        self, work: Work, at: Callable[[float], Outcome], at_least: int, keep: float | None = None,
        finer: Callable[[float, Outcome, float], Outcome] | None = None,
    ) -> Search:  # fmt: skip
        """Go through the scales. Networks are kept of the lowest loss so far, and at one scale that is named.

        Args:
            work: the problem.
            at: the outcome at a scale.
            at_least: so many scales are looked at for the record, also after the search has stopped.
            keep: the scale.
            finer: a predicted outcome at a scale with an error below a part of the tolerance, for where the search
                hangs on errors.
        """
        scales: list[float] = []
        outcomes: list[Outcome] = []
        losses: list[float] = []
        p: list[float] = []
        reason, considered, chosen = "", 0, 0
        for scale in self._scales():
            try:
                outcome = at(scale)
            except WhichminError as error:
                if not outcomes:
                    raise
                reason, considered = reason or f"scale {scale:.3g}: {error}", considered or len(outcomes)
                break
            slow = _too_slow(work, outcome)
            if outcomes and slow:
                reason, considered = reason or f"scale {scale:.3g}: {slow}", considered or len(outcomes)
                break
            for part in FINER if finer is not None and outcomes else ():
                if not self._is_open(work, outcomes[-1], outcome, scale):
                    break
                assert finer is not None
                try:
                    outcomes[-1], outcome = finer(scales[-1], outcomes[-1], part), finer(scale, outcome, part)
                except OutOfBudgetError:
                    break
                losses[-1] = work.validation_loss(outcomes[-1])
            p.append(work.falls(outcomes[-1], outcome) if outcomes else math.nan)
            scales.append(scale)
            outcomes.append(outcome)
            losses.append(work.validation_loss(outcome))
            if not considered and len(losses) > 1 and (stop := self._stops(work, *losses[-2:], p[-1], scale)):
                reason, considered = stop, len(losses)
            chosen = chosen if considered else len(losses) - 1
            outcomes = [
                o if i == chosen or s == keep else replace(o, network=None)
                for i, (s, o) in enumerate(zip(scales, outcomes, strict=True))
            ]
            if considered and len(outcomes) >= at_least:
                break
        considered = considered or len(outcomes)
        reason = reason or "all scales were looked at, and the validation loss fell at each."
        return Search(tuple(scales), tuple(outcomes), tuple(losses), tuple(p), considered, chosen, reason)

    def _is_open(self, work: Work, before: Outcome, after: Outcome, scale: float) -> bool:
        """Whether the search goes on or stops as the losses of two predictions are off, by their errors, or not."""
        off, losses = work.loss_error(before, after), [work.validation_loss(o) for o in (before, after)]
        if not math.isfinite(off):
            return True
        stops = (
            self._stops(work, losses[0] + shift, losses[1], work.falls(before, after, shift), scale) is None
            for shift in (-off, off)
        )
        return len(set(stops)) > 1

    @staticmethod
    def _stops(work: Work, before: float, after: float, p: float, scale: float) -> str | None:
        """Why the search stops at a loss after that of the scale before; None where it goes on."""
        if not after < before:
            return f"the validation loss rises from {before:.3g} to {after:.3g} at scale {scale:.3g}."
        if not p <= work.aim.level:
            return f"the validation loss does not fall significantly at scale {scale:.3g} (p = {p:.2g})."
        if before - after < MARGIN * abs(before):
            return f"the validation loss falls by less than {MARGIN:.0%} at scale {scale:.3g}."
        return None


@dataclass(frozen=True)
class ScaledRate:
    """An optimizer factory with all learning rates multiplied.

    Attributes:
        optimizer: the factory.
        factor: what they are multiplied by.
    """

    optimizer: OptimizerFactory
    factor: float

    def __call__(self, parameters: Iterable[nn.Parameter]) -> object:
        """The optimizer."""
        built = build_optimizer(self.optimizer, parameters)
        for group in built.param_groups:
            if "lr" in group:
                group["lr"] = group["lr"] * self.factor
        return built


def _too_slow(work: Work, outcome: Outcome) -> str | None:
    """Why training takes too long there; None where it does not."""
    if not outcome.reached and outcome.steps < work.aim.limit:
        ended = f"at a training loss of {outcome.train_loss:.3g} after {outcome.steps:,.0f} steps"
        return f"training ends short of its aim, {ended}."
    if not outcome.reached:
        return f"training does not get there within {work.aim.limit:,} steps."
    if outcome.way == "trained" or math.isinf(work.left):
        return None
    seconds = outcome.steps * work.seconds_per_step
    if seconds > work.left:
        return f"training would take about {seconds:.3g} s, and {max(work.left, 0.0):.3g} s of the budget are left."
    return None


def _ordinary(outcome: Outcome) -> Outcome:
    """With the scale in the parameters of its network, if that is kept."""
    return outcome if outcome.network is None else replace(outcome, network=unscaled(outcome.network))


def _lighter(search: Search) -> Search:
    """Without the networks, which the remedy's own outcome has."""
    return replace(search, outcomes=tuple(replace(o, network=None) for o in search.outcomes))

"""How finely a path is divided: one loop, and one controller for each kind of path."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.real import BudgetError

#: A path aims at this part of the error that is accepted, so that its estimate still meets it when it comes out larger.
AIM = 0.75

#: A path of so many intervals whose error is one that no finer path would take away is not made finer.
ENOUGH = 16
#: At the edge of stability a path is made finer once at most, and not where its error is no more than this many times
#: what outputs swing by.
SWUNG = 1.25


@dataclass(frozen=True, eq=False)
class Attempt:
    """A path and how finely it was divided: all that the next one is chosen from.

    Attributes:
        resolution: in the controller's own unit.
        outcome: what came of it.
        before: the attempt before it; None for the first.
    """

    resolution: float
    outcome: Outcome
    before: Attempt | None = None


class Controller(ABC):
    """Says how finely the next path is to be divided. It has no state: that is the attempt it is given."""

    @abstractmethod
    def next(self, attempt: Attempt) -> float | None:
        """The resolution of the next path; None where this one is good enough, or a finer one is no use."""


def _is_no_use(outcome: Outcome, intervals: float) -> bool:
    """Whether a finer path than one of so many intervals would know no more."""
    return intervals >= ENOUGH and 0 < outcome.error <= outcome.unknowable


#: What is said where it was not there in time.
FINER = "the budget ran out before a finer path was there."


def refine(follow: Callable[[float, Attempt], Outcome], controller: Controller, first: Attempt) -> Attempt:
    """Follow paths until the controller is content, or the budget runs out.

    Args:
        follow: a path of a resolution, told of the attempt before it, to which it may compare itself.
        controller: chooses the resolutions.
        first: what is known at the start.

    Raises:
        BudgetError: it ran out before there was any path.
    """
    attempt = first
    while (resolution := controller.next(attempt)) is not None:
        try:
            outcome = follow(resolution, attempt)
        except BudgetError:
            if attempt.outcome.method == "linearized":
                raise
            return replace(attempt, outcome=attempt.outcome.with_notes(FINER))
        attempt = Attempt(resolution, outcome, replace(attempt, before=None))
    return attempt


@dataclass(frozen=True)
class IntervalCount(Controller):
    """By the number of intervals, which the error falls with inversely.

    Attributes:
        accepted: the error of the outputs that is accepted.
        accepted_loss: the relative error of training losses, and of the number of steps to one, that is accepted;
            infinity where any is.
        most: no more intervals than this are planned.
        hopeless: a path of which so much is not known is not made finer.
    """

    accepted: float
    accepted_loss: float
    most: int
    hopeless: float = math.inf

    #: Where one linearization misses what is accepted by more than this factor, a first path of few intervals is tried.
    DIRECT = 16
    #: The number of intervals of that first path.
    FIRST = 4
    #: No path is planned of fewer intervals.
    LEAST = 2
    #: The number of intervals grows by at least this factor from one path to the next.
    LEAST_GROWTH = 1.5
    #: The number of intervals grows by at most this factor from one path to the next.
    MOST_GROWTH = 4

    def is_met(self, outcome: Outcome) -> bool:
        """Whether all errors are accepted."""
        return outcome.error <= self.accepted and self._loss_error(outcome) <= self.accepted_loss

    def next(self, attempt: Attempt) -> float | None:
        """In intervals; 1 is the linearization at θ₀."""
        outcome, count = attempt.outcome, attempt.resolution
        if self.is_met(outcome) or count >= self.most or _is_no_use(outcome, count):
            return None
        if self.hopeless <= outcome.unknowable < math.inf:
            return None
        if outcome.swing:  # at the edge of stability kernels outgrow finer intervals all the same
            is_second = attempt.before is not None and attempt.before.outcome.swing > 0
            return None if is_second or outcome.error <= SWUNG * outcome.swing else min(self.most, 2 * count)
        if count == 1:
            missing = max(outcome.error / self.accepted, self._of_accepted_loss(outcome.steps_error))
            return max(self.LEAST, math.ceil(missing)) if missing <= self.DIRECT else self.FIRST
        missing = max(outcome.error / self.accepted, self._of_accepted_loss(self._loss_error(outcome))) / AIM
        wanted = math.ceil(count * min(missing, self.MOST_GROWTH))
        return min(self.most, max(math.ceil(self.LEAST_GROWTH * count), wanted))

    def _of_accepted_loss(self, error: float) -> float:
        return error / self.accepted_loss if math.isfinite(self.accepted_loss) else 0.0

    @staticmethod
    def _loss_error(outcome: Outcome) -> float:
        return max(outcome.loss_error, outcome.steps_error)


@dataclass(frozen=True)
class GrowthFactor(Controller):
    """By what part of the steps made before an interval may grow.

    Attributes:
        accepted: the error of the outputs that is accepted.
    """

    accepted: float

    #: The growth of the first path's intervals.
    FIRST = 0.25
    #: No path is finer than this.
    FINEST = 0.02
    #: From one path to the next the growth is divided by this.
    DIVISOR = 4

    def next(self, attempt: Attempt) -> float | None:
        """A growth."""
        if attempt.outcome.error <= self.accepted or attempt.resolution <= self.FINEST:
            return None
        return attempt.resolution / self.DIVISOR


@dataclass(frozen=True)
class AimedError(Controller):
    """By the error that each interval is kept short for.

    Attributes:
        accepted: the error of the outputs that is accepted.
        most: a path of this many intervals is not made finer.
        exact_steps: steps that were made before the path began; no interval is shorter than a step.
    """

    accepted: float
    most: int
    exact_steps: int

    #: The error of a path grows like this root of what its intervals aim at, unless two paths show that it grows less.
    ORDER = 1.2
    #: It grows like this root at most.
    HIGHEST_ORDER = 6.0
    #: From one path to the next the aim falls to no less than this part.
    FINER = 0.1
    #: From one path to the next the aim falls to this part at least.
    LEAST = 0.6

    def next(self, attempt: Attempt) -> float | None:
        """In units of the outputs; the first path aims at the error that is accepted."""
        outcome = attempt.outcome
        finest = outcome.intervals >= min(self.most, outcome.steps - self.exact_steps)
        if (
            outcome.error <= self.accepted
            or finest
            or not outcome.steps > self.exact_steps
            or _is_no_use(outcome, outcome.intervals)
        ):
            return None
        share = (AIM * self.accepted / outcome.error) ** self._order(attempt)
        return attempt.resolution * min(max(share, self.FINER), self.LEAST)

    def _order(self, attempt: Attempt) -> float:
        """As two paths show it; what intervals do not aim at, as the kinks of rectifiers, falls more slowly."""
        before = attempt.before
        if before is None or not before.outcome.error > attempt.outcome.error > 0:
            return self.ORDER
        fell = math.log(before.outcome.error / attempt.outcome.error)
        return min(max(math.log(before.resolution / attempt.resolution) / fell, self.ORDER), self.HIGHEST_ORDER)

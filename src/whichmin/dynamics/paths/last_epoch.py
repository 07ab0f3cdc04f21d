"""Which epoch is the last one: of steps in batches the loss is compared with ``until`` once an epoch.

Predictions that end with the same epoch may differ by little, and training that is below by a hair one epoch sooner, or
not yet, by all that an epoch moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from whichmin.dynamics.paths.linearized import Linearization
from whichmin.dynamics.paths.outcome import Outcome, error_told_by
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.relinearized import EPOCHS
from whichmin.dynamics.paths.twin import leeway_of, uncertain

#: Losses at the ends of epochs may be off by so many times what paths tell.
EPOCH_MARGIN = 2.0
#: What is said where that may be another epoch.
OTHER_EPOCH = (
    "the loss is looked at once an epoch, and which one is the last hangs on less than this may be off: training may "
    "end {:.0f} steps earlier or later, where outputs are {:.2g} from here."
)
#: What is said where there is no time to see.
EPOCH_UNKNOWN = "the budget ran out before it was known how much hangs on which epoch is the last one."


class LastEpoch:
    """How sure it is which epoch is the last one of a prediction.

    Args:
        problem: what is predicted.
        theory: the linearization at θ₀.
    """

    def __init__(self, problem: Problem, theory: Linearization) -> None:
        self._problem, self._theory = problem, theory
        self._excess = problem.objective.excess

    def is_at(self, end: float) -> bool:
        """Whether training ends with the epoch after which its loss is below ``until``."""
        return self._problem.goal.looks_by_epoch and self._problem.first < end < self._problem.goal.steps

    def beside(self, end: float, off: float) -> list[float]:
        """The steps where training may end, if it is off by so many."""
        return [s for s in (end - off, end, end + off) if self._problem.first <= s <= self._problem.goal.steps]

    def off_on_one(self, end: float, losses: Sequence[float]) -> tuple[float, float]:
        """How many steps earlier or later one linearization may end, and how far its outputs are there from the end.

        Args:
            end: the step where it ends.
            losses: what the training loss there may be.
        """
        theory, goal, excess = self._theory, self._problem.goal, self._excess
        if not self.is_at(end):
            return 0.0, 0.0
        assert goal.until is not None
        epochs = [*goal.epochs_before(end, self._problem.first, EPOCHS), end]
        known = {s: excess(theory.loss(s)) for s in epochs}
        leeway = max(leeway_of(known, {end: excess(loss)}, 1.0) for loss in losses)
        off = uncertain(known, excess(goal.until), leeway, goal.eval_every)
        at = [theory.test(s) for s in self.beside(end, off)] if off else []
        return off, max((error_told_by(other - theory.test(end)) for other in at), default=0.0)

    def off_on_a_path(self, outcome: Outcome, coarse: Outcome, ratio: float) -> float:
        """How many steps earlier or later a path may end.

        Args:
            outcome: the path.
            coarse: the one that it was compared with.
            ratio: how many times the intervals it has.
        """
        goal, excess = self._problem.goal, self._excess
        if not self.is_at(outcome.measured_steps) or not math.isfinite(outcome.error):
            return 0.0
        losses = {s: excess(loss) for s, loss in outcome.epochs.items()}
        others = {s: self._theory.loss(s) for s in losses} if coarse.method == "linearized" else coarse.epochs
        margin = EPOCH_MARGIN / math.sqrt((ratio - 1) * math.hypot(ratio, 1))
        assert goal.until is not None
        leeway = leeway_of(losses, {s: excess(loss) for s, loss in others.items()}, margin)
        return uncertain(losses, excess(goal.until), leeway, goal.eval_every)

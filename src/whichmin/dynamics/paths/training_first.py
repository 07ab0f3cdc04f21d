"""Predictions of a linear rule where real training is short beside a linearization."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from itertools import accumulate

from torch import Tensor

from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.predictor import Predictor, Relinearize
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import Patience
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.rule import Convergence
from whichmin.errors import DivergenceError

#: A prediction by linearizations takes about so many times one at least, and so many more when the first was made.
LINEARIZATIONS, MORE = 3.0, 2.0
#: A loss that rises to so many times the lowest before it tells of a rate that may be beyond the limit of stability.
RISES = 1.1
BEYOND = (
    "at θ₀ the learning rate is beyond the limit of stability, {:.3g}: the linearized network would diverge. Real "
    "training has not by then."
)


class TrainingFirst(Predictor):
    """Of a linear rule and a known number of steps: real training where looking at a kernel takes much of its time.

    Kernels of many outputs, N·C in the thousands, and of deep networks may take longer than a hundred training steps.

    Args:
        problem: what is predicted.
        other: makes the predictor by linearizations, for all else.
    """

    def __init__(self, problem: Problem, other: Callable[[], Predictor]) -> None:
        super().__init__(problem)
        self._make = other

    @cached_property
    def other(self) -> Predictor:
        """The predictor by linearizations."""
        self.network.put(self.problem.origin)
        return self._make()

    def _predict(self, relinearize: Relinearize, tol: float, patience: Patience) -> Outcome:
        """By real training that lowers the loss; else as the other one does."""
        goal, at_origin = self.problem.goal, self.problem.at_origin
        if patience.real is not None and "other" not in vars(self):
            patience.expected = goal.steps - self.problem.first
            is_first = patience.is_training_first(LINEARIZATIONS * at_origin.least_seconds)
            is_first = is_first or patience.is_training_first(patience.spent + MORE * at_origin.seconds)
            if is_first:
                with suppress(DivergenceError):
                    outcome = patience.real.run(patience, or_part=True)
                    if outcome.curve[-1][1] <= outcome.curve[0][1]:
                        return self._judged(outcome, patience)
        return self.other._predict(relinearize, tol, patience)

    def _judged(self, outcome: Outcome, patience: Patience) -> Outcome:
        """With a note where the rate is beyond the limit of stability at θ₀: losses in full batches rise on the way.

        The limit is looked at where its kernel is there, or takes no more of training's time than other ways may.
        """
        problem, rule = self.problem, self.problem.rule
        losses = [loss for _, loss in outcome.curve]
        rises = any(loss > RISES * lowest for loss, lowest in zip(losses, accumulate(losses, min), strict=True))
        if not rises or problem.goal.eval_every > 1 or not problem.objective.loss.is_quadratic:
            return outcome
        origin = problem.at_origin
        if not origin.is_linearized and patience.is_training_first(origin.least_seconds):
            return outcome
        assert isinstance(rule, LinearRule)
        limit = rule.limit(origin.spectrum.largest, problem.objective.gamma)
        return outcome.with_notes(BEYOND.format(limit)) if rule.rate(problem.first) >= limit else outcome

    def linearized(self, patience: Patience | None = None) -> Outcome:
        """That of the other one."""
        return self.other.linearized(patience)

    def terms(self, outcome: Outcome) -> dict[str, Tensor]:
        """Those of the other one."""
        return self.other.terms(outcome)

    def nonlinear_terms(self, linearized: Outcome, test: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Those of the other one."""
        return self.other.nonlinear_terms(linearized, test, state)

    def convergence(self) -> Convergence | None:
        """That of the other one."""
        return self.other.convergence()

    def limit(self) -> float | None:
        """That of the other one."""
        return self.other.limit()

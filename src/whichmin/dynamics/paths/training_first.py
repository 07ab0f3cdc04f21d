"""Predictions of a linear rule where real training takes no longer than a linearization."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property

from torch import Tensor

from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.predictor import Predictor, Relinearize
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import Patience
from whichmin.dynamics.rules.rule import Convergence
from whichmin.errors import DivergenceError

#: A prediction by linearizations takes about so many times one at least.
LINEARIZATIONS = 3.0


class TrainingFirst(Predictor):
    """Of a linear rule and a known number of steps: real training where that is cheaper than looking at a kernel.

    Kernels of many outputs, N·C in the thousands, may take longer than a hundred training steps.

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
        goal, real = self.problem.goal, patience.real
        if real is not None and "other" not in vars(self):
            patience.expected = goal.steps - self.problem.first
            if patience.is_training_cheaper(LINEARIZATIONS * self.problem.at_origin.least_seconds):
                with suppress(DivergenceError):
                    outcome = real.run(patience, or_part=True)
                    if outcome.curve[-1][1] <= outcome.curve[0][1]:
                        return outcome
        return self.other._predict(relinearize, tol, patience)

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

"""Predictions where the linearized network diverges and the network itself may not: real training."""

from __future__ import annotations

import math
from dataclasses import replace

from whichmin.dynamics.paths.edge import largest_eigenvalue
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import Patience
from whichmin.dynamics.paths.stepwise import StepwisePredictor
from whichmin.errors import DivergenceError
from whichmin.loop.training_loop import Loop
from whichmin.recipe.schedule import Batches, GivenBatches

#: A largest eigenvalue of less than this part of that at θ₀ is a smaller one.
SMALLER = 0.999
#: One of less than this part is that of a network that has died, as rectifiers do when a step throws them too far.
DEAD = 1e-3
#: Training that is to reach a loss at such a rate is given up after this many steps.
LONGEST = 5000
#: It is given up earlier after so many losses that are all higher than the first: a catapult comes down in some dozens.
HIGH = 1000
#: Or after so many equal losses whose last gradient is zero: no further step moves the network.
STILL = 100


class UnstablePredictor(StepwisePredictor):
    """Of a rule at a rate beyond the limit of stability at θ₀.

    A network may move to where its kernel is smaller and train on from there (the catapult of Lewkowycz et al. 2020),
    or diverge like its linearization: real steps tell.

    Args:
        problem: what is predicted.
        batches: the rows of each step; None for all.
        error: what the linearized network does.
    """

    def __init__(self, problem: Problem, batches: Batches | GivenBatches | None, error: DivergenceError) -> None:
        goal = problem.goal
        if math.isinf(goal.steps):
            problem = replace(problem, goal=replace(goal, times=(*goal.times[:-1], problem.first + LONGEST)))
        super().__init__(problem, batches)
        self._error = error

    def limit(self) -> float | None:
        """The limit of stability that the rate is beyond; None for batches, whose recursion diverges below it."""
        return self._error.limit if math.isfinite(self._error.limit) else None

    def _predict(self, relinearize: Relinearize, tol: float, patience: Patience) -> Outcome:
        """By real training, or the linearized network's error where that is not wanted or diverges too."""
        if patience.real is None:
            raise self._error
        try:
            outcome = patience.real.run(patience, or_part=True, is_lost=_is_lost)
        except DivergenceError as error:
            raise self._error from error
        if not outcome.curve[-1][1] <= outcome.curve[0][1]:
            raise self._error
        became = self._change_of_the_largest_eigenvalue(outcome)
        if became < DEAD:
            raise self._error
        note = (
            "at θ₀ the learning rate is beyond the limit of stability: the linearized network would diverge, and "
            "training moves to where the kernel is smaller."
        )
        if became >= SMALLER:
            note = (
                "at θ₀ the learning rate is beyond the limit of stability: the linearized network diverges. Training "
                f"has not by step {outcome.steps:,.0f}, and its kernel is no smaller there: it may diverge later."
            )
        return outcome.with_notes(note)

    def _change_of_the_largest_eigenvalue(self, outcome: Outcome) -> float:
        """That of the kernel at the end, over that at θ₀."""
        network = self.network
        network.model.load_state_dict(outcome.state)
        largest = largest_eigenvalue(network.features())
        network.put(self.problem.origin)
        return largest / self.problem.spectrum.largest


def _is_lost(loop: Loop) -> bool:
    """Whether training has blown up, or killed the network, for good."""
    losses, made = loop.losses, len(loop.losses)
    if made > STILL and losses[-1] == losses[-STILL] and len(set(losses[-STILL:])) == 1:
        gradients = [p.grad for group in loop.optimizer.param_groups for p in group["params"]]
        return not any(bool(gradient.any()) for gradient in gradients if gradient is not None)
    return made > HIGH and made % STILL == 0 and min(losses[-HIGH:]) > losses[0]

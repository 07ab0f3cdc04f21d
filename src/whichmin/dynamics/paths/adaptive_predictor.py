"""Predictions of AdaGrad, RMSprop, Adam and AdamW in full batches: paths of Krylov intervals."""

from __future__ import annotations

import math

from whichmin.dynamics.paths.adaptive import FASTEST, AdaptivePath
from whichmin.dynamics.paths.controller import AimedError, Attempt, refine
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.predictor import Problem, Relinearize
from whichmin.dynamics.paths.stepwise import SMALLEST_GROWTH, StepwisePredictor
from whichmin.dynamics.paths.warm_start import EXACT_STEPS, WarmStart, warm_start
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.losses import root_mean_square
from whichmin.recipe.recipe import Recipe

#: A path is given up after this many intervals.
MOST_INTERVALS = 512


class AdaptivePredictor(StepwisePredictor):
    """Of an adaptive rule in full batches: along a path, without a linearized run of it.

    Args:
        problem: what is predicted; its network releases its cached layers.
        recipe: what trains, its learning rate settled.
        rule: its rule.
    """

    def __init__(self, problem: Problem, recipe: Recipe, rule: AdaptiveRule) -> None:
        super().__init__(problem, recipe, None)
        self._rule = rule

    def predict(self, relinearize: Relinearize, tol: float) -> Outcome:
        """The linearized run where it is asked for, else paths, until one is good enough."""
        if relinearize == "never":
            return self.linearized()
        network, goal = self.network, self.bounded
        network.put(self.problem.origin)
        start = warm_start(network, self._rule, self._recipe.build(list(network.parameters.values())), goal)
        if isinstance(relinearize, int):
            end = goal.steps if goal.until is None else self._path_from(start, 1.0, math.inf).steps
            growth = (max(end, EXACT_STEPS + 1.0) / EXACT_STEPS) ** (1.0 / relinearize) - 1.0
            return self._path_from(start, max(growth, SMALLEST_GROWTH), math.inf)
        accepted = tol * self.problem.target_std

        def aimed(aim: float, _: Attempt | None = None) -> Outcome:
            return self._path_from(start, FASTEST * math.sqrt(aim / accepted), aim)

        controller = AimedError(accepted, MOST_INTERVALS // 2, start.steps)
        return refine(aimed, controller, Attempt(accepted, aimed(accepted))).outcome

    def _path_from(self, start: WarmStart, growth: float, aim: float) -> Outcome:
        network, goal = self.network, self.bounded
        path = AdaptivePath(network, self._rule, start, self.problem.objective, growth=growth, aim=aim)
        arrived = path.follow(goal, MOST_INTERVALS)
        train, test = [flat(network.outputs(network.task.X))], [flat(network.outputs(network.X))]
        notes = self._end_notes(path.curve)
        if not arrived:
            came = f"{path.intervals} intervals, at a training {self.problem.loss_label} of {path.loss:.3g}"
            notes = (*notes, f"the path was given up after {came}.")
        error = root_mean_square(path.error()) if arrived else math.inf
        return Outcome(
            "relinearized", train, test, float(path.steps), path.intervals + 1, error, path.curve, network.state(),
            notes=notes,
        )  # fmt: skip

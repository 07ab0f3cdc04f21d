"""Predictions of AdaGrad, RMSprop, Adam and AdamW in full batches: paths of Krylov intervals."""

from __future__ import annotations

import math
from contextlib import suppress

from whichmin.dynamics.paths.adaptive import FASTEST, AdaptivePath
from whichmin.dynamics.paths.controller import AimedError, Attempt, refine
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.outcome import Outcome, error_told_by
from whichmin.dynamics.paths.position import Position
from whichmin.dynamics.paths.predictor import OUT_OF_BUDGET, UNKNOWN, Relinearize
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import STOPPED, UNCHECKED, BudgetError, Patience, PatienceError
from whichmin.dynamics.paths.stepwise import SMALLEST_GROWTH, StepwisePredictor
from whichmin.dynamics.paths.warm_start import EXACT_STEPS, WarmStart, warm_start
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.losses import Objective, root_mean_square

#: A path is given up after this many intervals.
MOST_INTERVALS = 512
#: At the edge of stability a root mean square residual of more than this many times the accepted error is trained away.
LARGE_RESIDUAL = 10.0
#: Growth by more than e to this is as good as without bound.
LARGEST_EXPONENT = 300.0
#: Close to the edge of stability what a path misses comes back in the steps that overshoot, at most so many times.
MOST_RETURNS = 8.0
#: It is said where the largest eigenvalue came to this part of its limit.
CLOSE = 0.8
#: A path takes at least about so many linearizations.
FEWEST_INTERVALS = 6


class AdaptivePredictor(StepwisePredictor):
    """Of an adaptive rule in full batches: along a path, without a linearized run of it.

    Args:
        problem: what is predicted; its network releases its cached layers.
        rule: its rule.
    """

    def __init__(self, problem: Problem, rule: AdaptiveRule) -> None:
        super().__init__(problem, None)
        self._rule = rule

    def _predict(self, relinearize: Relinearize, tol: float, patience: Patience) -> Outcome:
        """The linearized run where it is asked for, else paths, until one is good enough or training is cheaper."""
        real, goal = patience.real, self.bounded
        if relinearize == "never":
            linearized = self.linearized(patience)
            try:
                patience.check_deadline()
                path = self._path_from(self._warm_start(self.problem.origin), FASTEST, math.inf, patience)
            except BudgetError:
                return linearized.of_unknown_error(OUT_OF_BUDGET, UNKNOWN)
            return self._compared(linearized, path)
        if real is None:
            return self._in_time(relinearize, tol, patience)
        patience.expected = goal.steps - self.problem.first if goal.until is None else math.inf
        if patience.is_training_cheaper(FEWEST_INTERVALS * self.problem.at_origin.least_seconds):
            return real.run(patience, or_part=True)
        with suppress(PatienceError):
            outcome = self._in_time(relinearize, tol, patience)
            if outcome.error <= self._accepted(outcome, tol) or patience.is_over:
                return outcome
        return real.run(patience, or_part=True)

    def _in_time(self, relinearize: Relinearize, tol: float, patience: Patience) -> Outcome:
        """Paths, until one is good enough, or as much of one as the budget allows.

        From the edge of stability on nobody knows where real training goes.
        """
        try:
            outcome = self._along(relinearize, tol, patience)
        except BudgetError as error:
            if error.outcome is None:
                raise
            return error.outcome
        return outcome.of_unknown_error(UNKNOWN) if self._edge_matters(outcome, tol) else outcome

    def _along(self, relinearize: Relinearize, tol: float, patience: Patience) -> Outcome:
        """Paths, until one is good enough."""
        goal, start = self.bounded, self._warm_start(self.problem.origin)
        if isinstance(relinearize, int):
            end = goal.steps if goal.until is None else self._path_from(start, 1.0, math.inf, patience).steps
            exact = max(self.problem.first, EXACT_STEPS)
            growth = (max(end, exact + 1.0) / exact) ** (1.0 / relinearize) - 1.0
            return self._judged_from(start, max(growth, SMALLEST_GROWTH), math.inf, patience)
        accepted = tol * self._scale(start, patience)

        def aimed(aim: float, _: Attempt | None = None) -> Outcome:
            return self._judged_from(start, FASTEST * math.sqrt(aim / accepted), aim, patience)

        controller = AimedError(accepted, MOST_INTERVALS // 2, start.steps)
        return refine(aimed, controller, Attempt(accepted, aimed(accepted))).outcome

    def _accepted(self, outcome: Outcome, tol: float) -> float:
        return tol * self.problem.scale(outcome.train[-1])

    def _edge_matters(self, outcome: Outcome, tol: float) -> bool:
        return _edge_matters(outcome, self._accepted(outcome, tol), self.problem.objective)

    def _scale(self, start: WarmStart, patience: Patience) -> float:
        """What the tolerance is relative to, from a coarse path where the loss does not tell."""
        known = self.problem.known_scale
        if known is not None:
            return known
        return self.problem.scale(self._path_from(start, FASTEST, math.inf, patience).train[-1])

    def _warm_start(self, origin: Position) -> WarmStart:
        network = self._stand(origin)
        optimizer = self._recipe.build(list(network.parameters.values()))
        return warm_start(network, self._rule, optimizer, self.bounded, self.problem.first)

    def _judged_from(self, start: WarmStart, growth: float, aim: float, patience: Patience) -> Outcome:
        """A path, with what cannot be known of it in its error."""
        outcome = self._path_from(start, growth, aim, patience)
        if patience.real is not None:  # which takes its place where that matters
            return outcome
        try:
            return self._with_unknowable(
                outcome, lambda origin: self._path_from(self._warm_start(origin), growth, aim, patience)
            )
        except BudgetError:
            raise BudgetError(outcome.of_unknown_error(UNCHECKED)) from None

    def _path_from(self, start: WarmStart, growth: float, aim: float, patience: Patience) -> Outcome:
        """A path.

        Raises:
            PatienceError: it took longer than training lets it.
            BudgetError: the deadline passed; with the path to there.
        """
        network, goal = self.network, self.bounded
        path = AdaptivePath(network, self._rule, start, self.problem.objective, growth=growth, aim=aim)
        patience.progress.say("along a path", goal.steps)
        stopped = None
        try:
            arrived = path.follow(goal, MOST_INTERVALS, patience)
        except BudgetError:
            arrived, stopped = False, (STOPPED.format(path.steps),)
        train, test = [flat(network.outputs(network.task.X))], [flat(network.outputs(network.X))]
        state, notes = network.state(), stopped or self._end_notes(path.curve, has_stalled=False)
        if not arrived and not stopped:
            came = f"{path.intervals} intervals, at a training {self.problem.loss_label} of {path.loss:.3g}"
            notes = (*notes, f"the path was given up after {came}.")
        if path.edge is not None:
            notes = (*notes, self._edge_note(path.edge))
        elif path.closest > CLOSE:
            notes = (*notes, self._close_note(path.closest))
        error = math.hypot(_returned(path) * error_told_by(path.error()), path.leaps.bent) if arrived else math.inf
        swollen = network.eps * root_mean_square(train[0]) * math.exp(min(path.swelling, LARGEST_EXPONENT))
        outcome = Outcome(
            "relinearized", train, test, float(path.steps), path.intervals + 1, error, path.curve, state,
            notes=notes, edge=path.edge, swollen=0.0 if path.edge is None else swollen, leaps=path.leaps,
        )  # fmt: skip
        if stopped:
            raise BudgetError(outcome)
        return outcome.no_surer_than_leaps()

    def _close_note(self, share: float) -> str:
        return (
            f"the preconditioned kernel comes to {share:.0%} of the limit of stability of lr = {self._rule.lr:.4g}, "
            "where steps overshoot: the estimated error is rough."
        )

    def _edge_note(self, step: float) -> str:
        return (
            f"from step {step:.0f} on the preconditioned kernel is beyond the limit of stability of "
            f"lr = {self._rule.lr:.4g}: real training oscillates at the edge of stability there, and the error is more "
            "than what is estimated."
        )


def _returned(path: AdaptivePath) -> float:
    """By how much errors grow close to the edge of stability.

    A step leaves 1 − 2p of the mode whose eigenvalue is the part p of the limit. What an interval misses of one step is
    there with the other sign after the next: p beyond ½ adds up to 1/(1 − |1 − 2p|) of it where each step misses as
    much.
    """
    if path.edge is not None or path.closest <= 0.5:
        return 1.0
    return min(MOST_RETURNS, 0.5 / max(1.0 - path.closest, 1e-9))


def _edge_matters(outcome: Outcome, accepted: float, objective: Objective) -> bool:
    """Whether a path came to the edge of stability while its loss was much more than the accepted error's.

    RMSprop comes there late, when gradients are small: oscillations of what is left to be fitted then. Beyond the edge
    rounding grows, too, until gradients are large again: in a network that is fitted to the last digit Adam's second
    moments fade, and after some hundred steps its loss leaps.
    """
    if outcome.edge is None:
        return False
    if outcome.swollen > accepted:
        return True
    left = [objective.excess(loss) for step, loss in outcome.curve if step >= outcome.edge]
    small = 0.5 * objective.gamma * len(objective.origin) * (LARGE_RESIDUAL * accepted) ** 2
    return not left or not left[0] <= small

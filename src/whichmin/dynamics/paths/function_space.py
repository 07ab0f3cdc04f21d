"""Predictions of rules whose motion is known in function space."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from whichmin.dynamics.motion.motion import FAR
from whichmin.dynamics.paths.controller import SWUNG, Attempt, IntervalCount, refine
from whichmin.dynamics.paths.last_epoch import EPOCH_UNKNOWN, OTHER_EPOCH, LastEpoch
from whichmin.dynamics.paths.linearized import Linearization, flat
from whichmin.dynamics.paths.one_shot import LINEAR, OneShot
from whichmin.dynamics.paths.outcome import Goal, Outcome, error_told_by
from whichmin.dynamics.paths.position import Position
from whichmin.dynamics.paths.predictor import OUT_OF_BUDGET, Predictor, Relinearize
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import BudgetError, Patience, PatienceError
from whichmin.dynamics.paths.relinearized import Path, follow
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.rule import Convergence
from whichmin.errors import DivergenceError

#: An answer of which nobody knows better than this part of the targets' scale tells so little that no other path is
#: followed for it.
LITTLE = 0.35
#: At the edge of stability paths are compared where no interval ended with an eigenvalue of more than this many times
#: the limit: beyond it they have in common what they are wrong about.
OUTGROWN = 1.5
#: Training losses at several times are to be right to this part of themselves.
LOSS_TOLERANCE = 0.02
#: ``relinearize="auto"`` plans no more intervals than this; a path that is longer than planned takes more.
MOST_INTERVALS = 512
#: A loss of no more than this many times the one that was asked for counts as that.
NEARLY = 1.05
#: Extrapolated steps are off by about this part of what the extrapolation changed.
EXTRAPOLATED = 0.4
#: The steps of a path that was compared with one linearization alone may be off by so much at least: they may agree by
#: chance, and a finer path is to tell.
UNCONFIRMED = 0.025


class FunctionSpacePredictor(Predictor):
    """Of a linear rule: in closed form or as a recursion on the outputs, over one linearization or along a path.

    Args:
        problem: what is predicted.
        rule: its rule, with batches and learning rates.
        linearization: at θ₀.
        end: the step count at which the linearized network ends.
    """

    def __init__(self, problem: Problem, rule: LinearRule, linearization: Linearization, end: float) -> None:
        super().__init__(problem)
        self.rule, self.linearization, self.end = rule, linearization, end
        self.one_shot = OneShot(problem, rule, linearization, end)

    @property
    def scale(self) -> float:
        """What tolerances are relative to."""
        return self.one_shot.scale

    @property
    def _first(self) -> int:
        """How many steps were made before θ₀."""
        return self.problem.first

    def convergence(self) -> Convergence | None:
        """That of the rule, on the kernel in its metric."""
        return self.rule.convergence(self.linearization.spectrum, self.problem.objective.gamma)

    def limit(self) -> float | None:
        """That of the rule; None in a metric, where it is not told by the eigenvalues of the kernel K."""
        spectrum = self.problem.spectrum
        if self.linearization.spectrum is not spectrum:
            return None
        return self.rule.limit(spectrum.largest, self.problem.objective.gamma)

    def _predict(self, relinearize: Relinearize, tol: float, patience: Patience) -> Outcome:
        """One linearization; a path if that is not enough; real training where that is cheaper, or at an edge."""
        outcome = self.linearized()
        accepted_loss = math.inf if self.problem.goal.outputs_only else LOSS_TOLERANCE
        controller = IntervalCount(tol * self.scale, accepted_loss, MOST_INTERVALS, LITTLE * self.scale)
        if relinearize == "never" or self.end <= self._first:
            return self.one_shot.with_real_steps(outcome)
        if controller.is_met(outcome):
            outcome = self.one_shot.with_real_steps(outcome)
        try:
            if isinstance(relinearize, int):
                return self._path_of(relinearize, outcome, patience)
            if controller.is_met(outcome) and not self._lingers(outcome):
                return self.exactly().linearized() if self.rule.rtol and self.rule.is_closed else outcome
            return self._cheapest(outcome, controller, tol, patience)
        except BudgetError:
            return outcome.with_notes(OUT_OF_BUDGET)

    def _cheapest(self, linearized: Outcome, controller: IntervalCount, tol: float, patience: Patience) -> Outcome:
        """A path, or real training, which takes the place of paths that do not meet the tolerance."""
        real, first = patience.real, Attempt(1, linearized)
        patience.expected = self.end - self._first
        intervals = controller.next(first) or controller.FIRST
        if real is not None and math.isinf(self.end):  # the linearized network never gets there
            return self._with_certificate(real.run(patience), linearized)
        if real is not None and patience.is_training_cheaper(intervals * self.problem.seconds):
            return self._with_certificate(real.run(patience), linearized)
        try:
            outcome = self._refined(linearized, controller, tol, patience)
            if real is None or patience.is_over or (controller.is_met(outcome) and not self._lingers(outcome)):
                return outcome
        except (PatienceError, DivergenceError):
            if real is None:
                raise
        return self._with_certificate(real.run(patience), linearized)

    def terms(self, outcome: Outcome) -> dict[str, Tensor]:
        """Those of the linearized theory, and curvature and drift of a path."""
        if outcome.method == "linearized":
            return self.linearization.terms(outcome.steps, (outcome.train[-1], outcome.test[-1]))
        return self.linearization.terms(outcome.steps) | self.nonlinear_terms(outcome, outcome.test[-1], outcome.state)

    def nonlinear_terms(self, linearized: Outcome, test: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """From the linearization at θ₀ at the step count of the outcome."""
        network, theory = self.network, self.linearization
        network.put(self.problem.origin)
        moved = network.difference(state, self.problem.origin)
        straight = theory.f0_test + flat(theory.test_features.push(moved))
        return {"curvature": test - straight, "drift": straight - theory.test(linearized.steps)}

    def exactly(self) -> FunctionSpacePredictor:
        """With motions that are exact."""
        linearization = self.linearization.exact
        problem, end = replace(self.problem, rule=linearization.rule), self.end
        if problem.goal.until is not None:
            end = min(linearization.time_below(problem.goal.until, problem.goal.steps), problem.goal.steps)
        return FunctionSpacePredictor(problem, linearization.rule, linearization, end)

    def linearized(self, patience: Patience | None = None) -> Outcome:
        """One linearization, its certificate and its estimated error."""
        return self.one_shot.outcome()

    def _lingers(self, outcome: Outcome) -> bool:
        """Whether real training may go another way at the edge of stability, which only a linear network cannot."""
        return (outcome.edge is not None or outcome.is_close) and outcome.error > LINEAR * self.scale

    def _path_of(self, count: int, linearized: Outcome, patience: Patience) -> Outcome:
        """A path of so many intervals, its error by comparison with one of half as many."""
        coarse = self._path(count // 2, patience) if count > 1 else linearized
        outcome = self._judged(coarse, 2.0, count, None, patience)
        return self._with_certificate(self._with_other_epochs(outcome, coarse, 2.0, count, None, patience), linearized)

    def _with_other_epochs(
        self, outcome: Outcome, coarse: Outcome, ratio: float, count: int, stride: float | None, patience: Patience
    ) -> Outcome:
        """With an error no smaller than what another epoch leads to, where that may be the last one.

        Args:
            outcome: a path.
            coarse: the one that it was compared with.
            ratio: how many times the intervals it has.
            count: how many intervals were planned.
            stride: as for :func:`follow`.
            patience: how long it may take.
        """
        end, last = outcome.measured_steps, LastEpoch(self.problem, self.linearization)
        off = last.off_on_a_path(outcome, coarse, ratio)
        if not off:
            return outcome
        times = last.beside(end, off)
        beside = replace(self.problem.goal, times=tuple(times), until=None)
        try:
            found = self._path(count, patience, stride, goal=beside).test
        except BudgetError:
            return outcome.of_unknown_error(EPOCH_UNKNOWN)
        if len(found) < len(times):  # beyond the end it was given up
            return outcome
        here = found[times.index(end)]
        moved = max(error_told_by(other - here) for other in found)
        if moved <= outcome.error:
            return outcome
        return replace(outcome, error=moved).with_notes(OTHER_EPOCH.format(off, moved))

    def _refined(self, linearized: Outcome, controller: IntervalCount, tol: float, patience: Patience) -> Outcome:
        """Paths of more and more intervals of equal length, until one is good enough."""
        motion = self.linearization.motion
        duration = self.end - self._first
        if math.isinf(duration) and self.rule.schedule.dies_out(int(self._first)):
            duration = FAR
        length = motion.displacement(duration)
        if self.rule.state_vectors:
            length = float(motion.travelled(duration)[1][-1])

        def finer(count: float, before: Attempt) -> Outcome:
            ratio, stride = count / before.resolution, length / count
            return self._judged(before.outcome, ratio, int(count), stride, patience)

        last = refine(finer, controller, Attempt(1, linearized))
        outcome = last.outcome.with_notes(*self._missed(last.outcome, controller, tol))
        if last.before is not None:
            count, coarse = int(last.resolution), last.before
            outcome = self._with_other_epochs(
                outcome, coarse.outcome, count / coarse.resolution, count, length / count, patience
            )
        return self._with_certificate(outcome, linearized)

    def _missed(self, outcome: Outcome, controller: IntervalCount, tol: float) -> tuple[str, ...]:
        """What to say of tolerances that the finest path does not meet."""
        notes, far = [], f"with {controller.most} planned intervals: this network is far from its linearizations."
        if outcome.error <= SWUNG * outcome.unknowable:
            far = "and a finer path would know no more."
        if outcome.error > controller.accepted:
            notes.append(f"{self.problem.missed_tolerance(outcome.error, tol, self.scale)} {far}")
        if outcome.loss_error > controller.accepted_loss:
            notes.append(
                f"the training errors on the way may be off by {outcome.loss_error:.0%} of themselves, more than "
                f"{controller.accepted_loss:.0%}, {far}"
            )
        if outcome.steps_error > controller.accepted_loss:
            notes.append(f"the number of steps may be off by {outcome.steps_error:.0%}, {far}")
        return tuple(notes)

    @staticmethod
    def _with_certificate(outcome: Outcome, linearized: Outcome) -> Outcome:
        outcome = replace(outcome, certificate=linearized.certificate)
        if outcome.method == "trained" or linearized.rounding < linearized.error / 2:
            return outcome
        error = max(outcome.error, linearized.rounding)  # the network is linear: all paths are one
        return replace(outcome, error=error)

    def _judged(self, coarse: Outcome, ratio: float, count: int, stride: float | None, patience: Patience) -> Outcome:
        """A path, its error by comparison with a coarser one and by what cannot be known of it.

        One at the edge of stability is compared with another that comes there, of half as many intervals, which begins
        some rounding units away. Any two paths of different intervals soon are further apart than that: what rounding
        would grow to shows in the comparison, but where both are of single steps.

        Raises:
            PatienceError: it comes to the edge of stability, and training tells what happens there.
        """
        path = self._path(count, patience, stride)
        outcome = self._compared(path, coarse, ratio).no_surer_than_leaps()
        if patience.real is not None:
            if outcome.edge is not None:  # finer paths come there too
                raise PatienceError
            return outcome
        if outcome.edge is None:
            return self._with_unknowable(outcome, lambda origin: self._path(count, patience, stride, origin=origin))
        is_near = outcome.outgrown <= OUTGROWN
        if is_near and coarse.method == "linearized" and count >= 2 * IntervalCount.LEAST:  # which comes to no edge
            nudged, longer = self.network.nudged(self.problem.origin), None if stride is None else 2 * stride
            half = self._path(count // 2, patience, longer, origin=nudged)
            outcome = self._compared(path, half, 2.0).no_surer_than_leaps()
        outcome = self._at_the_edge(outcome, coarse, count, stride, patience)
        if not self.is_fine(outcome) or outcome.unknowable >= LITTLE * self.scale:
            return outcome
        return self._with_unknowable(outcome, lambda origin: self._path(count, patience, stride, origin=origin))

    def _compared(self, outcome: Outcome, coarse: Outcome, ratio: float) -> Outcome:
        """With the error as it shows in comparison with a path of fewer intervals.

        The error e of a path of n intervals falls like 1/n. Two paths of ratio ρ = n/n' differ by (ρ − 1) e where their
        errors have one direction, and by (ρ² + 1)^½ e where they have nothing in common, as those of the kinks of
        rectifiers; what was measured lies between, and so does the geometric mean. Where intervals are of single steps
        already, ρ is smaller than was planned.
        """
        if not math.isfinite(outcome.error):
            return outcome
        ratio = min(ratio, max(outcome.intervals / max(coarse.intervals, 1), IntervalCount.LEAST_GROWTH))
        between = math.sqrt((ratio - 1) * math.hypot(ratio, 1))
        error, loss_error = error_told_by(outcome.test[-1] - coarse.test[-1]) / between, outcome.loss_error
        if len(outcome.train) > 1 and len(outcome.train) == len(coarse.train):
            loss_error = self.one_shot.loss_error(outcome.train, coarse.train) / between
        outcome = replace(outcome, error=error, loss_error=loss_error)
        duration = outcome.steps - self._first
        if self.problem.goal.until is None or not 0 < duration < math.inf:
            return outcome
        if not self.problem.objective.loss.is_quadratic:
            ratio = outcome.intervals / max(coarse.intervals, 1)
            return self._with_extrapolated_steps(outcome, coarse, max(ratio - 1.0, 1.0), EXTRAPOLATED)
        if coarse.method == "linearized":
            apart = abs(outcome.steps - coarse.steps) / duration
            return replace(outcome, steps_error=max(apart / between, UNCONFIRMED))
        return self._with_extrapolated_steps(outcome, coarse, 2.0 * between, 2.0)  # half of it: kinks go either way

    def _with_extrapolated_steps(self, outcome: Outcome, coarse: Outcome, divisor: float, part_off: float) -> Outcome:
        """With the number of steps to a loss where those of two paths lead to, and its curve to there.

        The steps of a path are off like 1/n, in one direction: the kernel grows within the intervals. Where what a path
        misses is taken back at once that is so of smooth networks, and of rectifiers of few intervals.

        Args:
            outcome: a path.
            coarse: one of fewer intervals.
            divisor: the difference of their steps over what the path itself is off.
            part_off: the part of what the extrapolation changes by which it is off.
        """
        goal, first = self.problem.goal, self._first
        apart = abs(outcome.steps - coarse.measured_steps)
        if coarse.method == "linearized" or not math.isfinite(apart):  # the coarser one never came there
            return replace(outcome, steps_error=apart / (outcome.steps - first))
        steps, half = outcome.steps - (coarse.measured_steps - outcome.steps) / divisor, first
        half += (outcome.steps - first) / 2
        every = goal.eval_every
        steps = max(steps, half) if goal.flow else float(max(every * round(steps / every), first + 1))
        if not half <= steps < goal.steps:
            return replace(outcome, steps_error=apart / (outcome.steps - first))
        part = (steps - first) / (outcome.steps - first)
        return replace(
            outcome,
            steps=steps,
            measured_steps=outcome.steps,
            steps_error=part_off * abs(1.0 - 1.0 / part),
            curve=[(first + (k - first) * part, loss) for k, loss in outcome.curve],
        )

    def _at_the_edge(
        self, outcome: Outcome, coarse: Outcome, count: int, stride: float | None, patience: Patience
    ) -> Outcome:
        """With an error no smaller than what no path knows of a training at the edge of stability.

        There only the average of an oscillation is known, and a single step lies off it by as much as outputs swing.
        Where they swing no more at the end, or intervals left the edge far behind, how much keeping to it moved the
        prediction tells how much was at stake; nothing is known where it did not, in a network without second
        derivatives, or of another loss.
        """
        if not math.isfinite(outcome.error):
            return outcome
        outcome = replace(outcome, error=math.hypot(outcome.error, outcome.swing), unknowable=outcome.swing)
        if outcome.swing and outcome.outgrown <= OUTGROWN:
            return outcome
        at_stake = 0.0 if coarse.swing else coarse.unknowable  # what outputs swing by there tells nothing here
        if not self.network.task.loss.is_quadratic:  # which is not kept to the edge
            at_stake = math.inf
        elif coarse.edge is None or not at_stake:
            free = self._path(count, patience, stride, project=False)
            at_stake = error_told_by(outcome.test[-1] - free.test[-1]) or math.inf
        unknowable = max(at_stake, outcome.swing)
        return replace(outcome, error=max(outcome.error, unknowable), unknowable=unknowable)

    def _path(
        self, count: int, patience: Patience, stride: float | None = None, *, project: bool = True,
        origin: Position | None = None, goal: Goal | None = None,
    ) -> Outcome:  # fmt: skip
        network = self.network
        network.put(origin or self.problem.origin)
        patience.progress.say(f"along a path of {count} intervals", self.end)
        problem = self.problem if goal is None else replace(self.problem, goal=goal)
        path = follow(problem, self.rule, self.linearization, count, stride=stride, project=project, patience=patience)
        train = [flat(f) for f in (*path.train, network.outputs(network.task.X))]
        test = [flat(f) for f in (*path.test, network.outputs(network.X))]
        error = 0.0 if path.arrived else math.inf
        return Outcome(
            "relinearized", train, test, path.steps, path.intervals, error, path.curve, network.state(),
            notes=self._path_notes(path), edge=path.edge, is_close=path.is_close, epochs=path.epochs,
            leaps=path.leaps, swing=path.swing_of_outputs, outgrown=path.outgrown,
        )  # fmt: skip

    def _misses(self, loss: float, until: float) -> bool:
        excess = self.problem.objective.excess
        return excess(loss) > excess(until) + (NEARLY - 1.0) * abs(excess(until))

    def _path_notes(self, path: Path) -> tuple[str, ...]:
        notes, goal = [], self.problem.goal
        if not path.arrived:
            came = f"{path.intervals} intervals, at a training {self.problem.loss_label} of {path.loss:.3g}"
            notes.append(f"the path was given up after {came}.")
        elif goal.until is not None and path.steps < goal.steps and self._misses(path.loss, goal.until):
            notes.append(
                f"the path ends at a training {self.problem.loss_label} of {path.loss:.3g}, above until = "
                f"{goal.until:g}."
            )
        if path.edge is not None:
            swing = path.swing_of_outputs
            swings = f" At the end outputs swing about it by {swing:.2g}, which is in the error." if swing else ""
            notes.append(
                f"from step {path.edge:.0f} on the kernel has grown to the limit of stability of "
                f"lr = {self.rule.lr:.4g}: real training oscillates at the edge of stability there, and the prediction "
                f"follows its average.{swings}"
            )
        elif path.is_close:
            notes.append(
                f"at the end the kernel has nearly grown to the limit of stability of lr = {self.rule.lr:.4g}: real "
                "training may linger there, and take more steps."
            )
        return tuple(notes)

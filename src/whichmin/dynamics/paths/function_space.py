"""Predictions of rules whose motion is known in function space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from whichmin.dynamics.motion.motion import FAR
from whichmin.dynamics.paths.controller import Attempt, IntervalCount, refine
from whichmin.dynamics.paths.edge import is_close, largest_eigenvalue, steepness
from whichmin.dynamics.paths.linearized import Linearization, flat
from whichmin.dynamics.paths.outcome import Goal, Outcome, error_told_by
from whichmin.dynamics.paths.position import Position
from whichmin.dynamics.paths.predictor import OUT_OF_BUDGET, Predictor, Relinearize
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import BudgetError, Patience, PatienceError, RealTraining
from whichmin.dynamics.paths.relinearized import EPOCHS, Path, follow
from whichmin.dynamics.paths.rounding import rounded, unresolved
from whichmin.dynamics.paths.twin import leeway_of, uncertain
from whichmin.dynamics.prediction import Certificate
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.rule import Convergence
from whichmin.errors import DivergenceError
from whichmin.kernels.large import LargeSpectrum
from whichmin.losses import root_mean_square
from whichmin.tangent.direction import Direction
from whichmin.tangent.features import Features

#: Training losses at several times are to be right to this part of themselves.
LOSS_TOLERANCE = 0.02
#: Training losses below this part of the targets' variance are compared as if they were as large.
SMALLEST_LOSS = 1e-5
#: ``relinearize="auto"`` plans no more intervals than this; a path that is longer than planned takes more.
MOST_INTERVALS = 512
#: An estimated error of more than this many times the tolerance's scale and the size of the outputs is no estimate.
MEANINGLESS = 30.0
#: What is said then.
NOTHING_ALIKE = (
    "the network at the predicted parameters has nothing in common with its linearization at θ₀: how far real training "
    "ends from here is not known, and it may diverge."
)
#: Features that grew by this factor along what was trained tell nothing of where they grow to ...
GROWN = 1.75
#: ... while more than this part of the training loss is still to go.
UNFINISHED = 0.3
#: What is said then.
GROWING = (
    "along what is learned the features grow {:.3g}-fold while {:.0%} of the training loss is still to go: they may "
    "grow on, and how far real training ends from this one linearization is not known."
)
#: What is said where modes that rounding hides are most of the error.
HIDDEN = (
    "modes that the rounding of the kernel hides may move the outputs by about {:.2g}: compute the network in double "
    "precision, model.double(), to see them."
)
#: Losses at the ends of epochs may be off by so many times what paths tell.
EPOCH_MARGIN = 2.0
#: What is said where that may be another epoch.
OTHER_EPOCH = (
    "the loss is looked at once an epoch, and which one is the last hangs on less than this may be off: training may "
    "end {:.0f} steps earlier or later, where outputs are {:.2g} from here."
)
#: What is said where there is no time to see.
EPOCH_UNKNOWN = "the budget ran out before it was known how much hangs on which epoch is the last one."
#: A loss of no more than this many times the one that was asked for counts as that.
NEARLY = 1.05
#: The slope of a loss at the end is taken from this part of the steps on.
SHORTLY = 0.9
#: Extrapolated steps are off by about this part of what the extrapolation changed.
EXTRAPOLATED = 0.4
#: The steps of a path that was compared with one linearization alone may be off by so much at least: they may agree by
#: chance, and a finer path is to tell.
UNCONFIRMED = 0.025
#: The steps of one linearization are off by up to this many times what the losses where it ends tell.
ONE_SHOT = 2.0
#: So many steps in batches are made for real beside one linearization.
REAL_STEPS = 24
#: So many of them are looked at for what is estimated there.
LOOKS = 4
#: A network that is nearer to its linearization than this part of what tolerances are relative to is linear.
LINEAR = 1e-4


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

    @property
    def _first(self) -> int:
        """How many steps were made before θ₀."""
        return self.problem.first

    @cached_property
    def scale(self) -> float:
        """What tolerances are relative to."""
        return self.problem.scale(self.linearization.train(self.end))

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
        controller = IntervalCount(tol * self.scale, accepted_loss, MOST_INTERVALS)
        if relinearize == "never" or self.end <= self._first:
            return self._with_real_steps(outcome)
        if controller.is_met(outcome):
            outcome = self._with_real_steps(outcome)
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
        network, theory, end = self.network, self.linearization, self.end
        times = [*self.problem.goal.times[:-1], end]
        train, test = [theory.train(t) for t in times], [theory.test(t) for t in times]
        c, step = self._move()
        features = network.features()
        at_test, at_train = flat(network.outputs(network.X)), flat(features.outputs)
        certificate = Certificate(self._loss(at_train), float((at_test - test[-1]).square().mean()))
        state = network.state()
        is_close = self._is_close(features)
        by_rounding, at_test = rounded(theory, c, network.kernel_rounding)
        error, loss, growth = self._one_shot_errors(features, c, step, train[-1], test[-1], by_rounding)
        hidden, notes = 0.0, ()
        if self.problem.objective.loss.is_quadratic:
            hidden = unresolved(theory, end, network.kernel_rounding, network.size)
        rounding = math.hypot(at_test, network.eps * root_mean_square(test[-1]), hidden)
        error = math.hypot(error, rounding)
        if hidden > max(0.5 * error, LINEAR * self.scale):
            notes = (HIDDEN.format(hidden),)
        if not error <= MEANINGLESS * (self.scale + root_mean_square(test[-1])):
            error, notes = math.inf, (NOTHING_ALIKE,)
        elif growth > GROWN and (left := self._loss_left()) > UNFINISHED:
            error, notes = math.inf, (GROWING.format(growth, left),)
        if self.problem.goal.until is not None and math.isinf(end):
            came = f"it ends at a training {self.problem.loss_label} of {theory.loss(end):.3g}"
            notes += (f"one linearization at θ₀ never comes below until = {self.problem.goal.until:g}: {came}.",)
        if (other := self._other_epochs((loss, certificate.train_loss)))[1] > error:
            error, notes = other[1], (*notes, OTHER_EPOCH.format(*other))
        steps_error = max(map(self._steps_error, (loss, certificate.train_loss)))  # one alone may be right by chance
        steps_error *= ONE_SHOT
        network.put(self.problem.origin)
        curve = [(t, theory.loss(t)) for t in theory.curve_times(end)]
        loss_error = self._loss_error([at_train], train[-1:]) if len(times) > 1 else 0.0
        return Outcome(
            "linearized", train, test, end, 1, error, curve, state, loss_error=loss_error, is_close=is_close,
            steps_error=steps_error, certificate=certificate, notes=notes, rounding=rounding,
        )  # fmt: skip

    def _lingers(self, outcome: Outcome) -> bool:
        """Whether real training may go another way at the edge of stability, which only a linear network cannot."""
        return (outcome.edge is not None or outcome.is_close) and outcome.error > LINEAR * self.scale

    def _is_close(self, features: Features) -> bool:
        """Whether the kernel at θ₀ or where the network stands is close to the limit of stability."""
        theory = self.linearization
        if self.rule.flow or not math.isfinite(self.end):
            return False
        limit = self.rule.largest_stable(self._first, self.problem.objective.gamma)
        objective, before = self.problem.objective, steepness(theory.spectrum, self.problem.objective, theory.features)

        def after() -> float:
            if objective.loss.is_quadratic:
                near = theory.spectrum.top_vector.numpy() if isinstance(theory.spectrum, LargeSpectrum) else None
                return largest_eigenvalue(features, theory.metric, near)
            return steepness(self.network.spectrum(features, theory.metric), objective, features)

        return is_close(limit, before, after)

    def _steps_error(self, loss: float) -> float:
        """How far off the number of steps to a training loss is, relative to itself, where the loss there is this."""
        theory, goal, end = self.linearization, self.problem.goal, self.end
        duration = end - self._first
        if goal.until is None or not 0 < duration < goal.steps - self._first:
            return 0.0
        excess, shortly = self.problem.objective.excess, math.floor(SHORTLY * duration)
        before, there = excess(theory.loss(self._first + shortly)), excess(theory.loss(end))
        loss = excess(loss)
        if not before > there > 0 or not loss > 0:
            return 0.0
        slope = math.log(before / there) / (1.0 - shortly / duration)
        return abs(math.log(loss / there)) / slope

    def _loss(self, train: Tensor) -> float:
        objective = self.problem.objective
        return objective.value(train.numpy() - objective.origin)

    def _loss_error(self, one: list[Tensor], other: list[Tensor]) -> float:
        """How far apart the training losses of two predictions are, relative to themselves; below a floor, to that."""
        objective = self.problem.objective
        floor = SMALLEST_LOSS * (self.scale**2 if objective.loss.is_quadratic else 1.0)
        pairs = [[objective.excess(self._loss(f)) for f in pair] for pair in zip(one, other, strict=True)]
        off = max(abs(a - b) / max(a, floor) for a, b in pairs)
        return off if math.isfinite(off) else math.inf

    def _until(self, end: float) -> FunctionSpacePredictor:
        """The same to another end."""
        return FunctionSpacePredictor(self.problem, self.rule, self.linearization, end)

    def _move(self) -> tuple[Tensor, Direction]:
        """Move the network from θ₀ to where its linearization ends; returns c and D J₀ᵀc."""
        network, theory, end = self.network, self.linearization, self.end
        c = theory.coefficients(end)
        step = theory.features.pull(c, metric=theory.metric)
        if theory.theta is not None:
            network.decay(theory.kept(end))
        network.shift(step, 1.0)
        for phi, vector in zip(theory.carried(end), theory.remembered, strict=True):
            network.shift(vector, phi)
        return c, step

    def _loss_left(self) -> float:
        """The part of the training loss that is still to go where the linearization ends."""
        excess, theory = self.problem.objective.excess, self.linearization
        first = excess(theory.loss(self._first))
        return excess(theory.loss(self.end)) / first if first > 0 else 0.0

    def _with_real_steps(self, outcome: Outcome) -> Outcome:
        """One linearization of steps in batches, with what its error lacks in the first steps.

        Such steps move the outputs to and fro, and the features turn on the way, of which nothing shows where the
        parameters come back. The first steps are made for real: how far they are from the linearization beyond what is
        estimated there, in the root mean square, falls with the root of the loss. Cost: ``REAL_STEPS`` steps and
        ``LOOKS`` estimates.
        """
        first, theory, excess = self._first, self.linearization, self.problem.objective.excess
        if self.rule.schedule.batches is None or not self.end > first or not math.isfinite(outcome.error):
            return outcome
        found = RealTraining(self.problem).first_outputs(math.ceil(min(REAL_STEPS, self.end - first)))
        if not found:
            return outcome.of_unknown_error(NOTHING_ALIKE)
        off = [root_mean_square(f - theory.test(first + k)) for k, f in enumerate(found, 1)]
        looked = sorted({math.ceil(len(off) * (i + 1) / LOOKS) for i in range(LOOKS)})
        estimated = [self._until(first + k)._estimate() for k in looked]
        lacking = max(0.0, _size(off) - _size(estimated))
        losses = [excess(theory.loss(first + k)) for k in looked]
        left = min(1.0, max(excess(theory.loss(self.end)), 0.0) / max(sum(losses) / len(losses), 1e-300))
        self.network.put(self.problem.origin)
        return replace(outcome, error=outcome.error + lacking * math.sqrt(left))

    def _estimate(self) -> float:
        """The distance to a prediction that is right to the next order; the network is left where that leads."""
        theory = self.linearization
        self.network.put(self.problem.origin)
        c, step = self._move()
        train, test = theory.train(self.end), theory.test(self.end)
        return self._one_shot_errors(self.network.features(), c, step, train, test, torch.zeros_like(train))[0]

    def _one_shot_errors(
        self, features: Features, c: Tensor, step: Direction, train: Tensor, test: Tensor, by_rounding: Tensor
    ) -> tuple[float, float, float]:
        """The distance to a prediction that is right to the next order, its training loss, and how much J grew.

        The network stands at θ* = θ₀ + J₀ᵀc.

        With frozen features the parameters are off by δ = ½(J* − J₀)ᵀc to first order in J's turn. The network is
        evaluated at θ* + δ, what that changes on the training set, and what the rounding of the kernel does there, is
        trained away again, and what remains at the test points is the estimate. J grew by ‖J*ᵀc‖/‖J₀ᵀc‖. Cost: two
        backward and two forward passes.
        """
        network, theory = self.network, self.linearization
        here = network.position()
        pulled = features.pull(c, metric=theory.metric)
        turned, straight = pulled.minus(step), features.inner(step, step)
        growth = math.sqrt(features.inner(pulled, pulled) / straight) if straight > 0 else 1.0
        network.shift(turned, 0.5)
        changed = flat(network.outputs(network.task.X)) - train
        network.put(here)
        back = features.pull(theory.correction_for(changed + by_rounding, self.end), metric=theory.metric)
        network.shift(turned, 0.5)
        network.shift(back, 1.0)
        loss = self._loss(flat(network.outputs(network.task.X)))
        return error_told_by(flat(network.outputs(network.X)) - test), loss, growth

    def _path_of(self, count: int, linearized: Outcome, patience: Patience) -> Outcome:
        """A path of so many intervals, its error by comparison with one of half as many."""
        coarse = self._path(count // 2, patience) if count > 1 else linearized
        outcome = self._judged(coarse, 2.0, count, None, patience)
        return self._with_certificate(self._with_other_epochs(outcome, coarse, 2.0, count, None, patience), linearized)

    def _with_other_epochs(
        self, outcome: Outcome, coarse: Outcome, ratio: float, count: int, stride: float | None, patience: Patience
    ) -> Outcome:
        """With an error no smaller than what another epoch leads to, where that may be the last one.

        The loss is compared with ``until`` once an epoch. Paths that end with the same one may differ by little, and
        training that is below by a hair one epoch sooner, or not yet, by all that an epoch moves.

        Args:
            outcome: a path.
            coarse: the one that it was compared with.
            ratio: how many times the intervals it has.
            count: how many intervals were planned.
            stride: as for :func:`follow`.
            patience: how long it may take.
        """
        goal, end, excess = self.problem.goal, outcome.measured_steps, self.problem.objective.excess
        if not self._ends_with_an_epoch(end) or not math.isfinite(outcome.error):
            return outcome
        losses = {s: excess(loss) for s, loss in outcome.epochs.items()}
        theory = self.linearization
        others = {s: theory.loss(s) for s in losses} if coarse.method == "linearized" else coarse.epochs
        margin = EPOCH_MARGIN / math.sqrt((ratio - 1) * math.hypot(ratio, 1))
        assert goal.until is not None
        leeway = leeway_of(losses, {s: excess(loss) for s, loss in others.items()}, margin)
        off = uncertain(losses, excess(goal.until), leeway, goal.eval_every)
        if not off:
            return outcome
        times = self._beside(end, off)
        beside = replace(goal, times=tuple(times), until=None)
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

    def _ends_with_an_epoch(self, end: float) -> bool:
        """Whether training ends with the epoch after which its loss is below ``until``."""
        return self.problem.goal.looks_by_epoch and self._first < end < self.problem.goal.steps

    def _beside(self, end: float, off: float) -> list[float]:
        """The steps where training may end, if it is off by so many."""
        return [s for s in (end - off, end, end + off) if self._first <= s <= self.problem.goal.steps]

    def _other_epochs(self, losses: Sequence[float]) -> tuple[float, float]:
        """How many steps earlier or later one linearization may end, and how far its outputs are there from the end.

        Args:
            losses: what the training loss at the end may be.
        """
        theory, goal, end, excess = self.linearization, self.problem.goal, self.end, self.problem.objective.excess
        if not self._ends_with_an_epoch(end):
            return 0.0, 0.0
        assert goal.until is not None
        epochs = [*goal.epochs_before(end, self._first, EPOCHS), end]
        known = {s: excess(theory.loss(s)) for s in epochs}
        leeway = max(leeway_of(known, {end: excess(loss)}, 1.0) for loss in losses)
        off = uncertain(known, excess(goal.until), leeway, goal.eval_every)
        at = [theory.test(s) for s in self._beside(end, off)] if off else []
        return off, max((error_told_by(other - theory.test(end)) for other in at), default=0.0)

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

        Raises:
            PatienceError: it comes to the edge of stability, and training tells what happens there.
        """
        outcome = self._compared(self._path(count, patience, stride), coarse, ratio).no_surer_than_leaps()
        if patience.real is not None:
            if outcome.edge is not None:  # finer paths come there too
                raise PatienceError
            return outcome
        if coarse.unknowable and coarse.edge is not None and outcome.edge is not None:  # finer paths know no more of it
            unknowable = max(outcome.unknowable, coarse.unknowable)
            return replace(outcome, error=max(outcome.error, unknowable), unknowable=unknowable)
        outcome = self._at_the_edge(outcome, count, stride, patience)
        if outcome.unknowable >= self.scale:  # another path would tell nothing of an answer that tells nothing
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
            loss_error = self._loss_error(outcome.train, coarse.train) / between
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

    def _at_the_edge(self, outcome: Outcome, count: int, stride: float | None, patience: Patience) -> Outcome:
        """With an error no smaller than what keeping to the edge of stability made of the path.

        There only the average of an oscillation is known: how much the projection moves the prediction tells how much
        is at stake; nothing is known where it does not, in a network without second derivatives.
        """
        if outcome.edge is None or not math.isfinite(outcome.error):
            return outcome
        free = self._path(count, patience, stride, project=False)
        at_stake = error_told_by(outcome.test[-1] - free.test[-1]) or math.inf
        return replace(outcome, error=max(outcome.error, at_stake), unknowable=at_stake)

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
            leaps=path.leaps,
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
            notes.append(
                f"from step {path.edge:.0f} on the kernel has grown to the limit of stability of "
                f"lr = {self.rule.lr:.4g}: real training oscillates at the edge of stability there, and the prediction "
                "follows its average."
            )
        elif path.is_close:
            notes.append(
                f"at the end the kernel has nearly grown to the limit of stability of lr = {self.rule.lr:.4g}: real "
                "training may linger there, and take more steps."
            )
        return tuple(notes)


def _size(values: list[float]) -> float:
    """Their root mean square."""
    return math.sqrt(sum(v * v for v in values) / len(values))

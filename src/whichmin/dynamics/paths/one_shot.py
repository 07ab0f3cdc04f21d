"""One linearization at θ₀: where it ends, and how far from real training that is."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from whichmin.dynamics.paths.edge import is_close, largest_eigenvalue, steepness
from whichmin.dynamics.paths.last_epoch import OTHER_EPOCH, LastEpoch
from whichmin.dynamics.paths.linearized import Linearization, flat
from whichmin.dynamics.paths.outcome import Outcome, error_told_by
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import RealTraining
from whichmin.dynamics.paths.rounding import rounded, unresolved
from whichmin.dynamics.prediction import Certificate
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.kernels.large import LargeSpectrum
from whichmin.losses import root_mean_square
from whichmin.tangent.direction import Direction
from whichmin.tangent.features import Features

#: Training losses below this part of the targets' variance are compared as if they were as large.
SMALLEST_LOSS = 1e-5
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
#: The slope of a loss at the end is taken from this part of the steps on.
SHORTLY = 0.9
#: The steps of one linearization are off by up to this many times what the losses where it ends tell.
ONE_SHOT = 2.0
#: So many steps in batches are made for real beside one linearization.
REAL_STEPS = 24
#: So many of them are looked at for what is estimated there.
LOOKS = 4
#: A network that is nearer to its linearization than this part of what tolerances are relative to is linear.
LINEAR = 1e-4


class OneShot:
    """The network at the parameters that one linearization predicts, and what it tells of the error there.

    Args:
        problem: what is predicted.
        rule: its rule, with batches and learning rates.
        linearization: at θ₀.
        end: the step count at which the linearized network ends.
    """

    def __init__(self, problem: Problem, rule: LinearRule, linearization: Linearization, end: float) -> None:
        self.problem, self.network = problem, problem.network
        self.rule, self.linearization, self.end = rule, linearization, end
        self._first = problem.first

    @cached_property
    def scale(self) -> float:
        """What tolerances are relative to."""
        return self.problem.scale(self.linearization.train(self.end))

    @property
    def _last_epoch(self) -> LastEpoch:
        """Which epoch is the last one."""
        return LastEpoch(self.problem, self.linearization)

    def outcome(self) -> Outcome:
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
        if (other := self._last_epoch.off_on_one(end, (loss, certificate.train_loss)))[1] > error:
            error, notes = other[1], (*notes, OTHER_EPOCH.format(*other))
        steps_error = max(map(self._steps_error, (loss, certificate.train_loss)))  # one alone may be right by chance
        steps_error *= ONE_SHOT
        network.put(self.problem.origin)
        curve = [(t, theory.loss(t)) for t in theory.curve_times(end)]
        loss_error = self.loss_error([at_train], train[-1:]) if len(times) > 1 else 0.0
        return Outcome(
            "linearized", train, test, end, 1, error, curve, state, loss_error=loss_error, is_close=is_close,
            steps_error=steps_error, certificate=certificate, notes=notes, rounding=rounding,
        )  # fmt: skip

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

    def loss_error(self, one: list[Tensor], other: list[Tensor]) -> float:
        """How far apart the training losses of two predictions are, relative to themselves; below a floor, to that."""
        objective = self.problem.objective
        floor = SMALLEST_LOSS * (self.scale**2 if objective.loss.is_quadratic else 1.0)
        pairs = [[objective.excess(self._loss(f)) for f in pair] for pair in zip(one, other, strict=True)]
        off = max(abs(a - b) / max(a, floor) for a, b in pairs)
        return off if math.isfinite(off) else math.inf

    def _until(self, end: float) -> OneShot:
        """The same to another end."""
        return OneShot(self.problem, self.rule, self.linearization, end)

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

    def with_real_steps(self, outcome: Outcome) -> Outcome:
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


def _size(values: list[float]) -> float:
    """Their root mean square."""
    return math.sqrt(sum(v * v for v in values) / len(values))

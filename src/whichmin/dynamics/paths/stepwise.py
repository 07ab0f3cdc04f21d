"""Predictions of optimizers without a motion in function space: step by step, over one linearization or several."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from whichmin.dynamics.paths.controller import Attempt, GrowthFactor, refine
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.outcome import Goal, LinearizedRun, Outcome, error_told_by
from whichmin.dynamics.paths.position import MovingNetwork, Position
from whichmin.dynamics.paths.predictor import OUT_OF_BUDGET, UNKNOWN, Predictor, Relinearize
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import STOPPED, BudgetError, Patience
from whichmin.dynamics.paths.weight_space import WeightSpace
from whichmin.dynamics.prediction import Certificate
from whichmin.optimizers.metric import last_metric
from whichmin.recipe.schedule import Batches, GivenBatches
from whichmin.tangent.features import Features
from whichmin.terms import Interpolator, linearized_terms

#: Without a number of steps or a training loss to stop at, a run ends at this part of its first training loss.
CONVERGED = 1e-9
#: Without a number of steps a run gives up after this many.
LONGEST = 100_000
#: Intervals of a path of a given number grow by no less than this part of the steps made before.
SMALLEST_GROWTH = 1e-3


class StepwisePredictor(Predictor):
    """Of any optimizer: the optimizer itself on the linearized network, linearized again where that is not enough.

    Args:
        problem: what is predicted; its network releases its cached layers.
        batches: the rows of each step; None for all.
    """

    def __init__(self, problem: Problem, batches: Batches | GivenBatches | None) -> None:
        super().__init__(problem)
        problem.at_origin.without_caches()
        self._recipe, self._batches = problem.recipe, batches

    @cached_property
    def features(self) -> Features:
        """J(X) at θ₀."""
        self._stand(self.problem.origin)
        return self.problem.features

    @cached_property
    def test_features(self) -> Features:
        """J(x') at θ₀, at the points where test outputs are wanted."""
        return self._stand(self.problem.origin).features(self.network.X)

    def _stand(self, position: Position) -> MovingNetwork:
        """The network at a position, from where it may be linearized: how is known at θ₀."""
        _ = self.problem.features
        self.network.put(position)
        return self.network

    @cached_property
    def bounded(self) -> Goal:
        """The goal with an end that a run can reach step by step."""
        goal, objective = self.problem.goal, self.problem.objective
        if math.isfinite(goal.steps):
            return goal
        self.network.put(self.problem.origin)
        outputs = flat(self.network.outputs(self.network.task.X))
        first = objective.value(outputs.numpy() - objective.origin)
        until = first + (CONVERGED - 1.0) * objective.excess(first) if goal.until is None else goal.until
        return replace(goal, times=(*goal.times[:-1], self.problem.first + LONGEST), until=until)

    def _predict(self, relinearize: Relinearize, tol: float, patience: Patience) -> Outcome:
        """The linearized run, or a path; ``"auto"`` is real training, whose steps are as cheap."""
        if patience.real is not None:
            return patience.real.run(patience, or_part=True)
        linearized = self.linearized(patience)
        try:
            patience.check_deadline()
            if relinearize == "never":
                return self._compared(linearized, self._path(1.0, linearized, patience, self.problem.origin))
            return self._refined(relinearize, tol, linearized, patience)
        except BudgetError:
            return linearized.of_unknown_error(OUT_OF_BUDGET, UNKNOWN)

    def _refined(
        self, relinearize: Literal["auto", "path"] | int, tol: float, linearized: Outcome, patience: Patience
    ) -> Outcome:
        """Paths, until one is good enough."""
        if isinstance(relinearize, int):
            start = max(self.problem.first, 2)
            growth = (max(linearized.steps, start) / start) ** (1.0 / relinearize) - 1.0
            return self._judged(max(growth, SMALLEST_GROWTH), linearized, None, patience)
        scale = self.problem.scale(linearized.train[-1])
        controller = GrowthFactor(tol * scale)
        first = self._judged(controller.FIRST, linearized, None, patience)

        def finer(growth: float, before: Attempt) -> Outcome:
            return self._judged(growth, linearized, before.outcome, patience)

        outcome = refine(finer, controller, Attempt(controller.FIRST, first)).outcome
        if outcome.error <= controller.accepted:
            return outcome
        missed = self.problem.missed_tolerance(outcome.error, tol, scale)
        return outcome.with_notes(
            f"{missed} with {outcome.intervals} intervals: train it for real with whichmin.train."
        )

    def linearized(self, patience: Patience | None = None) -> Outcome:
        """The optimizer itself on the network linearized at θ₀, with its certificate."""
        goal, network = self.bounded, self._stand(self.problem.origin)
        space = WeightSpace(network, self._recipe, self._batches)
        decay = {n: torch.zeros_like(v) for n, v in space.values.items()} if _is_decoupled(space.optimizer) else None
        train, test, curve, notes = [], [], _Curve(), None

        def before_step() -> None:
            if patience is not None:
                patience.progress.advance(space.steps)
                patience.check_deadline()
            accumulate_decay(decay, space)

        if patience is not None:
            patience.progress.say("by steps on the linearized network", goal.steps)

        for stop in [*(t for t in goal.times[:-1] if t < goal.steps), goal.steps]:
            try:
                halts = stop == goal.steps and math.isinf(self.problem.goal.steps)
                curve.extend(space.run(stop, goal, before_step=before_step, halts=halts))
            except BudgetError:
                notes = (STOPPED.format(space.steps),)
            train.append(flat(space.outputs()))
            test.append(space.outputs_at(self.test_features))
        metric = last_metric(space.optimizer, space.values.items())
        run = LinearizedRun(space.steps, train[-1], test[-1], metric, decay)
        state = self._state_at(space.state())
        at_test = flat(network.outputs(network.X))
        certificate = Certificate(
            network.task.loss.value(network.outputs(network.task.X), network.task.y),
            float((at_test - test[-1]).square().mean()),
        )
        network.put(self.problem.origin)
        error = math.inf if notes else error_told_by(at_test - test[-1])
        notes = notes or self._end_notes(curve.points, space.has_stalled)
        return Outcome(
            "linearized", train, test, float(space.steps), 1, error, curve.points, state, notes=notes,
            certificate=certificate, run=run,
        )  # fmt: skip

    def _state_at(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Put the network there; its state dict."""
        for name, p in self.network.parameters.items():
            p.data.copy_(values[name])
        return self.network.state()

    def _end_notes(self, curve: list[tuple[float, float]], has_stalled: bool) -> tuple[str, ...]:
        """What is to be said of where a run ended, and whether it came no lower there."""
        (came, loss), goal = curve[-1], self.problem.goal
        if math.isfinite(goal.steps):
            return ()
        if goal.until is None:
            later = "later ones change next to nothing."
            return (f"ended at a training {self.problem.loss_label} of {loss:.2g} after {came:.0f} steps: {later}",)
        if loss >= goal.until and (has_stalled or came >= self.bounded.steps):
            halfway = curve[len(curve) // 2][1]
            return (
                f"{self.problem.optimizer} came to a training {self.problem.loss_label} of {loss:.3g} in {came:.0f} "
                f"steps, above {goal.until:.3g}; after half of them it was at {halfway:.3g}.",
            )
        return ()

    @staticmethod
    def _compared(outcome: Outcome, path: Outcome, times: float = 1.0) -> Outcome:
        """One linearization or a path, its error no smaller than its distance to another path, so many times too large.

        At the end of one linearization is not seen how the gradients of its steps would have turned, which a rule that
        divides by their size makes much of: of adapters that begin at zero half the weights have none at θ₀.
        """
        apart = error_told_by(outcome.test[-1] - path.test[-1])
        return replace(outcome, error=max(outcome.error, apart / times if math.isfinite(apart) else math.inf))

    def _judged(self, growth: float, linearized: Outcome, coarse: Outcome | None, patience: Patience) -> Outcome:
        """A path, its error no smaller than a coarser path tells, and what cannot be known.

        Jumps to and fro add up to little and yet turn the steps after them: those of signs, or at an edge.

        Args:
            growth: of its intervals.
            linearized: one linearization.
            coarse: a path of ``GrowthFactor.DIVISOR`` times the growth; None where there is none yet.
            patience: how long it may take.
        """

        def again(origin: Position, growth: float = growth) -> Outcome:
            return self._path(growth, linearized, patience, origin)

        divisor, origin = GrowthFactor.DIVISOR, self.problem.origin
        outcome = again(origin)
        if outcome.intervals < outcome.steps - self.problem.first:  # else it is training itself
            coarse = again(origin, divisor * growth) if coarse is None else coarse
            outcome = self._compared(outcome, coarse, divisor - 1.0)
        return self._with_unknowable(outcome, again)

    def _path(self, growth: float, linearized: Outcome, patience: Patience, origin: Position) -> Outcome:
        """The optimizer itself, linearized again and again; the error is how far the outputs jump there, added up.

        Not so after an interval of one step, which is training itself.
        """
        goal, network = self.bounded, self._stand(origin)
        space = WeightSpace(network, self._recipe, self._batches)
        train, test, curve = [], [], _Curve()
        wanted = [t for t in goal.times[:-1] if t < goal.steps]
        intervals, jumps, arrived = 0, torch.zeros(()), False
        while not arrived:
            test_features, before = network.features(network.X), space.steps
            intervals += 1
            end = max(space.steps + 1, math.ceil(space.steps * (1 + growth)))
            halts = not wanted and math.isinf(self.problem.goal.steps)
            stop = min([end, goal.steps, *wanted])
            curve.extend(space.run(stop, goal, before_step=patience.check_deadline, halts=halts))
            expected = space.outputs_at(test_features)
            space.linearize()
            patience.check(space.steps, curve.points[-1][1], curve.points[0][1])
            missed = 1 - 1 / max(space.steps - before, 1)  # an interval of one step, or of none, is training itself
            jumps = jumps + missed * (flat(network.outputs(network.X)) - expected)
            is_over = space.steps >= goal.steps or space.has_stalled
            arrived = is_over or goal.is_reached(space.loss(), space.steps)
            times = 1 + len(wanted) if arrived else int(bool(wanted) and space.steps == wanted[0])
            train += times * [flat(network.outputs(network.task.X))] if times else []
            test += times * [flat(network.outputs(network.X))] if times else []
            wanted = wanted[times:]
        notes = self._end_notes(curve.points, space.has_stalled)
        return Outcome(
            "relinearized", train, test, float(space.steps), intervals, error_told_by(jumps.reshape(-1)), curve.points,
            self._state_at(space.state()), notes=notes, certificate=linearized.certificate, run=linearized.run,
        )  # fmt: skip

    def terms(self, outcome: Outcome) -> dict[str, Tensor]:
        """All of them with a linearized run of as many steps, else what is not the linearized theory's in one."""
        run = outcome.run
        if run is None or run.steps != outcome.steps:
            terms = self._linearized_terms(outcome.train[-1])
            rest = outcome.test[-1] - torch.stack(list(terms.values())).sum(0)
            return terms | {"trajectory": rest}
        terms = self._linearized_terms(run.train, run)
        if outcome.method != "linearized":
            terms |= self.nonlinear_terms(outcome, outcome.test[-1], outcome.state)
        return terms

    def nonlinear_terms(self, linearized: Outcome, test: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Against the linearized run that the outcome holds."""
        network, run = self.network, linearized.run
        assert run is not None
        features = self.test_features
        network.put(self.problem.origin)
        moved = network.difference(state, self.problem.origin)
        straight = flat(features.outputs) + flat(features.push(moved))
        return {"curvature": test - straight, "drift": straight - run.test}

    def _linearized_terms(self, train: Tensor, run: LinearizedRun | None = None) -> dict[str, Tensor]:
        """Without a run those that its way does not matter to; with it all, which add up to its test outputs."""
        features, test_features, network = self.features, self.test_features, self.network
        network.put(self.problem.origin)
        in_metric, decay, least = None, None, self.problem.objective.minimizer
        if run is not None and run.metric is not None:
            in_metric = self._interpolator(run.metric)
        if run is not None and run.decay is not None:
            decay = flat(features.push(run.decay)), flat(test_features.push(run.decay))
        return linearized_terms(
            self._interpolator(None),
            y=None if least is None else torch.from_numpy(least),
            f0=flat(features.outputs),
            f0_test=flat(test_features.outputs),
            train=train,
            in_metric=in_metric,
            decay=decay,
            test=None if run is None else run.test,
        )

    def _interpolator(self, metric: dict[str, Tensor] | None) -> Interpolator:
        cross = self.test_features.gram(self.features, metric).double().cpu()
        spectrum = self.problem.spectrum if metric is None else self.network.spectrum(self.features, metric)
        return Interpolator(cross, spectrum)


class _Curve:
    """(step, training loss) pairs, each step once."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []

    def extend(self, measured: Iterable[tuple[int, float]]) -> None:
        for k, loss in measured:
            if not self.points or k > self.points[-1][0]:
                self.points.append((float(k), loss))


def accumulate_decay(decay: dict[str, Tensor] | None, space: WeightSpace) -> None:
    """Add what decoupled weight decay takes off the parameters in the coming step, lr·λ·θ with the step's rate."""
    if decay is None:
        return
    names = {id(p): n for n, p in space.values.items()}
    for group in space.optimizer.param_groups:
        for p in group["params"]:
            decay[names[id(p)]].sub_(p.detach(), alpha=float(group["lr"]) * float(group["weight_decay"]))


def _is_decoupled(optimizer: torch.optim.Optimizer) -> bool:
    """Whether weight decay takes from the parameters themselves, θ ← (1 − lr·λ) θ."""
    group = optimizer.param_groups[0]
    decoupled = isinstance(optimizer, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay"))
    return decoupled and any(g["weight_decay"] for g in optimizer.param_groups)

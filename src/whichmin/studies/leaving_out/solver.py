"""Training on the rest of the rows, predicted from what is known of training on all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.paths.adaptive_predictor import AdaptivePredictor
from whichmin.dynamics.paths.function_space import FunctionSpacePredictor
from whichmin.dynamics.paths.linearized import Linearization, flat
from whichmin.dynamics.paths.origin import Origin
from whichmin.dynamics.paths.outcome import Goal, Outcome
from whichmin.dynamics.paths.predictor import Predictor, Relinearize
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.relinearized import Path, follow
from whichmin.dynamics.paths.stepwise import StepwisePredictor
from whichmin.dynamics.prepare import prepare
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.errors import DivergenceError, InputError, SingularKernelError
from whichmin.kernels.modes import Spectrum
from whichmin.kernels.spectrum import decompose, undecomposed
from whichmin.recipe.recipe import Recipe
from whichmin.recipe.schedule import Batches
from whichmin.studies.leaving_out.groups import Group
from whichmin.task import Task
from whichmin.terms import Interpolator
from whichmin.training.run import Run
from whichmin.training.train import train

#: Numbers that the inverse blocks of groups which are solved together may hold.
MEMORY = 2**24


@dataclass(frozen=True)
class Asked:
    """How training on the rest is predicted, as for :func:`whichmin.predict`.

    Attributes:
        until: the training loss to stop at.
        steps: the number of steps; None for any number.
        relinearize: by which method.
        tol: of the predictions.
        redrawn: whether mini-batches are drawn again from the rows that are left.
    """

    until: float | None
    steps: float | None
    relinearize: Relinearize
    tol: float
    redrawn: bool

    @property
    def values(self) -> dict[str, Any]:
        """As plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, eq=False)
class Solved:
    """Where training on the rest ends.

    Attributes:
        test: f(x'), (n·C,), float64.
        steps: how many steps it makes.
        ends: the steps at which the intervals of a path ended.
    """

    test: Tensor
    steps: float
    ends: tuple[float, ...] = ()


class Solver:
    """A training on all rows, linearized at θ₀, and from its blocks that on any rest of them.

    Args:
        model: the network; it is copied.
        task: all rows.
        recipe: what trains it.
        asked: how it is predicted.

    Raises:
        InputError: whatever ``predict`` refuses.
    """

    def __init__(self, model: nn.Module, task: Task, recipe: Recipe, asked: Asked) -> None:
        self.asked, self._model, self._task = asked, model, task
        times = (math.inf if asked.steps is None else float(asked.steps),)
        is_linear = asked.relinearize == "never"
        self.predictor: Predictor = prepare(
            model, task, recipe, times, until=asked.until, only_linearized=is_linear, outputs_only=True
        )
        self.network = self.predictor.network
        self.network.outputs(self.network.X)  # which cached layers then know at θ₀
        self.problem = self.predictor.problem
        self.problem.at_origin.remember()

    @property
    def linearization(self) -> Linearization | None:
        """Of all rows; None for optimizers without a motion in function space."""
        return self.predictor.linearization if isinstance(self.predictor, FunctionSpacePredictor) else None

    @property
    def has_inverse(self) -> bool:
        """Whether every group follows from one inverse of K: to the limit, of a quadratic loss on a regular kernel."""
        theory, goal = self.linearization, self.problem.goal
        if theory is None or goal.until is not None or math.isfinite(goal.steps) or theory.theta is not None:
            return False
        return theory.objective.loss.is_quadratic and theory.spectrum.rank == theory.spectrum.size

    @property
    def size(self) -> int:
        """The number of training rows N."""
        return self.network.task.n

    def kept(self, group: Group) -> Tensor:
        """The numbers of the rows that are left."""
        kept = torch.ones(self.size, dtype=torch.bool)
        kept[list(group)] = False
        return kept.nonzero()[:, 0]

    def check_rank(self, number: int, group: Group) -> None:
        """Refuse a group without which the problem is underdetermined where it was not.

        Raises:
            InputError: the network's parameters were determined by all rows, and are not by the rest.
        """
        full, P = self.problem.spectrum, self.network.size
        if full.size < P or full.rank < P:
            return
        at = self._outputs_of(self.kept(group))
        rest = decompose(full.of[at][:, at], full.gamma, full.eps)
        if rest.rank < P:
            raise InputError(
                f"without group {number} the problem is underdetermined where it was not: {len(at)} training outputs "
                f"of rank {rest.rank} for {P} parameters, which all rows determine. The minimizer would depend on the "
                "initialization: leave out fewer rows."
            )

    def full_linearized(self) -> Solved:
        """All rows, by one linearization."""
        assert isinstance(self.predictor, FunctionSpacePredictor)
        theory, t = self.predictor.linearization, self.predictor.end
        return Solved(theory.test(t), t, (t,))

    def full_path(self, count: int) -> Solved:
        """All rows, along a path of so many intervals."""
        assert isinstance(self.predictor, FunctionSpacePredictor)
        self.network.put(self.problem.origin)
        path = follow(self.problem, self.predictor.rule, self.predictor.linearization, count)
        solved = self._arrived(path, self.problem)
        self.network.put(self.problem.origin)
        return solved

    def converged(self, groups: Sequence[Group]) -> list[Solved]:
        """All groups from the inverse B of K: c₋S = c − B[:, S] (B[S, S])⁻¹ c[S], c = −B r₀.

        Cost: of g groups of s outputs, g·s³ and g·s·(N·C) multiplications and a product of K(x', X) with g columns.
        """
        theory = self.linearization
        assert theory is not None
        B = torch.from_numpy(theory.spectrum.solve(np.eye(theory.spectrum.size)))
        r0 = theory.f0 - torch.from_numpy(theory.objective.origin)
        c = -(B @ r0)
        solved: list[Solved] = []
        for chunk in self._chunks(groups):
            S = torch.stack([self._outputs_of(torch.tensor(group)) for group in chunk])  # (g, s)
            blocks = B[S[:, :, None], S[:, None, :]]
            x = torch.linalg.solve(blocks, c[S][:, :, None])  # (g, s, 1)
            without = c - (B[S].mT @ x)[:, :, 0]  # (g, N·C)
            without.scatter_(1, S, 0.0)
            tests = theory.f0_test + without @ theory.cross.mT
            solved += [Solved(test, math.inf) for test in tests]
        return solved

    def linearized(self, group: Group) -> Solved:
        """The rest, by the linearization at θ₀.

        Raises:
            SingularKernelError: the linearized network does not come to the training loss that is asked for.
        """
        theory = self._linearization_without(group, self.network.task.only(self.kept(group)))
        t = self._end(theory)
        return Solved(theory.test(t), t, (t,))

    def path(self, group: Group, ends: Sequence[float]) -> Solved:
        """The rest, along a path whose intervals end at the steps where those of all rows did."""
        problem = self.without(group)
        theory = self._linearization_without(group, problem.network.task)
        return self._arrived(follow(problem, theory.rule, theory, len(ends), ends=ends), problem)

    def trained(self, group: Group, is_chaotic: bool = False) -> Run:
        """The rest, by real training, in fewer coordinates where that is the same.

        Args:
            group: the rows that are left out.
            is_chaotic: whether rounding carries training away: then it is made step by step as anybody would make it.
        """
        goal, recipe = self.problem.goal, self._recipe_without(group)
        steps = int(goal.steps) if math.isfinite(goal.steps) else None
        task = self._task.without(group)
        run = train(self._model, task, recipe, until=goal.until, steps=steps, row_span=not is_chaotic)
        if run.interrupted:
            raise KeyboardInterrupt
        return run

    def by_itself(self, group: Group) -> Outcome:
        """The rest, as ``predict`` predicts it: optimizers without a motion in function space."""
        problem = self.without(group)
        part = Origin.of_part(problem.network, problem.network.features(), problem.spectrum, problem.seconds)
        problem = replace(problem, at_origin=part)
        relinearize, tol = self.asked.relinearize, self.asked.tol
        if isinstance(self.predictor, AdaptivePredictor):
            assert isinstance(problem.rule, AdaptiveRule)
            return AdaptivePredictor(problem, problem.rule).predict(relinearize, tol)
        order = problem.recipe.batches(problem.network.task.n)
        batches = None if order is None else Batches(order, problem.network.task.outputs)
        return StepwisePredictor(problem, batches).predict(relinearize, tol)

    def without(self, group: Group) -> Problem:
        """The training on the rest, at θ₀, where the network is put; its kernel is a block of that of all rows.

        Its features are still those of all rows.
        """
        full, kept = self.problem, self.kept(group)
        self.network.put(full.origin)
        network = self.network.only(kept)
        recipe = self._recipe_without(group)
        objective = network.task.objective
        goal: Goal = replace(full.goal, eval_every=recipe.steps_per_epoch(network.task.n))
        rule = full.rule
        if isinstance(rule, LinearRule):
            rule = self._rule_without(rule, recipe, network.task)
        block = self._block(full.spectrum, kept, objective.gamma)
        part = Origin.of_part(network, full.features, block, full.seconds)
        return replace(full, network=network, at_origin=part, objective=objective, goal=goal, recipe=recipe, rule=rule)

    def _linearization_without(self, group: Group, task: Task) -> Linearization:
        """At θ₀, of training on the rest, whose task is given."""
        full = self.linearization
        assert full is not None
        kept = self.kept(group)
        at = self._outputs_of(kept)
        rule = self._rule_without(full.rule, self._recipe_without(group), task)
        spectrum = self._block(full.spectrum, kept, task.objective.gamma)
        f0, theta = full.f0[at], None if full.theta is None else (full.theta[0][at], full.theta[1])
        residual = f0.numpy() - task.objective.origin
        start = Start.at_rest(
            spectrum, task.objective, residual, rule.state_vectors, None if theta is None else theta[0].numpy()
        )
        plain = Interpolator(full.plain.cross[:, at], self._block(full.plain.spectrum, kept, task.objective.gamma))
        return replace(
            full, rule=rule, objective=task.objective, spectrum=spectrum, cross=full.cross[:, at],
            motion=rule.motion(start), f0=f0, theta=theta, plain=plain,
        )  # fmt: skip

    def _recipe_without(self, group: Group) -> Recipe:
        recipe = self.problem.recipe
        return recipe if self.asked.redrawn else recipe.without(group, self.size)

    @staticmethod
    def _rule_without(rule: LinearRule, recipe: Recipe, task: Task) -> LinearRule:
        order, epoch = recipe.batches(task.n), recipe.steps_per_epoch(task.n)
        batches = None if order is None else Batches(order, task.outputs)
        return replace(rule, schedule=replace(rule.schedule, batches=batches, eval_every=epoch))

    def _block(self, spectrum: Spectrum, kept: Tensor, gamma: float) -> Spectrum:
        at = self._outputs_of(kept)
        return undecomposed(spectrum.of[at][:, at], gamma, spectrum.eps)

    def _outputs_of(self, rows: Tensor) -> Tensor:
        """Where the outputs of some rows stand among the flattened ones."""
        C = self.network.task.outputs
        return (rows[:, None] * C + torch.arange(C)).reshape(-1)

    def _chunks(self, groups: Sequence[Group]) -> list[list[Group]]:
        """Consecutive groups of one size, as many as are solved together."""
        N = self.size * self.network.task.outputs
        chunks: list[list[Group]] = []
        for group in groups:
            last = chunks[-1] if chunks else []
            if last and len(last[0]) == len(group) and len(last) * len(group) * N < MEMORY:
                last.append(group)
            else:
                chunks.append([group])
        return chunks

    def _end(self, theory: Linearization) -> float:
        goal = self.problem.goal
        if goal.until is None:
            return goal.steps
        t = theory.time_below(goal.until, goal.steps)
        if math.isinf(t) and math.isinf(goal.steps):
            raise SingularKernelError(
                f"until = {goal.until:g} is never reached on the rest: the linearized training "
                f"{self.problem.loss_label} stays above {theory.floor():.3g}."
            )
        return min(t, goal.steps)

    def _arrived(self, path: Path, problem: Problem) -> Solved:
        """Where a path ended.

        Raises:
            DivergenceError: its loss is far above the first one, or not finite.
        """
        test = flat(problem.network.outputs(problem.network.X))
        if not path.arrived or not bool(torch.isfinite(test).all()):
            raise DivergenceError(
                f"the path on the rest leads to a training {problem.loss_label} of {path.loss:.3g} after "
                f"{path.steps:.0f} steps: lower the learning rate.",
                math.nan,
            )
        return Solved(test, path.steps, tuple(path.ends))

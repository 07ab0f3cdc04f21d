"""From a model, a task and a recipe to the predictor of that training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from whichmin.dynamics.monotone import resolve_rate
from whichmin.dynamics.paths.adaptive_predictor import AdaptivePredictor
from whichmin.dynamics.paths.cost import products_of
from whichmin.dynamics.paths.function_space import FunctionSpacePredictor
from whichmin.dynamics.paths.linearized import Linearization
from whichmin.dynamics.paths.origin import Origin
from whichmin.dynamics.paths.outcome import Goal
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.paths.predictor import Predictor, Problem
from whichmin.dynamics.paths.start import remembered_by
from whichmin.dynamics.paths.stepwise import StepwisePredictor
from whichmin.dynamics.paths.training_first import TrainingFirst
from whichmin.dynamics.paths.unstable import UnstablePredictor
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.preconditioned import PreconditionedDescent
from whichmin.dynamics.rules.registry import rule_of
from whichmin.dynamics.rules.rule import Rule
from whichmin.errors import DivergenceError, InputError, OptimizerError, SingularKernelError
from whichmin.kernels.modes import Spectrum
from whichmin.kernels.stored import StoredSpectrum
from whichmin.kernels.unheld import UnheldSpectrum
from whichmin.recipe.build import check_optimizer
from whichmin.recipe.recipe import Recipe
from whichmin.recipe.schedule import Batches, GivenBatches, Schedule
from whichmin.tangent.direction import Direction
from whichmin.tangent.memory import Memory
from whichmin.task import Task

#: The learning rates of so many steps of a scheduler are looked at before a prediction starts.
LOOKED_AHEAD = 10_000
#: To this part of ‖Δθ‖ a step of the motions between linearizations may be approximated, which misses more.
ON_THE_WAY = 1e-4


def prepare(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    times: tuple[float, ...],
    *,
    until: float | None = None,
    flow: bool = False,
    rows: Sequence[Tensor] | None = None,
    only_linearized: bool = True,
    require_stable: bool = True,
    outputs_only: bool = False,
    train_first: bool = False,
    memory: Memory | None = None,
) -> Predictor:
    """Copy and check the network, linearize it where that is needed at once, and find where to end.

    Args:
        model: the network; it is not changed.
        task: the data and the loss.
        recipe: what trains it.
        times: ascending step counts at which outputs are wanted.
        until: the training loss to stop at.
        flow: whether time is continuous.
        rows: the rows of the data that each step uses, in place of the recipe's batches.
        only_linearized: whether θ₀ is the only point of linearization, so that ``until`` must be reached from there.
        memory: where the kernel may be held; in memory by default.
        require_stable: whether a rate beyond the limit of stability is an error; else its oscillation is damped.
        outputs_only: whether nothing but outputs is wanted, see :class:`Goal`.
        train_first: whether real training may come before a linearization that takes long, see
            :class:`TrainingFirst`.

    Raises:
        DivergenceError, SingularKernelError, ModelError, MemoryPlanError, OptimizerError, InputError: as
            :func:`whichmin.predict`.
    """
    size = recipe.check(task.n)
    network = MovingNetwork(model, task, memory)
    network.check()
    at_origin = Origin(network)
    recipe = resolve_rate(model, task, recipe, lambda: at_origin.spectrum, until, times[-1])
    optimizer = recipe.build(network.parameters.values())
    check_optimizer(optimizer, network.parameters)
    rule = rule_of(optimizer, flow=flow)
    _check_end(task, optimizer, times, until)
    if network.merged and not (isinstance(rule, LinearRule) and not rule.weight_decay and recipe.memory is None):
        raise OptimizerError(
            f"{type(optimizer).__name__} moves parameters that share memory once for each of them, which is not "
            f"predicted: make {', '.join(network.merged)} one parameter with the other (b.weight = a.weight), or train."
        )
    if flow and (size is not None or recipe.scheduler is not None):
        raise InputError("flow=True is the limit of small steps in full batches: leave out batch_size and scheduler.")
    order, eval_every, first = recipe.batches(task.n), recipe.steps_per_epoch(task.n), recipe.first_step
    batches: Batches | GivenBatches | None = None if order is None else Batches(order, task.outputs, first)
    if rows is not None:
        batches, eval_every = GivenBatches(rows, task.outputs), len(rows)
    name, lr = type(optimizer).__name__, float(optimizer.param_groups[0].get("lr", math.nan))
    scheduler = recipe.build_scheduler(optimizer)
    if scheduler is not None and isinstance(scheduled := rule_of(optimizer, flow=flow), LinearRule):
        rule = replace(scheduled, lr=lr)  # a scheduler may have brought momentum
    remembered: tuple[Direction, ...] = ()
    if isinstance(rule, LinearRule):
        remembered = remembered_by(rule, optimizer, network) if first else ()
        rule = replace(rule, schedule=Schedule.of(optimizer, scheduler, batches, eval_every, first))
        if until is None and math.isinf(times[-1]) and rule.schedule.dies_out(first):
            raise InputError(
                "steps is infinite, and the scheduler's learning rates die out: training ends where they do, not "
                "at a minimizer. Pass a number of steps, or until= a training loss."
            )
    follows = isinstance(rule, AdaptiveRule) and batches is None and scheduler is None and len(times) == 1
    choose = _Choice(batches, remembered, follows, only_linearized, require_stable, train_first)
    goal = Goal(times, until, eval_every, flow, outputs_only)
    if memory is not None and memory.products and until is None and _takes_products_alone(rule, task):
        network.products = products_of(times[-1])
    return choose(Problem(network, at_origin, task.objective, goal, recipe, name, lr, rule, choose))


@dataclass(frozen=True, eq=False)
class _Choice:
    """Which predictor is that of a problem.

    Attributes:
        batches: the rows of each step; None for all.
        remembered: the rule's state vectors at θ₀.
        follows: whether an adaptive rule is followed through Krylov spaces.
        only_linearized: see :func:`prepare`.
        require_stable: see there.
        train_first: see there.
    """

    batches: Batches | GivenBatches | None
    remembered: tuple[Direction, ...]
    follows: bool
    only_linearized: bool
    require_stable: bool
    train_first: bool

    def __call__(self, problem: Problem) -> Predictor:
        if self.only_linearized:
            _check_unheld(problem.spectrum, problem.rule, problem.optimizer)
        if isinstance(problem.rule, LinearRule):
            linear = partial(self._linear, problem, problem.rule)
            may_train = self.train_first and problem.goal.is_reached_by_training
            return TrainingFirst(problem, linear) if may_train and math.isfinite(problem.goal.steps) else linear()
        _check_targets(problem)
        if self.follows:
            assert isinstance(problem.rule, AdaptiveRule)
            return AdaptivePredictor(problem, problem.rule)
        return StepwisePredictor(problem, self.batches)

    def _linear(self, problem: Problem, rule: LinearRule) -> Predictor:
        try:
            return _in_function_space(problem, rule, self.remembered, self.only_linearized, self.require_stable)
        except DivergenceError as error:
            if self.only_linearized or not problem.goal.is_reached_by_training:
                raise
            return UnstablePredictor(problem, self.batches, error)


def _takes_products_alone(rule: Rule | None, task: Task) -> bool:
    """Whether outputs of a linearization take nothing of the kernel but products with it."""
    if not isinstance(rule, LinearRule) or isinstance(rule, PreconditionedDescent):
        return False
    return rule.is_closed and rule.schedule.batches is None and task.objective.loss.is_quadratic


def _check_unheld(spectrum: Spectrum, rule: Rule | None, name: str) -> None:
    """Refuse optimizers that need more of a kernel that is not in memory than products with it."""
    if not isinstance(spectrum, UnheldSpectrum):
        return
    where = "on disk" if isinstance(spectrum, StoredSpectrum) else "that is not held"
    remedy = "leave out tiles= and raise memory=, or predict from fewer training points."
    if not isinstance(rule, LinearRule):
        raise OptimizerError(
            f"a kernel {where} serves rules that are known in function space, and {name} is not: {remedy}"
        )
    if isinstance(rule, PreconditionedDescent):
        raise OptimizerError(f"a kernel {where} is one without a metric, and {name} has one: {remedy}")


def _in_function_space(
    problem: Problem, rule: LinearRule, remembered: tuple[Direction, ...], only_linearized: bool, require_stable: bool
) -> FunctionSpacePredictor:
    if not only_linearized:
        rule = replace(rule, rtol=ON_THE_WAY)
    linearization = Linearization.of(
        problem.network, rule, problem.objective, problem.features, problem.spectrum, problem.first, remembered
    )
    if require_stable and problem.objective.loss.is_quadratic:
        _check_stable(rule, linearization.spectrum.largest, problem)
    end = _end(problem, linearization, only_linearized)
    if not only_linearized and math.isfinite(end):
        linearization.train(end)  # recursions find out here whether they diverge
    return FunctionSpacePredictor(replace(problem, rule=rule), rule, linearization, end)


def _check_end(task: Task, optimizer: torch.optim.Optimizer, times: tuple[float, ...], until: float | None) -> None:
    """Refuse a training loss that no outputs have, and the limit of infinitely many steps where there is none."""
    task.check_until(until)
    decays = any(group.get("weight_decay") for group in optimizer.param_groups)
    if until is not None or math.isfinite(times[-1]) or task.objective.is_bounded or decays:
        return
    known = "whether it has a minimizer is not known"
    if math.isfinite(task.objective.lowest):
        known = (
            "outputs grow for ever. Gradient descent, with or without momentum and batches, tends in direction to "
            "whichmin.minimizers.max_margin(K, K_test, y)"
        )
    raise InputError(
        f"steps is infinite, and {task.loss!r} has no finite minimizer on these targets: {known}. Pass a number of "
        "steps, or until= a training loss."
    )


def _check_stable(rule: LinearRule, largest: float, problem: Problem) -> None:
    gamma, first = problem.objective.gamma, problem.first
    limit = rule.limit(largest, gamma)
    product = f"{limit * gamma * largest:.3g}/(γ λ_max)"
    if rule.schedule.lr is None and rule.lr >= limit:
        raise DivergenceError(
            f"lr = {rule.lr:.6g} diverges: the limit of stability for this network, data and loss is {limit:.6g} "
            f'({product}). Take lr below it, or lr="best".',
            limit,
        )
    if rule.schedule.lr is None:
        return
    for k in range(first, int(min(problem.goal.steps, first + LOOKED_AHEAD))):
        if rule.rate(k) >= limit:
            raise DivergenceError(
                f"the scheduler raises lr to {rule.rate(k):.6g} at step {k}, past the limit of stability {limit:.6g} "
                f"({product}). Give it a lower top.",
                limit,
            )


def _check_targets(problem: Problem) -> None:
    """Refuse targets that no network fits where they are to be fitted."""
    task, goal = problem.network.task, problem.goal
    if task.objective.minimizer is None or problem.network.size < task.n * task.outputs:
        return
    if goal.until is None and not math.isinf(goal.steps):
        return
    pair = task.contradiction()
    if pair is not None:
        raise SingularKernelError(
            f"rows {pair[0]} and {pair[1]} of X are identical and their targets differ "
            f"({task.y[pair[0]].tolist()} and {task.y[pair[1]].tolist()}): no network fits both, the tangent kernel is "
            "singular. Drop one, or average their targets."
        )


def _end(problem: Problem, linearization: Linearization, only_linearized: bool) -> float:
    """The last step count on the linearized network, with a clear error where the targets cannot be reached."""
    goal = problem.goal
    _check_targets(problem)
    if goal.until is None:
        return goal.steps
    t = linearization.time_below(goal.until, goal.steps)
    if math.isinf(t) and math.isinf(goal.steps) and only_linearized:
        raise SingularKernelError(
            f"until = {goal.until:g} is never reached: the linearized training {problem.loss_label} stays above "
            f"{linearization.floor():.3g}. Raise until, widen the network, or pass a number of steps; the real network "
            'may reach it, relinearize="auto" looks.'
        )
    return min(t, goal.steps)

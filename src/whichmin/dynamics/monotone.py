"""``lr="monotone"``: the largest learning rate at which the training loss falls at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from torch import nn

from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.registry import resolve_theory_rate, rule_of
from whichmin.errors import OptimizerError, TrainingError
from whichmin.kernels.modes import Spectrum
from whichmin.loop.training_loop import Loop
from whichmin.optimizers.registry import facts_of
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.copying import private_copy
from whichmin.tangent.model import evaluate, trainable
from whichmin.task import Task

#: The rate is found up to this part of itself.
RESOLUTION = 0.05
#: Steps that are looked at where training has no end of its own.
STEPS = 1000
#: Steps of a predicted curve that are looked at.
PREDICTED = 500
#: A rise of the loss L by so many rounding units ε of (L + √L) is rounding.
ROUNDING = 8.0
#: The first rate that is tried where no curve is predicted and the optimizer has no usual one.
FIRST = 1e-3
#: How often a rate is doubled or halved before the search is given up.
MOST = 40


def resolve_rate(
    model: nn.Module, task: Task, recipe: Recipe, spectrum: Callable[[], Spectrum], until: float | None, steps: float
) -> Recipe:
    """The recipe with a number in place of ``lr="best"``, ``"half"`` or ``"monotone"``; itself where it names a number.

    ``"monotone"`` is the largest rate at which the training loss falls at every step (with mini-batches: every epoch),
    up to 5 %. A rule that is known in function space is bisected on its predicted curve first; then real steps on
    copies of the network say where the loss falls until training ends. They end at the first rise.

    Args:
        model: the network; it is not changed.
        task: the data and the loss.
        recipe: what trains.
        spectrum: gives that of the tangent kernel at θ₀.
        until: the training loss to end at; None for none.
        steps: the most steps; infinite for 1,000, where there is no ``until`` either.

    Raises:
        OptimizerError: no rate is known to be best, or none is found at which the loss falls.
    """
    if recipe.wants_theory_rate:
        return resolve_theory_rate(recipe, spectrum(), task.objective.gamma)
    if not recipe.wants_monotone_rate:
        return recipe
    limit = int(steps) if math.isfinite(steps) else (STEPS if until is None else 100 * STEPS)
    network = private_copy(model)

    def falls(lr: float) -> bool:
        return _falls(network, task, recipe.with_learning_rate(lr), until, limit)

    guess = _predicted(network, task, recipe, spectrum, limit)
    first, factor = (_usual(recipe), 2.0) if guess is None else (guess, 1 + 2 * RESOLUTION)
    return recipe.with_learning_rate(_largest(falls, first, factor))


def _largest(holds: Callable[[float], bool], first: float, factor: float) -> float:
    """The largest rate at which something holds, up to ``RESOLUTION``: bracketed from ``first``, then bisected.

    Raises:
        OptimizerError: it holds at none of the rates that were tried, or at all.
    """
    low = high = first
    if holds(first):
        for _ in range(MOST):
            high = low * factor
            if not holds(high):
                break
            low, factor = high, factor * factor if factor < 2 else factor
        else:
            raise OptimizerError(f'lr="monotone": the training loss falls at every rate up to {low:g}; name a number.')
    else:
        for _ in range(MOST):
            low = high / factor
            if holds(low):
                break
            high, factor = low, factor * factor if factor < 2 else factor
        else:
            raise OptimizerError(f'lr="monotone": the training loss rises at every rate down to {high:g}.')
    while high > low * (1 + RESOLUTION):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _falls(network: nn.Module, task: Task, recipe: Recipe, until: float | None, limit: int) -> bool:
    """Whether the training loss falls from each real step to the next, until training ends."""
    trained = private_copy(network)
    optimizer = recipe.build(trainable(trained).values())
    unit = ROUNDING * torch.finfo(next(iter(trainable(trained).values())).dtype).eps
    loop: Loop

    def watch(_: int) -> str | None:
        if len(loop.losses) < 2:
            return None
        before, now = loop.losses[-2:]
        return "it rose" if now > before + unit * (abs(before) + math.sqrt(abs(before))) else None

    loop = Loop(
        trained, task, optimizer, recipe.build_scheduler(optimizer), until=until, limit=limit,
        batches=recipe.batches(task.n), epoch=recipe.steps_per_epoch(task.n), watch=watch,
    )  # fmt: skip
    try:
        reason = loop.run(progress=False)
    except TrainingError:
        return False
    if loop.interrupted:
        raise KeyboardInterrupt
    return reason != "it rose" and watch(loop.done) is None


def _predicted(
    network: nn.Module, task: Task, recipe: Recipe, spectrum: Callable[[], Spectrum], limit: int
) -> float | None:
    """The largest rate at which the predicted curve falls; None where no curve is known in function space."""
    parameters = list(trainable(network).values())
    built = recipe.with_learning_rate(FIRST).build(parameters)
    rule = rule_of(built)
    known = isinstance(rule, LinearRule) and not rule.weight_decay
    if not known or recipe.check(task.n) is not None or recipe.scheduler is not None:
        return None
    assert isinstance(rule, LinearRule)
    modes, objective = spectrum(), task.objective
    f0 = evaluate(network, task.X).detach().double().cpu().reshape(-1)
    start = Start.at_rest(modes, objective, f0.numpy() - objective.origin, rule.state_vectors)

    limit_of_stability = rule.limit(modes.largest, objective.gamma)

    def falls(lr: float) -> bool:
        if lr >= limit_of_stability:  # a motion damps what oscillates there
            return False
        motion = replace(rule, lr=lr).motion(start)
        losses = [motion.loss(t) for t in range(min(limit, PREDICTED) + 1)]
        return all(math.isfinite(b) and b <= a for a, b in pairwise(losses))

    return _largest(falls, limit_of_stability / 2, 2.0) if math.isfinite(limit_of_stability) else None


def _usual(recipe: Recipe) -> float:
    """The rate that the optimizer has where nothing is said."""
    built = recipe.with_learning_rate(FIRST).build([torch.nn.Parameter(torch.zeros(2, 2))])
    facts = facts_of(type(built))
    return facts.default_lr if facts is not None and isinstance(facts.default_lr, float) else FIRST

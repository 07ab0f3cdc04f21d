"""``lr="monotone"``: the largest learning rate at which the training loss falls at every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import nn

from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.registry import resolve_theory_rate, rule_of
from whichmin.errors import OptimizerError, TrainingError
from whichmin.kernels.modes import Spectrum
from whichmin.loop.row_span import row_span
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
#: So many steps are looked at first; rates at which the loss rises later are few.
EARLY = 64
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
    copies of the network say where the loss falls: a few steps first, and until training ends at the rate that is
    largest by these. They end at the first rise.

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
    guess = _predicted(private_copy(model), task, recipe, spectrum, limit)
    first, factor = (_usual(recipe), 2.0) if guess is None else (guess, 1 + 2 * RESOLUTION)
    trials = _Trials(model, task, recipe, until, limit)
    epoch = recipe.steps_per_epoch(task.n)  # the loss is measured there

    def whole_epochs(steps: int) -> int:
        return min(limit, epoch * math.ceil(steps / epoch))

    within = whole_epochs(EARLY)
    while True:
        rate = _largest(partial(trials.fall, within=within), first, factor)
        if trials.fall(rate, limit):
            return recipe.with_learning_rate(rate)
        within = whole_epochs(2 * max(within, int(trials.risen_at(rate))))
        first, factor = rate, 1 + 2 * RESOLUTION


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


class _Trials:
    """Real steps on copies of a network at one rate and another.

    Args:
        model: the network; it is not changed.
        task: the data and the loss.
        recipe: what trains, but for the rate.
        until: the training loss to end at; None for none.
        limit: the most steps.
    """

    def __init__(self, model: nn.Module, task: Task, recipe: Recipe, until: float | None, limit: int) -> None:
        self._recipe, self._until, self._limit = recipe, until, limit
        network = private_copy(model)
        built = recipe.with_learning_rate(FIRST).build(trainable(network).values())
        span = row_span(network, task, built)
        self._network, self._task = (network, task) if span is None else (span.network, span.task)
        self._seen: dict[float, tuple[int, bool]] = {}

    def risen_at(self, lr: float) -> float:
        """The step at which the loss was seen to rise; infinite where it was not."""
        step, has_risen = self._seen.get(lr, (0, False))
        return step if has_risen else math.inf

    def fall(self, lr: float, within: int) -> bool:
        """Whether the loss falls from each step to the next, until training ends or has made so many steps."""
        step, has_risen = self._seen.get(lr, (0, False))
        if not has_risen and step < within:
            step, has_risen = self._seen[lr] = self._tried(lr, within)
        return not has_risen or step > within

    def _tried(self, lr: float, within: int) -> tuple[int, bool]:
        """How many steps were looked at, and whether the loss rose at the last of them."""
        trained, recipe, task = private_copy(self._network), self._recipe.with_learning_rate(lr), self._task
        optimizer = recipe.build(trainable(trained).values())
        unit = ROUNDING * torch.finfo(next(iter(trainable(trained).values())).dtype).eps
        loop: Loop

        def watch(_: int) -> str | None:
            if len(loop.losses) < 2:
                return None
            before, now = loop.losses[-2:]
            return "it rose" if now > before + unit * (abs(before) + math.sqrt(abs(before))) else None

        loop = Loop(
            trained, task, optimizer, recipe.build_scheduler(optimizer), until=self._until, limit=within,
            batches=recipe.batches(task.n), epoch=recipe.steps_per_epoch(task.n), watch=watch,
        )  # fmt: skip
        try:
            reason = loop.run(progress=False)
        except TrainingError:
            return loop.done, True
        if loop.interrupted:
            raise KeyboardInterrupt
        has_risen = reason == "it rose" or watch(loop.done) is not None
        return loop.done if has_risen or loop.done >= within else self._limit, has_risen


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

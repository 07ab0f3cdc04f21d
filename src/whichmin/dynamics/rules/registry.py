"""From a built optimizer to its rule."""

from __future__ import annotations

from collections.abc import Callable

import torch

from whichmin.dynamics.rules.rule import Rule
from whichmin.errors import OptimizerError
from whichmin.kernels.modes import Spectrum
from whichmin.optimizers.registry import REGISTRY, facts_of, resolve
from whichmin.recipe.build import check_lr
from whichmin.recipe.recipe import Recipe


def rule_of(optimizer: torch.optim.Optimizer, *, flow: bool = False) -> Rule | None:
    """The rule that describes a built optimizer; None for a class or settings that nobody described.

    Args:
        optimizer: of one parameter group; with several there is no rule.
        flow: whether time is continuous.

    Raises:
        OptimizerError: settings that the rule does not describe, or a flow of an optimizer without one.
    """
    facts = facts_of(type(optimizer))
    rule: Rule | None = None
    if facts is not None and facts.rule is not None and len(optimizer.param_groups) == 1:
        check_lr(optimizer.param_groups[0]["lr"])
        make: Callable[[torch.optim.Optimizer, bool], Rule | None] = resolve(facts.rule)
        rule = make(optimizer, flow)
    if flow and rule is None:
        known = ", ".join(sorted(facts.path.partition(":")[2] for facts in REGISTRY.values() if facts.linear))
        raise OptimizerError(
            f"no flow is known for {type(optimizer).__name__} with {len(optimizer.param_groups)} parameter "
            f"group(s): pass flow=False. Known are, with one group: {known}."
        )
    return rule


def resolve_theory_rate(recipe: Recipe, spectrum: Spectrum, gamma: float) -> Recipe:
    """The recipe with ``lr="best"`` or ``lr="half"`` settled by its rule; the recipe itself where it names a rate.

    Raises:
        OptimizerError: an optimizer, or a loss without curvature, for which no rate is known to be best.
    """
    if not recipe.wants_theory_rate:
        return recipe
    if not gamma:
        raise OptimizerError(
            'lr="best" and "half" come from the curvature of the loss, and this one has none at outputs of zero: pass '
            'a number, or lr="monotone".'
        )
    settled = recipe.with_learning_rate(spectrum.best_lr)
    built = settled.build([torch.nn.Parameter(torch.zeros(1))])
    rule = rule_of(built)
    rate = None if rule is None else rule.best_rate(spectrum, gamma)
    if rule is None or rate is None:
        raise OptimizerError(
            'lr="best" and "half" are the best rate and half of the limit of gradient descent and its kin; other '
            f'optimizers need a number or "monotone": partial({type(built).__name__}, lr=1e-3).'
        )
    limit = rule.limit(spectrum.largest, gamma)
    if recipe.wants_half_rate and limit is not None:
        rate = limit / 2
    return settled.with_learning_rate(rate)

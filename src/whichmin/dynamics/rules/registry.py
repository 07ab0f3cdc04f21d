"""The registry of rules: what an optimizer does to the residual while the tangent features are frozen.

A rule is one file with one class and one line here. It is looked up by the class of the built optimizer; an optimizer
that nobody described is a clear error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.preconditioned import PreconditionedDescent, preconditioned
from whichmin.errors import OptimizerError
from whichmin.kernels.spectrum import Spectrum
from whichmin.recipe.build import check_lr
from whichmin.recipe.recipe import Recipe


def resolve_best_rate(recipe: Recipe, spectrum: Spectrum) -> Recipe:
    """The recipe with ``lr="best"`` as a number: the best rate of gradient descent, or half of the rule's own limit.

    Raises:
        OptimizerError: an optimizer without a rule, for which no rate is known to be best.
    """
    if not recipe.wants_best_rate:
        return recipe
    resolved = recipe.with_learning_rate(spectrum.best_lr)
    rule = rule_of(resolved.build([torch.nn.Parameter(torch.zeros(1))]))
    if rule is None:
        factory: Any = recipe.optimizer
        raise OptimizerError(
            'lr="best" is the best rate of gradient descent and its kin; other optimizers need a number: '
            f"partial({getattr(factory.func, '__name__', 'Optimizer')}, lr=1e-3)."
        )
    limit = rule.limit(float(spectrum.eigenvalues[0]), spectrum.gamma)
    return resolved if rule.lr < 0.75 * limit or not rule.slots else resolved.with_learning_rate(limit / 2)


def rule_of(optimizer: torch.optim.Optimizer, *, flow: bool = False) -> LinearRule | None:
    """The rule that describes a built optimizer in closed form or as a recursion; None if there is none.

    Raises:
        OptimizerError: settings that the rule does not describe, or a flow of an optimizer without a rule.
    """
    make = _registry().get(type(optimizer))
    if make is None or len(optimizer.param_groups) != 1:
        if flow:
            known = ", ".join(sorted(cls.__name__ for cls in _registry()))
            raise OptimizerError(
                f"no flow is known for {type(optimizer).__name__} with {len(optimizer.param_groups)} parameter "
                f"group(s): pass flow=False. Known are, with one group: {known}."
            )
        return None
    group = optimizer.param_groups[0]
    check_lr(group["lr"])
    rule = make(group, flow)
    metric = [optimizer.state[p].get("metric") for p in group["params"]] if optimizer.state else []
    return replace(rule, metric=tuple(metric)) if isinstance(rule, PreconditionedDescent) else rule


def _registry() -> dict[type, Callable[[dict[str, Any], bool], LinearRule]]:
    from whichmin.dynamics.rules.higher_momentum import higher_momentum
    from whichmin.dynamics.rules.momentum import stochastic_gradient_descent
    from whichmin.dynamics.rules.nesterov import nesterov
    from whichmin.optimizers import HigherMomentum, Nesterov, Preconditioned

    return {
        torch.optim.SGD: stochastic_gradient_descent,
        Nesterov: nesterov,
        HigherMomentum: higher_momentum,
        Preconditioned: preconditioned,
    }

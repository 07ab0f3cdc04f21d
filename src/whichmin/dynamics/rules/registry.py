"""The registry of rules: what an optimizer does to the residual while the tangent features are frozen.

A rule is one file with one class and one line here. It is looked up by the class of the built optimizer; an optimizer
that nobody described is a clear error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.dynamics.rules.preconditioned import PreconditionedDescent, preconditioned
from whichmin.errors import OptimizerError
from whichmin.kernels.spectrum import Spectrum

OptimizerFactory = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


def learning_rate_is_best(optimizer: Any) -> bool:
    """Whether a factory asks for the theoretical rate, ``partial(Optimizer, lr="best")``."""
    return isinstance(optimizer, partial) and optimizer.keywords.get("lr") == "best"


def with_learning_rate(optimizer: Any, lr: float) -> Any:
    """The factory with its learning rate replaced."""
    return partial(optimizer.func, *optimizer.args, **{**optimizer.keywords, "lr": lr})


def at_best(optimizer: Any, spectrum: Spectrum) -> Any:
    """The factory with ``lr="best"`` settled: the best rate of gradient descent, or half of the rule's own limit.

    Raises:
        OptimizerError: an optimizer without a rule, for which no rate is known to be best.
    """
    settled = with_learning_rate(optimizer, spectrum.best_lr)
    rule = rule_of(build(settled, [torch.nn.Parameter(torch.zeros(1))]))
    if rule is None:
        raise OptimizerError(
            'lr="best" is the best rate of gradient descent and its kin; other optimizers need a number: '
            f"partial({getattr(optimizer.func, '__name__', 'Optimizer')}, lr=1e-3)."
        )
    limit = rule.limit(float(spectrum.eigenvalues[0]), spectrum.gamma)
    return settled if rule.lr < 0.75 * limit or not rule.slots else with_learning_rate(optimizer, limit / 2)


def build(optimizer: OptimizerFactory, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that a factory makes.

    Raises:
        OptimizerError: not a factory, or the factory fails.
    """
    if isinstance(optimizer, torch.optim.Optimizer):
        raise OptimizerError(
            f"got a built {type(optimizer).__name__}; expected a factory, such as "
            f"functools.partial(torch.optim.{type(optimizer).__name__}, lr=…), which whichmin builds on its own copy."
        )
    if not callable(optimizer):
        raise OptimizerError(
            f"optimizer is {optimizer!r}; expected a factory such as partial(torch.optim.SGD, lr=0.1)."
        )
    try:
        built = optimizer(list(parameters))
    except OptimizerError:
        raise
    except (TypeError, ValueError) as error:
        raise OptimizerError(
            f"the optimizer factory failed: {error}. Expected functools.partial(torch.optim.SGD, lr=…), lr a positive "
            'number or "best".'
        ) from error
    if not isinstance(built, torch.optim.Optimizer):
        raise OptimizerError(f"the factory returned a {type(built).__name__}; expected a torch.optim.Optimizer.")
    return built


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


def check_lr(lr: Any) -> float:
    """A learning rate as a number.

    Raises:
        OptimizerError: it is not positive and finite.
    """
    value = float(lr)
    if not (math.isfinite(value) and value > 0):
        raise OptimizerError(f'lr is {value}; expected a positive number, or "best" for the theoretical rate.')
    return value

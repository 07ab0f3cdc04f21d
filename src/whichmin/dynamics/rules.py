"""The registry of rules: what an optimizer does to the residual while the tangent features are frozen.

A rule is one file with one class and one line here. It is looked up by the class of the built optimizer; an optimizer
that nobody described is a clear error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from whichmin.errors import OptimizerError

Array = NDArray[np.float64]
OptimizerFactory = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]


class Modes(Protocol):
    """The residual's way over an interval, mode by mode of K = QΛQᵀ: r(t) = Q m(t)∘q, q = Qᵀr(0).

    Parameters move by θ(t) − θ(0) = −Jᵀ Q φ(t)∘q. Times are steps, or lr·steps divided by lr for a flow.
    """

    def residual(self, t: float) -> Array:
        """m(t), (modes,), in [−1, 1] where the rule is stable."""
        ...

    def coefficient(self, t: float) -> Array:
        """φ(t), (modes,): (1 − m(t))/λ for gradient descent; 0 for modes of eigenvalue 0."""
        ...


class Rule(Protocol):
    """What an optimizer does while J is frozen."""

    @property
    def lr(self) -> float:
        """The learning rate."""
        ...

    @property
    def flow(self) -> bool:
        """Whether time is continuous."""
        ...

    def modes(self, eigenvalues: Array, gamma: float) -> Modes:
        """The dynamics for these eigenvalues."""
        ...

    def limit(self, largest: float, gamma: float) -> float:
        """The learning rate from which the mode of the largest eigenvalue no longer converges; inf for a flow."""
        ...


def learning_rate_is_best(optimizer: Any) -> bool:
    """Whether a factory asks for the theoretical rate, ``partial(Optimizer, lr="best")``."""
    return isinstance(optimizer, partial) and optimizer.keywords.get("lr") == "best"


def with_learning_rate(optimizer: Any, lr: float) -> Any:
    """The factory with its learning rate replaced."""
    return partial(optimizer.func, *optimizer.args, **{**optimizer.keywords, "lr": lr})


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
    except (TypeError, ValueError) as error:
        raise OptimizerError(
            f"the optimizer factory failed: {error}. Expected functools.partial(torch.optim.SGD, lr=…), lr a positive "
            'number or "best".'
        ) from error
    if not isinstance(built, torch.optim.Optimizer):
        raise OptimizerError(f"the factory returned a {type(built).__name__}; expected a torch.optim.Optimizer.")
    return built


def rule_of(optimizer: torch.optim.Optimizer, *, flow: bool = False) -> Rule:
    """The rule for a built optimizer.

    Raises:
        OptimizerError: no rule describes this class or these settings.
    """
    make = _registry().get(type(optimizer))
    if make is None:
        known = ", ".join(sorted(cls.__name__ for cls in _registry()))
        raise OptimizerError(
            f"no rule predicts {type(optimizer).__name__}; known are: {known}. Train it for real with whichmin.train."
        )
    if len(optimizer.param_groups) != 1:
        raise OptimizerError(
            f"the optimizer has {len(optimizer.param_groups)} parameter groups; predictions need one group of all "
            "trainable parameters."
        )
    return make(optimizer.param_groups[0], flow)


def _registry() -> dict[type, Callable[[dict[str, Any], bool], Rule]]:
    from whichmin.dynamics.gradient_descent import GradientDescent

    return {torch.optim.SGD: GradientDescent.from_group}


def check_lr(lr: Any) -> float:
    """A learning rate as a number.

    Raises:
        OptimizerError: it is not positive and finite.
    """
    value = float(lr)
    if not (math.isfinite(value) and value > 0):
        raise OptimizerError(f'lr is {value}; expected a positive number, or "best" for the theoretical rate.')
    return value

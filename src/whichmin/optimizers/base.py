"""What the optimizers here share: closures, groups that are checked, the gradients of a group."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

from whichmin.errors import OptimizerError
from whichmin.optimizers import foreach


class FirstOrder(torch.optim.Optimizer):
    """An optimizer whose step is a formula of the parameters, their gradients and a state per parameter."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters with settings of its own.

        Raises:
            OptimizerError: a setting that cannot be used.
        """
        if isinstance(param_group, dict):
            self._check(self.defaults | param_group)
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; parameters without a gradient stay where they are.

        Args:
            closure: evaluates the network again, with gradients, and returns the loss.

        Returns:
            The closure's loss; None without one.

        Raises:
            OptimizerError: a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            grads: list[Tensor] = [p.grad for p in params if p.grad is not None]
            if any(g.is_sparse for g in grads):
                raise OptimizerError(
                    f"{type(self).__name__} got a sparse gradient; expected dense ones: build the embedding with "
                    "sparse=False."
                )
            if not params:
                continue
            if group.get("weight_decay", 0.0) != 0:
                grads = list(foreach.add(grads, params, alpha=float(group["weight_decay"])))
            self._update(group, params, grads)
        return loss

    def _check(self, settings: dict[str, Any]) -> None:
        number("lr", settings["lr"], lambda v: v > 0, "a positive number")
        number("weight_decay", settings.get("weight_decay", 0.0), lambda v: v >= 0, "0 or a positive number")

    @abstractmethod
    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        """Move the parameters of a group that have a gradient; weight decay is in the gradients already."""


def number(name: str, value: Any, holds: Callable[[float], bool], expected: str) -> float:
    """A setting as a number.

    Raises:
        OptimizerError: it is none, is not finite, or does not fulfil what is asked of it.
    """
    best = f" (only whichmin.train and whichmin.predict resolve {value!r})" if value in ("best", "monotone") else ""
    if isinstance(value, str | bytes | bool) or value is None:
        raise OptimizerError(f"{name} is {value!r}; expected {expected}{best}.")
    try:
        found = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptimizerError(f"{name} is a {type(value).__name__}; expected {expected}.") from error
    if not (math.isfinite(found) and holds(found)):
        raise OptimizerError(f"{name} is {found:g}; expected {expected}.")
    return found

"""Gradient descent in a fixed diagonal metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from whichmin.errors import OptimizerError
from whichmin.optimizers import foreach
from whichmin.optimizers.base import FirstOrder

Weight = Tensor | float
Metric = Sequence[Weight] | Callable[[Tensor], Weight]


class Preconditioned(FirstOrder):
    """Gradient descent in a fixed diagonal metric D: θ ← θ − lr · D∘∇L(θ).

    It is gradient descent in the coordinates θ/√D, and where the tangent features stay it ends in the minimizer that is
    nearest to θ₀ in the norm Σ (θ − θ₀)²/D. A parameter's state holds its ``metric``, a tensor of its shape. Memory:
    one copy of the parameters.

    The setting of Bu, Xu, Chen (arXiv 2010.13165) with a constant preconditioner; Nonnenmacher, Reeb, Steinwart, *Which
    Minimizer Does My Neural Network Converge To?* (arXiv 2011.02408) for the minimizer.

    Args:
        params: the parameters, or groups of them.
        lr: the learning rate.
        metric: D: positive numbers or tensors that broadcast to the parameters' shapes, one for each parameter in their
            order, through all groups; or a function of a parameter that gives one, which suits
            ``functools.partial(Preconditioned, lr=…, metric=…)`` and groups that are added later.

    Raises:
        OptimizerError: a learning rate that is not positive and finite; a metric with more or fewer entries than
            parameters, of another shape, or not positive and finite everywhere.
    """

    def __init__(self, params: ParamsT, lr: float, metric: Metric) -> None:
        self._metric: Metric | None = None
        super().__init__(params, {"lr": lr})
        if not callable(metric) and not isinstance(metric, tuple | list):
            raise OptimizerError(
                f"metric is a {type(metric).__name__}; expected a list with a positive number or tensor for each "
                "parameter, or a function parameter → number or tensor."
            )
        parameters = [p for group in self.param_groups for p in group["params"]]
        if not callable(metric) and len(metric) != len(parameters):
            raise OptimizerError(
                f"metric has {len(metric)} entries for {len(parameters)} parameters; expected one each, in their order."
            )
        for i, p in enumerate(parameters):
            self.state[p]["metric"] = _weight(metric(p) if callable(metric) else metric[i], p, i)
        self._metric = metric

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; after construction their metric has to come from a function.

        Raises:
            OptimizerError: a setting that cannot be used, or a metric that was given as a list.
        """
        metric = self._metric
        if metric is not None and not callable(metric):
            raise OptimizerError(
                f"metric is a list for {len(metric)} parameters, and now there are more: pass a function "
                "parameter → number or tensor, or all groups at once."
            )
        super().add_param_group(param_group)
        if metric is not None:
            for i, p in enumerate(self.param_groups[-1]["params"]):
                self.state[p]["metric"] = _weight(metric(p), p, i)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy keeps the metric that its parameters have, in their state; a function does not travel."""
        super().__setstate__(state)
        if "_metric" not in self.__dict__:
            self._metric = [self.state[p]["metric"] for group in self.param_groups for p in group["params"]]

    def _update(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> None:
        metrics = [self.state[p]["metric"] for p in params]
        foreach.addcmul_(params, metrics, grads, value=-float(group["lr"]))


def _weight(value: Any, parameter: Tensor, i: int) -> Tensor:
    """An entry of the metric as a tensor of its parameter's shape."""
    try:
        weight = torch.as_tensor(value, dtype=parameter.dtype, device=parameter.device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise OptimizerError(
            f"metric of parameter {i} is a {type(value).__name__}; expected a positive number or a tensor."
        ) from error
    if weight.numel() == 0 or not bool((torch.isfinite(weight) & (weight > 0)).all()):
        least = f"; its smallest entry is {float(weight.min()):g}" if weight.numel() else ""
        raise OptimizerError(f"metric of parameter {i} must be positive and finite everywhere{least}.")
    try:
        return weight.expand(parameter.shape).clone()
    except RuntimeError as error:
        raise OptimizerError(
            f"metric of parameter {i} has shape {tuple(weight.shape)}; expected one that broadcasts to the "
            f"parameter's, {tuple(parameter.shape)}."
        ) from error

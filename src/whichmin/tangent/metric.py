"""A metric on parameters, and what it weighs each by."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from whichmin.errors import ModelError

#: A metric D: numbers or positive weights of the parameters' shapes, by name.
Metric = Mapping[str, Tensor | float]


def metric_weights(metric: Metric | None, parameters: Mapping[str, Tensor]) -> dict[str, Tensor | float] | None:
    """The metric D as a number or a tensor of the parameter's shape, for each trainable parameter; None for None.

    Raises:
        ModelError: names that do not match, shapes that do not broadcast, weights that are not positive and finite.
    """
    if metric is None:
        return None
    missing, extra = sorted(set(parameters) - set(metric)), sorted(set(metric) - set(parameters))
    if missing or extra:
        raise ModelError(
            "metric must name exactly the trainable parameters; "
            f"missing: {missing or 'none'}, unknown: {extra or 'none'}."
        )
    weights: dict[str, Tensor | float] = {}
    for name, parameter in parameters.items():
        value = torch.as_tensor(metric[name], dtype=parameter.dtype, device=parameter.device)
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise ModelError(f"metric[{name!r}] must be positive and finite; its smallest is {float(value.min())}.")
        if value.numel() == 1:
            weights[name] = float(value)
            continue
        try:
            weights[name] = value.expand(parameter.shape)
        except RuntimeError as error:
            raise ModelError(
                f"metric[{name!r}] has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}."
            ) from error
    return weights

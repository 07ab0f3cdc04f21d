"""From one of torch's losses, or any function, to ours."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.errors import InputError
from whichmin.losses.cross_entropy import CrossEntropy
from whichmin.losses.elementwise import BinaryCrossEntropy, Gaussian, Huber, Poisson
from whichmin.losses.general import General
from whichmin.losses.loss import Loss
from whichmin.losses.squared_error import MeanSquaredError


def loss_of(loss: Any) -> Loss:
    """The :class:`Loss` of one of torch's, or of a function (f, y) → scalar; None is the mean square error.

    ``torch.nn.GaussianNLLLoss()`` has the variance 1, or that of ``functools.partial(GaussianNLLLoss(), var=…)``.

    Raises:
        InputError: what is neither, and settings that have no meaning here: ``reduction="none"``, weights of single
            rows.
    """
    if isinstance(loss, Loss):
        return loss
    if loss is None:
        return MeanSquaredError()
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise InputError(f"loss is the class {loss.__name__}; expected one of it: torch.nn.{loss.__name__}().")
    if isinstance(loss, str):
        raise InputError(f"loss is {loss!r}; expected one of torch's, such as torch.nn.CrossEntropyLoss().")
    if isinstance(loss, nn.Module):
        _check_reduction(loss)
    variance: Any = 1.0
    if isinstance(loss, functools.partial) and isinstance(loss.func, nn.GaussianNLLLoss) and not loss.args:
        _check_reduction(loss.func)
        loss, variance = loss.func, loss.keywords.get("var", 1.0)
    make = _KNOWN.get(type(loss))
    if make is not None:
        known = make(loss) if not isinstance(loss, nn.GaussianNLLLoss) else _gaussian(loss, variance)
        if known is not None:
            return known
    if not callable(loss):
        raise InputError(
            f"loss is {loss!r}; expected one of torch's, such as torch.nn.CrossEntropyLoss(), or a function of outputs "
            "and targets that returns a scalar tensor."
        )
    name = repr(loss) if isinstance(loss, nn.Module) else getattr(loss, "__name__", type(loss).__name__)
    function: Any = loss
    return General(name, function)


def _check_reduction(loss: Any) -> None:
    reduction = getattr(loss, "reduction", "mean")
    if reduction == "none":
        name = type(loss).__name__
        raise InputError(
            f"loss is {name}(reduction={reduction!r}), a loss for each row; expected "
            f'reduction="mean" or "sum", which training minimizes.'
        )


def _cross_entropy(loss: nn.CrossEntropyLoss) -> Loss:
    weight = _per_output(loss.weight, "weight")
    return CrossEntropy(
        (weight,) if isinstance(weight, float | int) else weight,
        loss.ignore_index,
        _reduction(loss),
        loss.label_smoothing,
    )


def _binary(loss: nn.BCEWithLogitsLoss) -> Loss:
    return BinaryCrossEntropy(
        _reduction(loss), _per_output(loss.weight, "weight"), _per_output(loss.pos_weight, "pos_weight")
    )


def _smooth(loss: nn.SmoothL1Loss) -> Loss | None:
    return Huber(_reduction(loss), loss.beta, True) if loss.beta > 0 else None


def _poisson(loss: nn.PoissonNLLLoss) -> Loss | None:
    return Poisson(_reduction(loss), loss.full) if loss.log_input else None


def _gaussian(loss: nn.GaussianNLLLoss, variance: Any) -> Loss:
    given = _per_output(torch.as_tensor(variance, dtype=torch.float64), "var")
    assert given is not None
    smallest = min(given) if isinstance(given, tuple) else given
    if not (smallest > 0 and math.isfinite(smallest)):
        raise InputError(f"the variance of GaussianNLLLoss is {smallest:g}; expected positive numbers.")
    least = float(loss.eps)
    given = tuple(max(v, least) for v in given) if isinstance(given, tuple) else max(given, least)
    return Gaussian(_reduction(loss), given, loss.full)


_KNOWN: dict[type, Callable[[Any], Loss | None]] = {
    nn.MSELoss: lambda loss: MeanSquaredError(_reduction(loss)),
    nn.CrossEntropyLoss: _cross_entropy,
    nn.BCEWithLogitsLoss: _binary,
    nn.HuberLoss: lambda loss: Huber(_reduction(loss), loss.delta),
    nn.SmoothL1Loss: _smooth,
    nn.PoissonNLLLoss: _poisson,
    nn.GaussianNLLLoss: lambda loss: _gaussian(loss, 1.0),
}


#: The kinds of losses by name.
LOSSES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (MeanSquaredError, CrossEntropy, BinaryCrossEntropy, Huber, Poisson, Gaussian, General)
}


def _reduction(loss: Any) -> Any:
    return loss.reduction


def _per_output(value: Tensor | None, name: str) -> float | tuple[float, ...] | None:
    """One number for all outputs, or one for each."""
    if value is None:
        return None
    if value.numel() == 1:
        return float(value)
    if value.ndim != 1:
        raise InputError(
            f"{name} has shape {tuple(value.shape)}; expected one number, or one for each output: weights of single "
            "rows are not those of a batch."
        )
    return tuple(value.double().tolist())

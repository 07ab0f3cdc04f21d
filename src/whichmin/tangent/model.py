"""A model as a function of its trainable parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters with ``requires_grad``, by name; a shared one appears once.

    Raises:
        ModelError: there is none, or one is complex.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, p in parameters.items():
        if p.is_complex():
            raise ModelError(
                f"parameter {name!r} is {p.dtype}: tangent kernels are those of real parameters. Store its real and "
                "imaginary parts, (…, 2), and use torch.view_as_complex in forward."
            )
    if not parameters:
        raise ModelError(
            "the model has no trainable parameters (none, or all have requires_grad=False): its tangent kernel is "
            "zero. Unfreeze some with parameter.requires_grad_()."
        )
    return parameters


def evaluate(
    model: Callable[[Tensor], Tensor],
    X: Tensor,
    call: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor] | None = None,
) -> Tensor:
    """f(X), (N, C), with an error that says what the model was given where it fails.

    Args:
        model: the network.
        X: the inputs, (N, …).
        call: calls it on a copy of them; None for nothing but the call.

    Raises:
        ModelError: the model fails on X, or returns something that is not (N,) or (N, C).
    """
    try:
        inputs = X.clone()  # a model may write into its inputs
        out = model(inputs) if call is None else call(model, inputs)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
        types = "" if first is None else f" The parameters are {first.dtype} on {first.device}."
        integer = "" if X.is_floating_point() else " Integer inputs suit an embedding; otherwise pass X.float()."
        if first is not None and X.is_floating_point() and X.dtype != first.dtype:
            integer = f" Convert one to the other: X.to({first.dtype}), or model.to({X.dtype})."
        raise ModelError(
            f"the model fails on inputs of shape {tuple(X.shape)}, {X.dtype} on {X.device}: {error}.{types}{integer}"
        ) from error
    if not isinstance(out, Tensor) or out.ndim not in (1, 2) or len(out) != len(X):
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ModelError(
            f"the model returned {got} for {len(X)} inputs; expected (N,) or (N, C): flatten or pick the output."
        )
    if not out.is_floating_point():
        raise ModelError(f"the model returned {out.dtype}; expected floating-point outputs (no argmax, no complex).")
    return out.reshape(len(X), -1)


def finite(out: Tensor, name: str) -> Tensor:
    """``out`` itself, checked.

    Raises:
        ModelError: it holds NaN or infinity; names the first such row.
    """
    if not math.isfinite(float(out.detach().abs().max())):
        row = int((~torch.isfinite(out)).reshape(len(out), -1).any(1).nonzero()[0, 0])
        raise ModelError(
            f"the model's output is not finite on {name}, first in row {row}: check its parameters and scale."
        )
    return out

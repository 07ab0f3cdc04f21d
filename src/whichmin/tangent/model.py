"""A model as a function of its trainable parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError, WhichminError
from whichmin.inputs import AnyInputs, accepted, called, described, named_tensors

#: Gradients of up to so many roundings of those of all parameters together are rounding themselves.
GRADIENT_ROUNDING = 1e3


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


def forward(model: Callable[..., Any], X: AnyInputs) -> Tensor:
    """f(X) as it is trained and followed: the output that is meant, (n, …) flattened to (n, C)."""
    return called(model, X.clone()).reshape(len(X), -1)  # a model may write into its inputs


def evaluate(
    model: Callable[..., Any],
    X: AnyInputs,
    call: Callable[[Callable[..., Any], AnyInputs], Any] | None = None,
) -> Tensor:
    """f(X), (n, C), with an error that says what the model was given where it fails.

    Args:
        model: the network, or a function of the same arguments.
        X: the inputs, (n, …).
        call: calls it on a copy of them; None for nothing but the call.

    Raises:
        ModelError: the model fails on X, or returns something that is not (n,) or (n, …).
    """
    try:
        inputs = X.clone()  # a model may write into its inputs
        out = called(model, inputs) if call is None else call(model, inputs)
    except WhichminError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise ModelError(f"the model fails on inputs {_given(X)}: {error}.{_advice(model, X, error)}") from error
    if out.ndim == 0 or len(out) != len(X):
        raise ModelError(
            f"the model returned {tuple(out.shape)} for {len(X)} inputs; expected ({len(X)}, …), a row of outputs for "
            "each: leave out what reduces over rows, or pick another output."
        )
    if not out.is_floating_point():
        raise ModelError(f"the model returned {out.dtype}; expected floating-point outputs (no argmax, no complex).")
    return out.reshape(len(X), -1)


def _given(X: AnyInputs) -> str:
    return f"of shape {described(X)}" if isinstance(X, Tensor) else described(X)


def _advice(model: Callable[..., Any], X: AnyInputs, error: Exception) -> str:
    """What to look at where a model fails: its arguments, or the type and the place of its parameters."""
    if isinstance(error, TypeError) and not isinstance(X, Tensor):
        return accepted(model)
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    types = "" if first is None else f" The parameters are {first.dtype} on {first.device}."
    floating = [(label, t) for label, t in named_tensors(X, "X").items() if t.is_floating_point()]
    for label, t in floating:
        if first is not None and t.dtype != first.dtype:
            return f"{types} Convert one to the other: {label}.to({first.dtype}), or model.to({t.dtype})."
    if floating:
        tokens = f" Tokens are whole numbers: {floating[0][0]}.long()." if "'indices'" in str(error) else ""
        return types + tokens
    narrow = [label for label, t in named_tensors(X, "X").items() if t.dtype not in (torch.int32, torch.int64)]
    if narrow:
        return f"{types} An embedding takes {narrow[0]}.long(); other layers take {narrow[0]}.float()."
    if isinstance(error, IndexError):
        sizes = ", ".join(
            f"{label} from {int(t.min())} to {int(t.max())}" for label, t in named_tensors(X, "X").items()
        )
        return f"{types} An embedding has fewer entries than the numbers ask for: {sizes}."
    return f"{types} Integer inputs suit an embedding; otherwise pass X.float()."


def are_alike(one: Tensor, other: Tensor, eps: float, whole: float) -> bool:
    """Whether two gradients of a parameter are the same but for rounding.

    That is relative to their size, and to that of all parameters: a gradient may be zero but for rounding, as that of a
    bias of the keys in attention.

    Args:
        one: a gradient.
        other: another, of its shape.
        eps: the rounding unit that the network computes in.
        whole: the norm of the gradients of all parameters together.
    """
    slack = eps**0.5 * max(float(one.norm()), float(other.norm())) + GRADIENT_ROUNDING * eps * whole
    return float((one - other).norm()) <= slack


def finite(out: Tensor, name: str) -> Tensor:
    """``out`` itself, checked.

    Raises:
        ModelError: it holds NaN or infinity; names the first such row.
    """
    if not math.isfinite(float(out.detach().sum())) and not bool(torch.isfinite(out).all()):  # sums may overflow
        row = int((~torch.isfinite(out)).reshape(len(out), -1).any(1).nonzero()[0, 0])
        raise ModelError(
            f"the model's output is not finite on {name}, first in row {row}: check its parameters and scale."
        )
    return out

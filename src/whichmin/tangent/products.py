"""Matrix products in single precision on CPUs, by whichever of torch's libraries is faster.

Torch's matrix products on x86 go to MKL, whose float32 kernels are slow on other makers' processors than Intel's. There
oneDNN, which torch brings along for convolutions and compiled models, picks its kernels by what the processor can do;
on Intel's it takes a tenth to a half longer than MKL. The results agree to rounding.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Products of fewer multiplications than this gain nothing.
SMALLEST = 2**21


def product(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Input·weightᵀ (+ bias), as ``F.linear``, (m, k)·(k, n) → (m, n); differentiable as often as one likes."""
    if not _gains(input, weight):
        return F.linear(input, weight, bias)
    if not (weight.requires_grad and torch.is_grad_enabled()):
        return _Product.apply(input, weight, bias, None)
    later = _Later(weight)
    return _Product.apply(input, _Weight.apply(weight, later), bias, later)


def product_into(out: Tensor, input: Tensor, weight: Tensor) -> None:
    """Write input·weightᵀ, (m, k)·(k, n), into a matrix (m, n), or a part of one; without derivatives."""
    with torch.no_grad():
        if _gains(input, weight):
            out.copy_(product(input, weight))
        else:
            torch.mm(input, weight.t(), out=out)


def _gains(x: Tensor, w: Tensor) -> bool:
    return (
        x.ndim == w.ndim == 2
        and x.dtype == w.dtype == torch.float32
        and x.device.type == w.device.type == "cpu"
        and x.shape[0] * w.numel() >= SMALLEST
        and min(w.shape) >= 16
        and not torch.is_autocast_enabled("cpu")
        and _available()
    )


def _available() -> bool:
    is_there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return is_there and not (torch.backends.mkl.is_available() and _is_by_intel())


@cache
def _is_by_intel() -> bool:
    """Whether the processor is by the maker of MKL, as far as the operating system tells."""
    about = Path("/proc/cpuinfo")
    try:
        return "GenuineIntel" in (about.read_text() if about.exists() else platform.processor())
    except OSError:
        return False


class _Product(torch.autograd.Function):
    """``F.linear`` by oneDNN.

    Autograd asks a function of Python for all its gradients or none. That of the weight costs as much as the product
    itself and is seldom wanted, so that it is left to a node of its own, :class:`_Weight`, which autograd then skips.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, later: _Later | None) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.later = later
        return torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (g,), (x, w) = gradients, ctx.saved_tensors
        if ctx.later is not None:
            ctx.later.pair = (g, x)
            if torch.is_grad_enabled():  # for derivatives of this one, which know nothing of what is left for later
                w = ctx.later.weight
        return (
            product(g, w.t()) if ctx.needs_input_grad[0] else None,
            g.new_empty(()).expand(w.shape) if ctx.later is not None else None,  # nobody reads it
            g.sum(0) if ctx.needs_input_grad[2] else None,
            None,
        )


class _Later:
    """What the gradient of a weight will be made of."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.pair: tuple[Tensor, Tensor]


class _Weight(torch.autograd.Function):
    """The weight as it enters a :class:`_Product`."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, later: _Later) -> Tensor:
        ctx.later = later
        return w.view_as(w)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, None]:
        g, x = ctx.later.pair
        return product(g.t(), x.t()), None

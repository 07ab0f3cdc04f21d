"""Matrix products in single precision on CPUs, by whichever of torch's libraries is faster.

Torch's matrix products on x86 go to MKL, whose float32 kernels are slow on other makers' processors. oneDNN, which
torch brings along for convolutions and compiled models, picks its kernels by what the processor can do. The results
agree to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: Products of fewer multiplications than this gain nothing.
SMALLEST = 2**21


def product(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Input·weightᵀ (+ bias), as ``F.linear``, (m, k)·(k, n) → (m, n); differentiable as often as one likes."""
    return _Product.apply(input, weight, bias) if _gains(input, weight) else F.linear(input, weight, bias)


def _gains(x: Tensor, w: Tensor) -> bool:
    return (
        x.ndim == w.ndim == 2
        and x.dtype == w.dtype == torch.float32
        and x.device.type == w.device.type == "cpu"
        and x.shape[0] * w.numel() >= SMALLEST
        and min(x.shape[0], *w.shape) >= 16
        and _available()
    )


def _available() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class _Product(torch.autograd.Function):
    """``F.linear`` by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        return torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (g,), (x, w) = gradients, ctx.saved_tensors
        return (
            product(g, w.t()) if ctx.needs_input_grad[0] else None,
            product(g.t(), x.t()) if ctx.needs_input_grad[1] else None,
            g.sum(0) if ctx.needs_input_grad[2] else None,
        )

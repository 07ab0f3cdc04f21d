"""Convolutions over one, two or three axes, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from whichmin.tangent.layers.base import Factor, Layer, Part, Recognizer
from whichmin.tangent.layers.bias import Bias
from whichmin.tangent.layers.dense import Dense

#: A window of so many times more weights than there are positions is better multiplied by than convolved with: measured
#: on one thread, 16 rows: 576 weights and 64 positions 4.6 ms against 5.3, 1152 and 16 6 ms against 29, 288 and 256 4.6
#: against 3.5, 144 and 1024 10.6 against 4.9.
WIDE = 4
#: Bytes that the gradients of one call may take: what a cache holds (64 channels of 14 × 14, 1,000 rows, 64 weights an
#: entry: 41 gigaflops at once, 68 in parts).
CALL_BYTES = 2**22


@dataclass(frozen=True)
class Convolution(Layer):
    """A window of weights, (out, in/groups, *window), with the settings of ``F.conv2d``, one for each axis.

    Attributes:
        output_padding: that of a transposed convolution, whose weights are (in, out/groups, *window); None for others.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    output_padding: tuple[int, ...] | None = None

    @classmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """``F.conv1d``, ``F.conv_transpose1d`` and those of more axes."""
        plain = {f: partial(_recognize, d) for f, d in ((F.conv1d, 1), (F.conv2d, 2), (F.conv3d, 3))}
        transposes = ((F.conv_transpose1d, 1), (F.conv_transpose2d, 2), (F.conv_transpose3d, 3))
        return {**plain, **{f: partial(_recognize_transposed, d) for f, d in transposes}}

    takes_positions = False

    def positions(self, shape: tuple[int, ...], parameter: tuple[int, ...]) -> int:
        """The first axis."""
        return 1

    def gradient(self, factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
        """Σ_t G_cot A_i(t + window), by products with the windows of the input or by a convolution of all rows."""
        unfolded = self.unfolded(factor, shape)
        if unfolded is not factor:
            inner = math.prod(shape[1:])
            made = unfolded.use.layer.gradient(unfolded, (shape[0], inner), lo, hi)
            return made.view(*made.shape[:2], hi - lo, *shape[1:])
        whole = self.output_padding is not None or self.groups > 1 or (lo == 0 and hi == shape[0])
        if whole:
            return self._by_groups(factor.input, factor.gradient, shape)[:, :, lo:hi]
        return self._by_groups(factor.input, factor.gradient[:, :, lo:hi], (hi - lo, *shape[1:]))

    def pull(self, factor: Factor, shape: tuple[int, ...], c: Tensor) -> Tensor:
        """That of a usual backward pass."""
        g = torch.einsum("nc,cn...->n...", c.to(factor.gradient), factor.gradient)
        return self._backward(g, factor.input, g.new_empty(()).expand(shape), self.groups)

    def unfolded(self, factor: Factor, shape: tuple[int, ...]) -> Factor:
        """A dense layer that meets every window, where windows are wide."""
        g = factor.gradient.flatten(3)
        plain = len(shape) == 4 and self.groups == 1 and self.output_padding is None
        if not plain or math.prod(shape[1:]) < WIDE * g.shape[3]:
            return factor
        windows = F.unfold(factor.input, shape[2:], self.dilation, self.padding, self.stride).transpose(1, 2)
        gradient = g.transpose(2, 3)
        use = replace(
            factor.use, layer=Dense(), input=windows, shape=tuple(gradient.shape[1:]), version=windows._version
        )
        return Factor(use, gradient)

    def _by_groups(self, x: Tensor, g: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A convolution for each output and each few rows, which are its groups of channels."""
        C, n = g.shape[:2]
        out, empty = g.new_empty((C, n, *shape)), g.new_empty(())
        most = max(1, CALL_BYTES // (math.prod(shape) * out.element_size()))
        for c, lo in product(range(C), range(0, n, most)):
            hi = min(lo + most, n)
            G, A = (t[lo:hi].reshape(1, -1, *t.shape[2:]) for t in (g[c], x))
            like = empty.expand((hi - lo) * shape[0], *shape[1:])
            made = self._backward(G, A, like, (hi - lo) * self.groups)
            out[c, lo:hi] = made.view(hi - lo, *shape)
        return out

    def _backward(self, g: Tensor, x: Tensor, like: Tensor, groups: int) -> Tensor:
        """The gradient of weights like these, of so many groups, from that of what they returned on x."""
        more = list(self.output_padding or [0] * (like.ndim - 2))
        settings = (list(self.stride), list(self.padding), list(self.dilation), self.output_padding is not None, more)
        wanted = [False, True, False]
        return torch.ops.aten.convolution_backward(g, x, like, None, *settings, groups, wanted)[1]


def _recognize(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> list[Part] | None:
    if input.ndim != dims + 2:
        return None
    stride, dilation = _each(stride, dims), _each(dilation, dims)
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(t % 2 for t in total):
            return None
        padding = [t // 2 for t in total]
    parts = [Part(weight, Convolution(stride, _each(padding, dims), dilation, groups), input)]
    return parts if bias is None else [*parts, Part(bias, Bias("channels"))]


def _recognize_transposed(
    dims: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> list[Part] | None:
    if input.ndim != dims + 2:
        return None
    each = [_each(value, dims) for value in (stride, padding, dilation)]
    layer = Convolution(each[0], each[1], each[2], groups, _each(output_padding, dims))
    parts = [Part(weight, layer, input)]
    return parts if bias is None else [*parts, Part(bias, Bias("channels"))]


def _each(value: Any, dims: int) -> tuple[int, ...]:
    """One value for each axis."""
    return (int(value),) * dims if isinstance(value, int) else (tuple(int(v) for v in value) * dims)[:dims]

"""Convolutions over one, two or three axes, and their transposes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from whichmin.tangent.layers.base import Factor, Layer, Part, Recognizer
from whichmin.tangent.layers.bias import Bias


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
        """One weight gradient per example, each by the library's own convolution kernels."""
        x, g = factor.input, factor.gradient
        transposed = self.output_padding is not None
        whole = transposed or self.groups > 1 or (lo == 0 and hi == shape[0])
        if not whole:
            g = g[:, :, lo:hi]
        like = g.new_empty(()).expand(shape if whole else (hi - lo, *shape[1:]))
        more = list(self.output_padding or [0] * (len(shape) - 2))
        settings = (list(self.stride), list(self.padding), list(self.dilation), transposed, more, self.groups)
        out = g.new_empty((*g.shape[:2], *like.shape))
        for i in range(g.shape[1]):
            row = x[i : i + 1]
            for c in range(g.shape[0]):
                out[c, i] = torch.ops.aten.convolution_backward(
                    g[c, i : i + 1], row, like, None, *settings, [False, True, False]
                )[1]
        return out[:, :, lo:hi] if whole else out


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

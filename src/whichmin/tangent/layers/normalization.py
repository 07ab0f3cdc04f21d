"""Normalizations: a gain that multiplies the normalized input, and a shift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from whichmin.tangent.layers.base import Part, Recognizer
from whichmin.tangent.layers.bias import Axes, Bias
from whichmin.tangent.layers.gain import Gain


@dataclass(frozen=True)
class Normalization(Gain):
    """The gain of a normalization, which multiplies the normalized input."""

    @classmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """Of layers, groups of channels, and batches with the statistics that were measured before."""
        return {F.layer_norm: _layer_norm, F.group_norm: _group_norm, F.batch_norm: _batch_norm}


def _affine(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, axes: Axes, normalize: Callable[[Tensor], Tensor]
) -> list[Part]:
    parts = [] if weight is None else [Part(weight, Normalization(axes, normalize), x)]
    return parts if bias is None else [*parts, Part(bias, Bias(axes))]


def _layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> list[Part]:
    shape = tuple(normalized_shape)
    return _affine(input, weight, bias, "trailing", lambda x: F.layer_norm(x, shape, None, None, eps))


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> list[Part]:
    return _affine(input, weight, bias, "channels", lambda x: F.group_norm(x, num_groups, None, None, eps))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> list[Part] | None:
    if training:
        return None

    def normalize(x: Tensor) -> Tensor:
        return F.batch_norm(x, running_mean, running_var, None, None, False, 0.0, eps)

    return _affine(input, weight, bias, "channels", normalize)

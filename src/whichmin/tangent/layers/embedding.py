"""Embeddings: rows of a table that are looked up by number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from whichmin.tangent.layers.base import Factor, Layer, Part, Recognizer


@dataclass(frozen=True)
class Embedding(Layer):
    """A table.

    Attributes:
        padding_idx: the row that gets no gradient; None for none.
    """

    padding_idx: int | None

    @classmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """``F.embedding``."""
        return {F.embedding: _recognize}

    def positions(self, shape: tuple[int, ...], parameter: tuple[int, ...]) -> int:
        """All axes of the numbers that are looked up."""
        return len(shape) - len(parameter) + 1

    def gradient(self, factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
        """G of each token, added to the row that was looked up."""
        index, g = factor.input, factor.gradient
        C, n = g.shape[:2]
        index = index.reshape(n, -1)
        g = g.reshape(C, n, index.shape[1], *shape[1:])
        inside = (index >= lo) & (index < hi)
        if self.padding_idx is not None:
            inside &= index != self.padding_idx
        row, token = inside.nonzero(as_tuple=True)
        out = g.new_zeros((C, n * (hi - lo), *shape[1:]))
        out.index_add_(1, row * (hi - lo) + index[row, token] - lo, g[:, row, token])
        return out.view(C, n, hi - lo, *shape[1:])

    def pull(self, factor: Factor, shape: tuple[int, ...], c: Tensor) -> Tensor:
        """The tokens of all rows as those of one."""
        g = torch.einsum("nc,cn...->n...", c.to(factor.gradient), factor.gradient)
        index = factor.input.reshape(1, -1)
        g = g.reshape(1, 1, index.shape[1], *shape[1:])
        use = replace(factor.use, input=index, shape=tuple(g.shape[1:]), version=index._version)
        return self.gradient(Factor(use, g), shape, 0, shape[0])[0, 0]


def _recognize(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> list[Part] | None:
    if max_norm is not None or scale_grad_by_freq or sparse:
        return None
    if padding_idx is not None and padding_idx < 0:
        padding_idx += len(weight)
    return [Part(weight, Embedding(padding_idx), input)]

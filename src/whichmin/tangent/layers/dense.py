"""Dense layers: a row times a matrix.

With A the inputs of a call and G the gradients of the network's outputs at its output, the part of the kernel is
(A Aᵀ)∘(G Gᵀ), never forming a Jacobian; where tokens make that dearer than gradients of the weight, these are formed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from whichmin.tangent.layers.base import Factor, Layer, Part, Recognizer
from whichmin.tangent.layers.bias import Bias
from whichmin.tangent.layers.grams import Grams
from whichmin.tangent.layers.matrix_products import MatrixProducts
from whichmin.tangent.products import product


@dataclass(frozen=True)
class Dense(Layer):
    """A weight.

    Attributes:
        flipped: whether it is stored as (in, out) rather than (out, in).
    """

    flipped: bool = False

    @classmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """``F.linear``, and matrix products with a matrix from the right, with a bias or without."""
        products = [torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__]
        sums = dict.fromkeys([torch.addmm, Tensor.addmm], _addmm)
        return {F.linear: _linear, **sums, **dict.fromkeys(products, _matmul)}

    def transposed(self) -> Dense:
        """x·W for x·Wᵀ."""
        return Dense(not self.flipped)

    def gradient(self, factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
        """Σ_t G_cit A_itᵀ over tokens t."""
        A, G = _tokens(factor)
        if self.flipped:
            return A[None, :, :, lo:hi].transpose(2, 3) @ G
        return G[..., lo:hi].transpose(2, 3) @ A

    def has_gram(self, left: Factor, right: Factor, budget: int) -> bool:
        """Where pairs of tokens take fewer multiplications than gradients."""
        if not isinstance(right.use.layer, Dense):
            return False
        (A, G), (B, _) = _tokens(left), _tokens(right)
        C, n1, T, out = G.shape
        n2, S, inner = B.shape
        pairs = n1 * n2 * T * S * (inner + C * C * out)
        formed = C * (n1 * T + n2 * S) * inner * out + C * C * n1 * n2 * inner * out
        fits = T == S == 1 or 2 * C * C * n1 * n2 * T * S * A.element_size() <= budget
        return fits and pairs <= formed

    def add_gram(self, K: Tensor, left: Factor, right: Factor, weight: float, grams: Grams) -> None:
        """(A Bᵀ)∘(G Hᵀ), summed over pairs of tokens."""
        (A, G), (B, H) = _tokens(left), _tokens(right)
        C, n1, T, _ = G.shape
        n2, S, _ = B.shape
        other = right.use.layer
        assert isinstance(other, Dense)
        if self.flipped == other.flipped:
            gradients = grams(left.gradient, right.gradient).view(C, n1 * T, C, n2 * S)
            pairs = gradients * grams(left.input, right.input).view(1, n1 * T, 1, n2 * S)
        else:  # one stores (out, in), the other (in, out): inputs meet gradients
            first = (G.reshape(C * n1 * T, -1) @ B.reshape(n2 * S, -1).T).view(C, n1 * T, 1, n2 * S)
            second = (A.reshape(n1 * T, -1) @ H.reshape(C * n2 * S, -1).T).view(1, n1 * T, C, n2 * S)
            pairs = first * second
        if T > 1 or S > 1:
            pairs = pairs.reshape(C, n1, T, C, n2, S).sum((2, 5))
        K.view(C, n1, C, n2).add_(pairs.reshape(C, n1, C, n2), alpha=weight)

    def products(self, factor: Factor, columns: Tensor | None = None) -> MatrixProducts | None:
        """Where it meets every row once."""
        if factor.gradient.ndim != 3:
            return None
        assert columns is None or not self.flipped
        x = factor.input if columns is None else factor.input[:, columns]
        return _Products(factor.gradient, x, self.flipped)


class _Products(MatrixProducts):
    """With A, (n, in), the inputs."""

    def __init__(self, gradient: Tensor, input: Tensor, flipped: bool) -> None:
        super().__init__(gradient)
        self._input, self._flipped = input, flipped

    def addend(self, value: Tensor, rows: Tensor | None = None) -> Tensor:
        x = self._input if rows is None else self._input[rows]
        return product(x, value.T if self._flipped else value)

    def _sum(self, step: Tensor, rows: Tensor | None, keep: bool) -> Tensor:
        x = self._input_across if keep else (self._input if rows is None else self._input[rows]).T
        return product(x, step) if self._flipped else product(step, x)

    @cached_property
    def _input_across(self) -> Tensor:
        """Aᵀ, (in, n)."""
        return self._input.T.contiguous()


def _tokens(factor: Factor) -> tuple[Tensor, Tensor]:
    """The input (n, T, in) and the gradient (C, n, T, out), their middle axes flattened into T."""
    x, g = factor.input, factor.gradient
    return x.reshape(len(x), -1, x.shape[-1]), g.reshape(*g.shape[:2], -1, g.shape[-1])


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> list[Part]:
    parts = [Part(weight, Dense(), input)]
    return parts if bias is None else [*parts, Part(bias, Bias("last"))]


def _addmm(bias: Tensor, mat1: Tensor, mat2: Tensor, **scales: Any) -> list[Part] | None:
    if scales or bias.ndim != 1:
        return None
    return [Part(bias, Bias("last")), Part(mat2, Dense(flipped=True), mat1)]


def _matmul(input: Tensor, other: Tensor) -> list[Part] | None:
    return [Part(other, Dense(flipped=True), input)] if other.ndim == 2 and input.ndim >= 2 else None

"""Dense layers: a row times a matrix.

With A the inputs of a call and G the gradients of the network's outputs at its output, the part of the kernel is
(A Aᵀ)∘(G Gᵀ), never forming a Jacobian; where tokens make that dearer than gradients of the weight, these are formed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
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

#: Multiplications of pairs of tokens, in many small products, take so many times those of one large product.
SLOWER = 3
#: Entries of an intermediate result of pairs of tokens.
AT_ONCE = 2**21


@dataclass(frozen=True)
class Dense(Layer):
    """A weight.

    Attributes:
        flipped: whether it is stored as (in, out) rather than (out, in).
        entry: which matrix of a parameter with three axes it is, such as the weights of experts; None for the whole.
    """

    flipped: bool = False
    entry: int | None = None

    takes_entries = True

    @classmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """``F.linear``, and matrix products with a matrix from the right, with a bias or without."""
        products = [torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__]
        sums = dict.fromkeys([torch.addmm, Tensor.addmm], _addmm)
        return {F.linear: _linear, **sums, **dict.fromkeys(products, _matmul)}

    def transposed(self) -> Dense:
        """x·W for x·Wᵀ."""
        return replace(self, flipped=not self.flipped)

    def of_entry(self, entry: int) -> Dense:
        """One matrix of a parameter with three axes."""
        return replace(self, entry=entry)

    def gradient(self, factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
        """Σ_t G_cit A_itᵀ over tokens t."""
        A, G = _tokens(factor)
        if self.entry is not None:
            whole = G.new_zeros((*G.shape[:2], hi - lo, *shape[1:]))
            if lo <= self.entry < hi:
                whole[:, :, self.entry - lo] = replace(self, entry=None).gradient(factor, shape[1:], 0, shape[1])
            return whole
        first, second = (A[..., lo:hi], G) if self.flipped else (G[..., lo:hi], A)
        out = G.new_empty((*G.shape[:2], hi - lo, second.shape[-1]))
        for c in range(len(G)):
            one, other = (first, second[c]) if self.flipped else (first[c], second)
            torch.bmm(one.transpose(1, 2), other, out=out[c])
        return out

    def pull(self, factor: Factor, shape: tuple[int, ...], c: Tensor) -> Tensor:
        """The tokens of all rows as those of one."""
        A, G = _tokens(factor)
        g = torch.einsum("nc,cnto->nto", c.to(G), G)
        merged = A.reshape(1, -1, A.shape[-1]), g.reshape(1, 1, -1, g.shape[-1])
        use = replace(factor.use, input=merged[0], shape=tuple(merged[1].shape[1:]), version=merged[0]._version)
        return self.gradient(Factor(use, merged[1]), shape, 0, shape[0])[0, 0]

    def has_gram(self, left: Factor, right: Factor) -> bool:
        """Where pairs of tokens are cheaper than gradients, by multiplications; among tokens these are slower ones."""
        other = right.use.layer
        if not isinstance(other, Dense) or self.entry is not None or other.entry is not None:
            return False
        G, B = _tokens(left)[1], _tokens(right)[0]
        C, n1, T, out = G.shape
        n2, S, inner = B.shape
        formed = C * (n1 * T + n2 * S) * inner * out + C * C * n1 * n2 * inner * out
        if T == S == 1:
            return n1 * n2 * (inner + C * C * out) <= formed
        pairs = n1 * n2 * (T * S * (inner + C * out) + C * C * S * out)
        return self.flipped == other.flipped and SLOWER * pairs <= formed

    def add_gram(self, K: Tensor, left: Factor, right: Factor, weight: float, grams: Grams) -> None:
        """(A Bᵀ)∘(G Hᵀ), summed over pairs of tokens."""
        (A, G), (B, H) = _tokens(left), _tokens(right)
        C, n1, T, _ = G.shape
        n2, S, _ = B.shape
        other = right.use.layer
        assert isinstance(other, Dense)
        if T > 1 or S > 1:
            _add_tokens(K.view(C, n1, C, n2), (A, G), (B, H), weight, left is right)
            return
        if self.flipped == other.flipped:
            first = grams(left.gradient, right.gradient).view(C, n1, C, n2)
            second = grams(left.input, right.input).view(1, n1, 1, n2)
        else:  # one stores (out, in), the other (in, out): inputs meet gradients
            first = (G.reshape(C * n1, -1) @ B.reshape(n2, -1).T).view(C, n1, 1, n2)
            second = (A.reshape(n1, -1) @ H.reshape(C * n2, -1).T).view(1, n1, C, n2)
        K.view(C, n1, C, n2).addcmul_(first, second, value=weight)

    def products(self, factor: Factor, columns: Tensor | None = None) -> MatrixProducts | None:
        """Where it meets every row once."""
        if factor.gradient.ndim != 3 or self.entry is not None:
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


def _add_tokens(
    K: Tensor, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], weight: float, same: bool
) -> None:
    """Add Σ_ts (A_it·B_js)(G_cit·H_djs) to K, (C, n₁, C, n₂), some rows at once; of the same rows half and its mirror.

    With M = A Bᵀ first Σ_t M_itjs G_cit, then its products with H: T·S·(in + C·out) + C²·S·out multiplications a pair.
    """
    (A, G), (B, H) = left, right
    C, n1, T, out = G.shape
    n2, S, inner = B.shape
    H = H.permute(1, 2, 3, 0).reshape(n2, S * out, C)
    step = max(1, AT_ONCE // (n2 * S * max(T, out)))
    for i in range(0, n1, step):
        end, lo = min(i + step, n1), i if same else 0
        b, m = end - i, n2 - lo
        M = product(B[lo:].reshape(m * S, inner), A[i:end].reshape(b * T, inner)).view(m * S, b, T).transpose(0, 1)
        for c in range(C):
            met = torch.bmm(M, G[c, i:end]).view(b, m, S * out).transpose(0, 1)
            part = torch.bmm(met, H[lo:]).permute(1, 2, 0).mul_(weight)  # (b, C, m)
            K[c, i:end, :, lo:] += part
            if same:
                K[:, end:, c, i:end] += part[..., b:].permute(1, 2, 0)


def _tokens(factor: Factor) -> tuple[Tensor, Tensor]:
    """The input (n, T, in) and the gradient (C, n, T, out), their middle axes flattened into T."""
    x, g = factor.input, factor.gradient
    T, S = math.prod(x.shape[1:-1]), math.prod(g.shape[2:-1])
    return x.reshape(len(x), T, x.shape[-1]), g.reshape(*g.shape[:2], S, g.shape[-1])


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> list[Part]:
    parts = [Part(weight, Dense(), input)]
    return parts if bias is None else [*parts, Part(bias, Bias("last"))]


def _addmm(bias: Tensor, mat1: Tensor, mat2: Tensor, **scales: Any) -> list[Part] | None:
    if scales or bias.ndim != 1:
        return None
    return [Part(bias, Bias("last")), Part(mat2, Dense(flipped=True), mat1)]


def _matmul(input: Tensor, other: Tensor) -> list[Part] | None:
    return [Part(other, Dense(flipped=True), input)] if other.ndim == 2 and input.ndim >= 2 else None

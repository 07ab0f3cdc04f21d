"""From the uses of a parameter to its part of the tangent kernel.

With A the inputs of a parameter's calls and G the gradients of the network's outputs at the calls' outputs, the part of
a dense layer is (A Aᵀ)∘(G Gᵀ), never forming a Jacobian; where tokens, pixels or a metric make that dearer, the
per-example gradients of this one parameter are formed, in slices, and multiplied. Rows are ordered output-major:
a matrix of the kernel is (C·n₁, C·n₂).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whichmin.tangent.capture import Use
from whichmin.tangent.products import product

#: Bytes that one slice of per-example gradients may take.
SLICE_BYTES = 2**28
#: Products of rows with themselves that take more multiplications than this are made by half.
LARGE_GRAM = 2**27


@dataclass(frozen=True, eq=False)
class Factor:
    """A use together with the gradients at its output.

    Attributes:
        use: the call.
        gradient: ∂f_c/∂output, (C, n, …).
    """

    use: Use
    gradient: Tensor

    @property
    def is_dense(self) -> bool:
        """Whether this is a dense layer's weight."""
        return self.use.kind == "linear"

    @property
    def is_plain_bias(self) -> bool:
        """Whether this is a bias that met every row once."""
        return self.use.kind == "sum" and self.gradient.ndim == 3 and (self.use.options or {})["axis"] == -1

    @property
    def flipped(self) -> bool:
        """Whether the parameter is stored as (in, out) rather than (out, in)."""
        right = bool(self.use.options and self.use.options.get("right"))
        return self.use.transposed != right

    def tokens(self) -> tuple[Tensor, Tensor]:
        """A dense layer's input (n, T, in) and gradient (C, n, T, out), the middle axes flattened into T."""
        x = self.use.input
        assert x is not None
        g = self.gradient
        return x.reshape(len(x), -1, x.shape[-1]), g.reshape(*g.shape[:2], -1, g.shape[-1])


class Grams:
    """Products A·Bᵀ of rows, each made once: a dense layer's weight and bias have the same gradients."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def know(self, a: Tensor, b: Tensor, gram: Tensor) -> None:
        """Take A·Bᵀ as given."""
        self._made[id(a), id(b)] = (gram, a, b)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """A·Bᵀ, (m, n), of the last axes of ``a`` and ``b``, the others flattened; not to be written into."""
        key = (id(a), id(b))
        if key not in self._made:
            left = a.reshape(-1, a.shape[-1])
            gram = _symmetric(left) if a is b else product(left, b.reshape(-1, b.shape[-1]))
            self._made[key] = (gram, a, b)
        return self._made[key][0]


def _symmetric(a: Tensor) -> Tensor:
    """A·Aᵀ, (m, m); a large one by its lower half."""
    m, width = a.shape
    half = m // 2
    if m * m * width < LARGE_GRAM:
        return product(a, a)
    K = a.new_empty((m, m))
    K[:half, :half] = product(a[:half], a[:half])
    K[half:] = product(a[half:], a)
    K[:half, half:] = K[half:, :half].T
    return K


def add_part(
    K: Tensor,
    left: Sequence[Factor],
    right: Sequence[Factor],
    shape: tuple[int, ...],
    weight: Tensor | float,
    grams: Grams,
) -> None:
    """Add the part of one parameter, used in ``left`` and ``right``, to K of shape (C·n₁, C·n₂).

    Args:
        K: added to in place.
        left: the parameter's uses on the first inputs.
        right: on the second; the same object where the inputs are the same.
        shape: the parameter's.
        weight: its metric: a number, or positive weights of the parameter's shape.
        grams: the products that the parameters of this kernel share.
    """
    if not isinstance(weight, Tensor):
        if all(f.is_dense for f in left) and _pairwise_is_cheaper(left[0], right[0]):
            for u in left:
                for v in right:
                    _add_pair(K, u, v, weight, grams)
            return
        if all(f.is_plain_bias for f in (*left, *right)):
            for u in left:
                for v in right:
                    K.add_(grams(u.gradient, v.gradient), alpha=weight)
            return
    for lo, hi in _slices(left, right, shape):
        P = _gradients(left, shape, lo, hi)
        Q = P if right is left else _gradients(right, shape, lo, hi)
        if not isinstance(weight, Tensor):
            K.addmm_(P, Q.T, alpha=weight)
        else:
            K.addmm_(P * weight[lo:hi].reshape(1, -1), Q.T)


def _pairwise_is_cheaper(u: Factor, v: Factor) -> bool:
    (A, G), (B, _) = u.tokens(), v.tokens()
    C, n1, T, out = G.shape
    n2, S, inner = B.shape
    pairs = n1 * n2 * T * S * (inner + C * C * out)
    formed = C * (n1 * T + n2 * S) * inner * out + C * C * n1 * n2 * inner * out
    fits = T == S == 1 or 2 * C * C * n1 * n2 * T * S * A.element_size() <= SLICE_BYTES
    return fits and pairs <= formed


def _add_pair(K: Tensor, u: Factor, v: Factor, weight: float, grams: Grams) -> None:
    (A, G), (B, H) = u.tokens(), v.tokens()
    C, n1, T, _ = G.shape
    n2, S, _ = B.shape
    if u.flipped == v.flipped:
        gradients = grams(u.gradient, v.gradient).view(C, n1 * T, C, n2 * S)
        assert u.use.input is not None
        assert v.use.input is not None
        pairs = gradients * grams(u.use.input, v.use.input).view(1, n1 * T, 1, n2 * S)
    else:  # one stores (out, in), the other (in, out): inputs meet gradients
        first = (G.reshape(C * n1 * T, -1) @ B.reshape(n2 * S, -1).T).view(C, n1 * T, 1, n2 * S)
        second = (A.reshape(n1 * T, -1) @ H.reshape(C * n2 * S, -1).T).view(1, n1 * T, C, n2 * S)
        pairs = first * second
    if T > 1 or S > 1:
        pairs = pairs.reshape(C, n1, T, C, n2, S).sum((2, 5))
    K.view(C, n1, C, n2).add_(pairs.reshape(C, n1, C, n2), alpha=weight)


def _slices(left: Sequence[Factor], right: Sequence[Factor], shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of the parameter's first axis whose per-example gradients fit into ``SLICE_BYTES``."""
    G, H = left[0].gradient, right[0].gradient
    rows = G.shape[0] * (G.shape[1] + (0 if right is left else H.shape[1]))
    per_entry = rows * math.prod(shape[1:]) * G.element_size()
    first = shape[0] if shape else 1
    step = max(1, min(first, SLICE_BYTES // max(1, per_entry)))
    for lo in range(0, first, step):
        yield lo, min(first, lo + step)


def _gradients(factors: Sequence[Factor], shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
    """Per-example gradients of the parameter's entries lo:hi of its first axis, summed over uses, (C·n, entries)."""
    total: Tensor | None = None
    for factor in factors:
        part = per_example_gradient(factor, shape, lo, hi)
        part = part.reshape(part.shape[0] * part.shape[1], -1)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def per_example_gradient(factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
    """∂f_c(x_i)/∂(parameter[lo:hi]) from one use, (C, n, hi − lo, …)."""
    kind = factor.use.kind
    if kind == "linear":
        A, G = factor.tokens()
        if factor.flipped:
            return A[None, :, :, lo:hi].transpose(2, 3) @ G
        return G[..., lo:hi].transpose(2, 3) @ A
    if kind == "convolution":
        return _convolution(factor, shape, lo, hi)
    if kind == "embedding":
        return _embedding(factor, shape, lo, hi)
    g = factor.gradient
    if kind == "product":
        x = factor.use.input
        assert x is not None
        prepare = (factor.use.options or {}).get("prepare")
        g = g * (x if prepare is None else prepare(x))
    summed = _sum_to(g, shape, (factor.use.options or {})["axis"])
    return summed[:, :, lo:hi] if shape else summed


def _sum_to(g: Tensor, shape: tuple[int, ...], axis: int | str | None) -> Tensor:
    """Sum (C, n, …) over the axes along which a parameter of the given shape was broadcast."""
    C, n = g.shape[:2]
    if axis == "broadcast":
        rest = g.shape[2:]
        inner = shape[len(shape) - len(rest) :] if len(shape) > len(rest) else shape
        padded = (1,) * (len(rest) - len(inner)) + tuple(inner)
        axes = [i + 2 for i, (p, r) in enumerate(zip(padded, rest, strict=True)) if p == 1 and r != 1]
        return (g.sum(axes) if axes else g).reshape(C, n, *shape)
    if axis is None:  # the last len(shape) axes are the parameter's
        return g.reshape(C, n, -1, *shape).sum(2)
    if axis == -1:
        return g.reshape(C, n, -1, g.shape[-1]).sum(2)
    return g.reshape(C, n, g.shape[2], -1).sum(3)


def _convolution(factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
    """One weight gradient per example, each by the library's own convolution kernels."""
    x, g, options = factor.use.input, factor.gradient, dict(factor.use.options or {})
    assert x is not None
    groups = options["groups"]
    whole = groups > 1 or (lo == 0 and hi == shape[0])
    if not whole:
        g = g[:, :, lo:hi]
    like = g.new_empty(()).expand(shape if whole else (hi - lo, *shape[1:]))
    zeros = [0] * (len(shape) - 2)
    out = g.new_empty((*g.shape[:2], *like.shape))
    for i in range(g.shape[1]):
        row = x[i : i + 1]
        for c in range(g.shape[0]):
            out[c, i] = torch.ops.aten.convolution_backward(
                g[c, i : i + 1],
                row,
                like,
                None,
                options["stride"],
                options["padding"],
                options["dilation"],
                False,
                zeros,
                groups,
                [False, True, False],
            )[1]
    return out[:, :, lo:hi] if groups > 1 else out


def _embedding(factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
    index, g = factor.use.input, factor.gradient
    assert index is not None
    C, n = g.shape[:2]
    index = index.reshape(n, -1)
    g = g.reshape(C, n, index.shape[1], *shape[1:])
    inside = (index >= lo) & (index < hi)
    padding = (factor.use.options or {}).get("padding_idx")
    if padding is not None:
        inside &= index != padding
    row, token = inside.nonzero(as_tuple=True)
    out = g.new_zeros((C, n * (hi - lo), *shape[1:]))
    out.index_add_(1, row * (hi - lo) + index[row, token] - lo, g[:, row, token])
    return out.view(C, n, hi - lo, *shape[1:])

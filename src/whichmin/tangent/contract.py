"""From the factors of two sets of rows to their kernel J D Jᵀ.

Each kind of layer adds its part by a shorter way where it knows one that is cheaper; else the per-example gradients of
this one parameter are formed, in slices, and multiplied. Within this module rows are ordered output-major: a matrix of
the kernel is (C·n₁, C·n₂).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from whichmin.tangent.factors import Factors
from whichmin.tangent.layers.base import Factor
from whichmin.tangent.layers.bias import Bias
from whichmin.tangent.layers.dense import Dense
from whichmin.tangent.layers.grams import Grams

#: Bytes that one slice of per-example gradients may take: what the C library hands out again without asking the system
#: for new pages (a ResNet-18 of width 16, 2 outputs, 100 rows: 1.95 s at 2**24, 1.84 at 2**25, 2.13 at 2**26).
SLICE_BYTES = 2**25
#: Slices are of multiples of these, of the first that they are a quarter of at least.
WIDTHS = (16, 8, 4)
#: Rows of a symmetric product that are made at once, and in how many stripes those of large ones are made.
STRIPE, STRIPES = 128, 16


def contract(
    left: Factors,
    right: Factors,
    parameters: Mapping[str, Tensor],
    metric: Mapping[str, Tensor | float] | None,
    grams: Grams,
) -> Tensor:
    """J(left) D J(right)ᵀ, (n₁, C, n₂, C).

    Args:
        left: the factors of the first rows.
        right: of the second; the same object where the rows are the same.
        parameters: the trainable parameters.
        metric: D, numbers or positive weights of the parameters' shapes; None is the identity.
        grams: the products that the parameters of this kernel share.
    """
    n1, C = left.outputs.shape
    n2 = len(right.outputs)
    K = left.outputs.new_zeros((C * n1, C * n2), dtype=left.dtype)
    formed = {*left.formed, *right.formed}
    for name, factors in left.by_parameter.items():
        others = right.by_parameter.get(name)
        if others and name not in formed:
            weight = 1.0 if metric is None else metric[name]
            _add_part(K, factors, others, tuple(parameters[name].shape), weight, grams)
    for name in formed:
        first = left.per_example(name, parameters[name])
        second = first if right is left else right.per_example(name, parameters[name])
        if first is not None and second is not None:
            P, Q = first.reshape(C * n1, -1), second.reshape(C * n2, -1)
            _add_product(K, P, Q, 1.0 if metric is None else metric[name])
    return K.detach().view(C, n1, C, n2).permute(1, 0, 3, 2)


def multiplications(factors: Factors, parameters: Mapping[str, Tensor], n: int) -> float:
    """About how many the kernel of n rows like these takes at least: those of parameters whose gradients are formed."""
    rows, C = factors.outputs.shape
    total = 0.0
    for name in {*factors.by_parameter, *factors.formed}:
        shape, positions = tuple(parameters[name].shape), 0.0
        if name not in factors.formed:
            uses = _together(factors.by_parameter[name], shape)
            if all(u.use.layer.has_gram(u, v) for u in uses for v in uses):
                continue
            positions = sum(u.gradient.numel() for u in uses) / (C * rows * (shape[0] if shape else 1))
        total += math.prod(shape) * (n * C * positions + (n * C) ** 2 / 2)
    return total


def _add_part(
    K: Tensor,
    left: Sequence[Factor],
    right: Sequence[Factor],
    shape: tuple[int, ...],
    weight: Tensor | float,
    grams: Grams,
) -> None:
    """Add the part of one parameter of a shape, used in ``left`` and ``right``; of its matrices one by one."""
    if all(f.use.layer.entry is not None for f in (*left, *right)):
        rights = _by_entry(right)
        for entry, own in _by_entry(left).items():
            if entry in rights:
                of = weight[entry] if isinstance(weight, Tensor) else weight
                _add_part(K, own, own if right is left else rights[entry], shape[1:], of, grams)
        return
    first = _together(left, shape)
    left, right = first, first if right is left else _together(right, shape)
    if not left or not right:
        return
    pairs = [(u, v) for u in left for v in right]
    if not isinstance(weight, Tensor) and all(u.use.layer.has_gram(u, v) for u, v in pairs):
        for u, v in pairs:
            u.use.layer.add_gram(K, u, v, weight, grams)
        return
    for lo, hi in _slices(left, right, shape):
        P = _gradients(left, shape, lo, hi)
        Q = P if right is left else _gradients(right, shape, lo, hi)
        _add_product(K, P, Q, weight[lo:hi] if isinstance(weight, Tensor) and shape else weight)


def _together(factors: Sequence[Factor], shape: tuple[int, ...]) -> list[Factor]:
    """Uses of a parameter, as few as there may be; one that met nothing, as of an expert without rows, is left out."""
    return [f.use.layer.unfolded(f, shape) for f in joined(factors) if f.gradient.numel() > 0]


def _by_entry(factors: Sequence[Factor]) -> dict[int, list[Factor]]:
    """The uses of each matrix of a parameter, as of a parameter of its own."""
    by_entry: dict[int, list[Factor]] = {}
    for f in factors:
        assert isinstance(f.use.layer, Dense)
        assert f.use.layer.entry is not None
        alone = Factor(replace(f.use, layer=replace(f.use.layer, entry=None)), f.gradient)
        by_entry.setdefault(f.use.layer.entry, []).append(alone)
    return by_entry


def _add_product(K: Tensor, P: Tensor, Q: Tensor, weight: Tensor | float) -> None:
    """K ← K + P D Qᵀ; where Q is P by stripes of rows, of which the upper half is the lower one's mirror image."""
    W, alpha = (P * weight.reshape(1, -1), 1.0) if isinstance(weight, Tensor) else (P, weight)
    if Q is not P or len(P) < 2 * STRIPE:
        K.addmm_(W, Q.T, alpha=alpha)
        return
    rows = max(STRIPE, len(P) // STRIPES)
    for i in range(0, len(P), rows):
        end = min(i + rows, len(P))
        block = K.new_zeros((end - i, end)).addmm_(W[i:end], P[:end].T, beta=0, alpha=alpha)
        K[i:end, :end] += block
        K[:i, i:end] += block[:, :i].T


def _slices(left: Sequence[Factor], right: Sequence[Factor], shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of the parameter's first axis whose per-example gradients fit into ``SLICE_BYTES``."""
    G, H = left[0].gradient, right[0].gradient
    rows = G.shape[0] * (G.shape[1] + (0 if right is left else H.shape[1]))
    per_entry = rows * math.prod(shape[1:]) * G.element_size()
    first = shape[0] if shape else 1
    step = _rounded(max(1, min(first, SLICE_BYTES // max(1, per_entry))))
    for lo in range(0, first, step):
        yield lo, min(first, lo + step)


def _rounded(step: int) -> int:
    """A number of entries like this that vector registers are filled with: by convolutions of others, at a third."""
    for width in WIDTHS:
        if step >= width // 4:
            return max(width, step // width * width)
    return step


def _gradients(factors: Sequence[Factor], shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
    """Per-example gradients of the parameter's entries lo:hi of its first axis, summed over uses, (C·n, entries)."""
    total: Tensor | None = None
    for factor in factors:
        part = factor.use.layer.gradient(factor, shape, lo, hi)
        part = part.reshape(part.shape[0] * part.shape[1], -1)
        total = part if total is None else total + part  # a part may be a view of a gradient
    assert total is not None
    return total


def joined(factors: Sequence[Factor]) -> Sequence[Factor]:
    """Uses of one kind as one use with more positions a row: the steps of a recurrent layer."""
    first = factors[0]
    if len(factors) == 1 or not isinstance(first.use.layer, Dense | Bias):
        return factors
    if any(f.use.layer != first.use.layer for f in factors) or first.use.layer.takes_positions is False:
        return factors
    if isinstance(first.use.layer, Bias) and first.use.layer.axes != "last":
        return factors

    def positions(t: Tensor, axis: int) -> Tensor:
        return t.flatten(axis, -2) if t.ndim > axis + 1 else t.unsqueeze(axis)

    gradient = torch.cat([positions(f.gradient, 2) for f in factors], dim=2)
    x = None if first.use.input is None else torch.cat([positions(f.input, 1) for f in factors], dim=1)
    use = replace(first.use, input=x, shape=tuple(gradient.shape[1:]), version=0 if x is None else x._version)
    return [Factor(use, gradient)]

"""Sums of products of two tensors, and products with several matrices, as products with one matrix each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _einsum(equation: Any, *operands: Any) -> Any:
    """``torch.einsum`` of two tensors: one matrix product, or one for each value of an index that both have and keep.

    The indices of each are brought into an order in which those that both have, which are summed, are one axis.
    """
    operands = tuple(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    if not isinstance(equation, str) or "->" not in equation or "." in equation or len(operands) != 2:
        return NotImplemented
    inputs, kept = equation.replace(" ", "").split("->")
    terms = inputs.split(",")
    if any(len(set(term)) < len(term) for term in (*terms, kept)):
        return NotImplemented
    sizes = [dict(zip(term, t.shape, strict=True)) for term, t in zip(terms, operands, strict=True)]
    if any(sizes[0][i] != size for i, size in sizes[1].items() if i in sizes[0]):  # axes of size one are spread
        return NotImplemented
    if is_parameter(operands[0]) and not is_parameter(operands[1]):
        operands, terms = operands[::-1], terms[::-1]
    return _contracted(operands, terms, kept, sizes[0] | sizes[1])


def _contracted(operands: Sequence[Tensor], terms: Sequence[str], kept: str, sizes: Mapping[str, int]) -> Any:
    """The sum over what ``kept`` has not; NotImplemented where that is not made of matrix products."""
    alone = [[i for i in terms[k] if i not in terms[1 - k] and i not in kept] for k in (0, 1)]
    operands = [t.sum([terms[k].index(i) for i in alone[k]]) if alone[k] else t for k, t in enumerate(operands)]
    terms = ["".join(i for i in terms[k] if i not in alone[k]) for k in (0, 1)]
    both = [i for i in terms[0] if i in terms[1]]
    shared = [i for i in both if i in kept]
    if shared and is_parameter(operands[1]):
        i = shared[0]
        left = [term.replace(i, "") for term in terms]
        parts = [
            _contracted([t.select(term.index(i), k) for t, term in zip(operands, terms, strict=True)],
                        left, kept.replace(i, ""), sizes)
            for k in range(sizes[i])
        ]  # fmt: skip
        return NotImplemented if any(p is NotImplemented for p in parts) else torch.stack(parts, kept.index(i))
    own, others = ([i for i in term if i not in both] for term in terms)
    if shared or not both or not own or set(kept) != {*own, *others}:
        return NotImplemented

    def matrix(t: Tensor, term: str, rows: Sequence[str]) -> Tensor:
        order = [term.index(i) for i in (*rows, *both)]
        t = t if order == sorted(order) else t.permute(order)
        shape = [sizes[i] for i in rows] + [math.prod(sizes[i] for i in both)]
        return t if list(t.shape) == shape else t.reshape(shape)

    left, right = matrix(operands[0], terms[0], own), matrix(operands[1], terms[1], others)
    right = right if right.ndim == 2 else right.reshape(-1, right.shape[-1])
    out = F.linear(left, right).reshape([sizes[i] for i in (*own, *others)])
    order = [(*own, *others).index(i) for i in kept]
    return out if order == sorted(order) else out.permute(order)


def is_parameter(t: Tensor) -> bool:
    """Whether a tensor, or what it is a view of, is a leaf that is trained."""
    return t.requires_grad and (t.is_leaf or (t._is_view() and t._base is not None and t._base.is_leaf))


def _batched(*args: Tensor, **kwargs: Any) -> Any:
    """``torch.bmm`` and ``torch.matmul`` of matrices with those of a trained (E, in, out), one by one."""
    if len(args) != 2 or kwargs:
        return NotImplemented
    input, mat2 = args
    if mat2.ndim != 3 or not is_parameter(mat2) or input.ndim < 3 or input.shape[-3] != len(mat2):
        return NotImplemented
    return torch.stack([input.select(-3, e) @ mat2[e] for e in range(len(mat2))], -3)


def _grouped(
    mat_a: Tensor, mat_b: Tensor, offs: Tensor | None = None, bias: Tensor | None = None, out_dtype: Any = None
) -> Any:
    """``F.grouped_mm`` of rows that are sorted by the matrix, of (E, in, out), that they meet."""
    if mat_a.ndim != 2 or mat_b.ndim != 3 or offs is None or bias is not None or out_dtype is not None:
        return NotImplemented
    ends = offs.tolist()
    if not ends or ends[-1] != len(mat_a):
        return NotImplemented
    starts = [0, *ends[:-1]]
    parts = [mat_a[lo:hi] @ mat_b[e] for e, (lo, hi) in enumerate(zip(starts, ends, strict=True)) if lo < hi]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


CALLS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.einsum: _einsum,
    **dict.fromkeys((torch.bmm, Tensor.bmm, torch.matmul, Tensor.matmul, Tensor.__matmul__), _batched),
}
for module, name in ((F, "grouped_mm"), (torch, "_grouped_mm")):
    if hasattr(module, name):
        CALLS[getattr(module, name)] = _grouped

"""Parameters that are added to what comes in: biases, shifts of normalizations, and elementwise sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from whichmin.tangent.layers.base import Factor, Layer, Part, Recognizer
from whichmin.tangent.layers.grams import Grams
from whichmin.tangent.layers.matrix_products import MatrixProducts

#: Where a parameter stands among the axes (N, …) of a call's output: at the last axis, at the second (channels), at as
#: many of the last axes as it has, or where elementwise operations broadcast it to.
Axes = Literal["last", "channels", "trailing", "broadcast"]


@dataclass(frozen=True)
class Bias(Layer):
    """The gradient is that of the output, summed over the axes along which the parameter was broadcast.

    Attributes:
        axes: where it stands in the output.
        row_axis: which axis of the output was that of the rows, before it came to be the first.
    """

    axes: Axes
    row_axis: int = 0

    @classmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """Elementwise sums; biases of other layers are recognized with these."""
        sums = [torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.add_]
        return {**dict.fromkeys(sums, _sum), **dict.fromkeys(EXPANSIONS, _expanded), Tensor.repeat: _repeated}

    @property
    def takes_positions(self) -> bool:  # type: ignore[override]
        """Not where the second axis is that of channels."""
        return self.axes != "channels"

    def positions(self, shape: tuple[int, ...], parameter: tuple[int, ...]) -> int:
        """The axes along which it is broadcast, as far as they come first."""
        return broadcast_axes(self.axes, shape, parameter)

    def gradient(self, factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
        """G, summed."""
        return sum_to(factor.gradient, shape, self.axes, lo, hi, self.row_axis)

    def has_gram(self, left: Factor, right: Factor) -> bool:
        """Where it meets every row once, for every pair of such uses."""
        other = right.use.layer
        return self._is_plain(left) and isinstance(other, Bias) and other._is_plain(right)

    def add_gram(self, K: Tensor, left: Factor, right: Factor, weight: float, grams: Grams) -> None:
        """G Hᵀ."""
        K.add_(grams(left.gradient, right.gradient), alpha=weight)

    def products(self, factor: Factor, columns: Tensor | None = None) -> MatrixProducts | None:
        """Where it meets every row once."""
        return _Products(factor.gradient) if self._is_plain(factor) else None

    def _is_plain(self, factor: Factor) -> bool:
        return self.axes == "last" and factor.gradient.ndim == 3


class _Products(MatrixProducts):
    def addend(self, value: Tensor, rows: Tensor | None = None) -> Tensor:
        return value.reshape(1, -1)

    def _sum(self, step: Tensor, rows: Tensor | None, keep: bool) -> Tensor:
        return step.sum(1)


def sum_to(g: Tensor, shape: tuple[int, ...], axes: Axes, lo: int, hi: int, row_axis: int = 0) -> Tensor:
    """Sum (C, n, …) over the axes along which a parameter of the given shape was broadcast; of it lo:hi."""
    C, n = g.shape[:2]
    if axes == "broadcast":
        rest = g.shape[2:]
        aligned = aligned_to(1 + len(rest), shape)
        inner = aligned[:row_axis] + aligned[row_axis + 1 :]
        over = [i + 2 for i, (p, r) in enumerate(zip(inner, rest, strict=True)) if p == 1 and r != 1]
        summed = (g.sum(over) if over else g).reshape(C, n, *shape)
    elif axes == "trailing":
        summed = g.reshape(C, n, -1, *shape).sum(2)
    elif axes == "last":
        summed = g.reshape(C, n, -1, g.shape[-1]).sum(2)
    else:
        summed = g.reshape(C, n, g.shape[2], -1).sum(3)
    return summed[:, :, lo:hi] if shape else summed


def broadcast_axes(axes: Axes, shape: tuple[int, ...], parameter: tuple[int, ...]) -> int:
    """Over how many leading axes of an output a parameter is broadcast."""
    if axes == "channels":
        return 1
    if axes == "last":
        return len(shape) - 1
    if axes == "trailing":
        return len(shape) - len(parameter)
    return next((i for i, p in enumerate(aligned_to(len(shape), parameter)) if p != 1), len(shape))


def aligned_to(ndim: int, parameter: tuple[int, ...]) -> tuple[int, ...]:
    """The parameter's shape among so many axes, as broadcasting aligns it; leading ones may be left out."""
    return ((1,) * ndim + tuple(parameter))[-ndim:] if ndim else ()


def may_be_broadcast(parameter: Any, other: Any) -> bool:
    """Whether an elementwise operation lets the first meet every row of the second alike."""
    if not (isinstance(parameter, Tensor) and isinstance(other, Tensor)):
        return False
    if parameter.is_complex() or other.is_complex() or parameter.ndim > other.ndim:
        return False
    aligned = aligned_to(other.ndim, tuple(parameter.shape))
    return any(p == 1 for p in aligned) and all(p in (1, o) for p, o in zip(aligned, other.shape, strict=True))


#: Calls that repeat a parameter along new axes, such as that of the rows.
EXPANSIONS = {Tensor.expand, Tensor.expand_as, torch.broadcast_to, Tensor.broadcast_to, Tensor.repeat}


def _expanded(parameter: Tensor, *sizes: Any, **options: Any) -> list[Part] | None:
    return None if options else [Part(parameter, Bias("broadcast"))]


def _repeated(parameter: Tensor, *sizes: Any, **options: Any) -> list[Part] | None:
    if options:
        return None
    repeats = tuple(sizes[0]) if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    aligned = aligned_to(len(repeats), tuple(parameter.shape))
    alike = all(p == 1 or r == 1 for p, r in zip(aligned, repeats, strict=True))
    return [Part(parameter, Bias("broadcast"))] if alike else None


def _sum(a: Any, b: Any, **options: Any) -> list[Part] | None:
    if options:
        return None
    return [Part(p, Bias("broadcast")) for p, x in ((a, b), (b, a)) if may_be_broadcast(p, x)]

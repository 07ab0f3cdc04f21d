"""Parameters that multiply what comes in: gains of normalizations, and elementwise products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whichmin.tangent.layers.base import Factor, Layer, Part, Recognizer
from whichmin.tangent.layers.bias import Axes, broadcast_axes, may_be_broadcast, sum_to


@dataclass(frozen=True)
class Gain(Layer):
    """The gradient is that of the output times the input, summed where the parameter was broadcast.

    Attributes:
        axes: where it stands in the output.
        prepare: makes of the call's input what the parameter multiplies, when the contraction needs it; None where it
            multiplies the input itself.
        row_axis: which axis of the output was that of the rows, before it came to be the first.
    """

    axes: Axes
    prepare: Callable[[Tensor], Tensor] | None = None
    row_axis: int = 0

    @classmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """Elementwise products."""
        return dict.fromkeys([torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__], _product)

    @property
    def takes_positions(self) -> bool:  # type: ignore[override]
        """Not where the second axis is that of channels."""
        return self.axes != "channels"

    def positions(self, shape: tuple[int, ...], parameter: tuple[int, ...]) -> int:
        """The axes along which it is broadcast, as far as they come first."""
        return broadcast_axes(self.axes, shape, parameter)

    def given(self, input: Tensor, shape: tuple[int, ...]) -> tuple[Layer, Tensor]:
        """What it multiplies, of the output's shape."""
        x = input if self.prepare is None else self.prepare(input)
        return Gain(self.axes), x.expand(shape)

    def gradient(self, factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
        """G∘A, summed."""
        x = factor.input if self.prepare is None else self.prepare(factor.input)
        return sum_to(factor.gradient * x, shape, self.axes, lo, hi, self.row_axis)


def _product(a: Any, b: Any, **options: Any) -> list[Part] | None:
    if options:
        return None
    return [Part(p, Gain("broadcast"), x) for p, x in ((a, b), (b, a)) if may_be_broadcast(p, x)]

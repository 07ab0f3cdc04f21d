"""Parameters that multiply what comes in: gains of normalizations, and elementwise products."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whichmin.tangent.layers.base import Factor, Layer, Part, Recognizer
from whichmin.tangent.layers.bias import Axes, may_be_broadcast, sum_to


@dataclass(frozen=True)
class Gain(Layer):
    """The gradient is that of the output times the input, summed where the parameter was broadcast.

    Attributes:
        axes: where it stands in the output.
        prepare: makes of the call's input what the parameter multiplies, when the contraction needs it; None where it
            multiplies the input itself.
    """

    axes: Axes
    prepare: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """Elementwise products."""
        return dict.fromkeys([torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__], _product)

    def gradient(self, factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
        """G∘A, summed."""
        x = factor.input if self.prepare is None else self.prepare(factor.input)
        return sum_to(factor.gradient * x, shape, self.axes, lo, hi)


def _product(a: Any, b: Any, **options: Any) -> list[Part] | None:
    if options:
        return None
    return [Part(p, Gain("broadcast"), x) for p, x in ((a, b), (b, a)) if may_be_broadcast(p, x)]

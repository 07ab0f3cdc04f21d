"""The description of a fully connected network of infinite width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from whichmin.errors import ModelError
from whichmin.infinite.activations import NAMES, Activation, by_name
from whichmin.infinite.layer import Layer
from whichmin.infinite.limit import Limit, inputs
from whichmin.shown import Shown

#: One number for all layers, or one per layer.
PerLayer = float | Sequence[float]


@dataclass(frozen=True)
class FullyConnected(Shown):
    """A fully connected network in the limit of infinite width, its outputs at initialization a Gaussian process.

    NTK parametrization: z = α (σ_w/√n W h + σ_b b), all entries of W and b from N(0, 1) and all trained; layer by
    layer, with H the second moment of the layer's input per unit (x·x'/d for the first), Σ = α²(σ_w² H + σ_b²) and
    Θ ← Σ + α²σ_w² E[φ'φ'] Θ (Jacot et al. 2018). A finite :class:`whichmin.networks.MLP` agrees up to O(1/√width).

    Standard parametrization: z = α (W h + b), W ~ N(0, σ_w²/n), b ~ N(0, σ_b²). Σ is the same, but a layer's weights
    add α² n H to Θ and its biases α², so that Θ grows with the width: it has no limit, only a leading order at given
    widths n, which is what is returned. With lr ∝ 1/n it is a fixed function of the inputs; passing the widths of a
    base network gives the kernel of Sohl-Dickstein et al. (2020), in which lr is that of the base network.

    Args:
        depth: the number of weight layers, 1 (a linear model) or more.
        activation: "relu", "leaky_relu", "erf" or "linear", after each layer but the last.
        weight_std: σ_w, one for all layers or one per layer; by default the activation's gain (√2 for ReLU) for hidden
            layers and 1 for the last, as in :class:`whichmin.networks.MLP`.
        bias_std: σ_b, one for all layers or one per layer; None means no biases, 0 trained biases that start at zero
            (which in the NTK parametrization is the same).
        parametrization: "ntk" or "standard".
        widths: of the hidden layers, one for all or one per layer; for the standard parametrization only.
        negative_slope: of leaky ReLU.
        scale: α, in front of every layer.

    Raises:
        ModelError: an argument out of its range, a list of the wrong length, an activation without a closed form.
    """

    depth: int
    activation: str = "relu"
    weight_std: PerLayer | None = None
    bias_std: PerLayer | None = None
    parametrization: Literal["ntk", "standard"] = "ntk"
    widths: int | Sequence[int] | None = None
    negative_slope: float = 0.01
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Validate, and turn per-layer arguments into tuples."""
        if isinstance(self.depth, bool) or not isinstance(self.depth, int) or self.depth < 1:
            raise ModelError(f"depth is {self.depth!r}; expected the number of weight layers, an integer of 1 or more.")
        if self.activation not in NAMES:
            raise ModelError(
                f"activation is {self.activation!r}, which has no closed form here; expected one of {', '.join(NAMES)}."
            )
        if self.parametrization not in ("ntk", "standard"):
            raise ModelError(f"parametrization is {self.parametrization!r}; expected 'ntk' or 'standard'.")
        if not math.isfinite(self.negative_slope):
            raise ModelError(f"negative_slope is {self.negative_slope}; expected a number.")
        numbers_per_layer("scale", self.scale, 1, positive=True)
        if self.weight_std is not None:
            object.__setattr__(
                self, "weight_std", numbers_per_layer("weight_std", self.weight_std, self.depth, positive=True)
            )
        if self.bias_std is not None:
            object.__setattr__(
                self, "bias_std", numbers_per_layer("bias_std", self.bias_std, self.depth, positive=False)
            )
        self._check_widths()

    def ntk(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The tangent kernel Θ(x1, x2) per output, (n1, n2); see :meth:`whichmin.infinite.Limit.kernel`."""
        return self.limit(inputs(x1, "x1").shape[1]).ntk(x1, x2)

    def nngp(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The outputs' covariance at initialization, (n1, n2); see :meth:`whichmin.infinite.Limit.kernel`."""
        return self.limit(inputs(x1, "x1").shape[1]).nngp(x1, x2)

    def limit(self, features: int) -> Limit:
        """The same with the number of input features given: what the kernels are computed from."""
        activation = self._activation()
        hidden = self.depth - 1
        weight = self.weight_std or (activation.gain,) * hidden + (1.0,)
        bias = self.bias_std if self.bias_std is not None else (None,) * self.depth
        fan_in = (features, *(self.widths or (0,) * hidden))  # type: ignore[misc]
        layers = []
        for w, b, n in zip(weight, bias, fan_in, strict=True):  # type: ignore[arg-type]
            square = self.scale**2
            variances = square * w**2, square * (b or 0.0) ** 2
            tangents = variances if self.parametrization == "ntk" else (square * n, 0.0 if b is None else square)
            layers.append(Layer(*variances, *tangents))
        return Limit(tuple(layers), (activation,) * hidden, features)

    def _activation(self) -> Activation:
        activation = by_name(self.activation, self.negative_slope)
        assert activation is not None
        return activation

    def _check_widths(self) -> None:
        hidden = self.depth - 1
        if self.parametrization == "ntk":
            if self.widths is not None:
                raise ModelError("widths does not matter in the ntk parametrization: leave it out.")
            return
        if hidden and self.widths is None:
            raise ModelError(
                "the standard parametrization's tangent kernel grows with the width: pass widths=, one for all hidden "
                "layers or one per hidden layer, or use parametrization='ntk'."
            )
        if self.widths is not None:
            widths = numbers_per_layer("widths", self.widths, hidden, positive=True, what="hidden layer")
            if any(w != int(w) for w in widths):
                raise ModelError(f"widths is {self.widths}; expected integers.")
            object.__setattr__(self, "widths", tuple(int(w) for w in widths))


def numbers_per_layer(name: str, value: PerLayer, count: int, positive: bool, what: str = "layer") -> tuple[float, ...]:
    """One number per layer: what was given, or one number for all; checked.

    Raises:
        ModelError: another length, numbers that are not finite or not positive (non-negative).
    """
    numbers = tuple(value) if isinstance(value, Sequence) else (value,) * count
    if len(numbers) != count:
        raise ModelError(f"{name} has {len(numbers)} entries; expected one number, or one per {what}: {count}.")
    for number in numbers:
        valid = isinstance(number, int | float) and math.isfinite(number) and (number > 0 if positive else number >= 0)
        if not valid:
            raise ModelError(f"{name} is {value!r}; expected {'positive' if positive else 'non-negative'} numbers.")
    return tuple(float(number) for number in numbers)

"""Fully connected and convolutional networks in the field's two parametrizations, with the scale α of every layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whichmin.errors import ModelError

Parametrization = Literal["ntk", "standard"]

#: Activations by name, each with the gain that keeps the size of the signal (√2 for the rectifiers, 1 otherwise).
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (F.relu, math.sqrt(2.0)),
    "leaky_relu": (F.leaky_relu, math.sqrt(2.0 / (1.0 + 0.01**2))),
    "erf": (torch.erf, 1.0),
    "tanh": (torch.tanh, 1.0),
    "gelu": (F.gelu, math.sqrt(2.0)),
    "linear": (lambda x: x, 1.0),
}


class _Scaled(nn.Module):
    """What a dense and a convolutional layer share: the draw of the parameters and the factors in front of them.

    NTK parametrization: z = α (σ_w/√fan_in · W h + σ_b b) with W, b ~ N(0, 1); standard: the same law at the start,
    with the factors inside the parameters: z = α (W h + b), W ~ N(0, σ_w²/fan_in), b ~ N(0, σ_b²).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        parametrization: Parametrization,
        scale: float,
        weight_std: float,
        bias_std: float | None,
        generator: torch.Generator,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        draw = {"generator": generator, "dtype": torch.float64, "device": "cpu"}
        factor = weight_std / math.sqrt(math.prod(shape[1:]))
        weight = torch.randn(shape, **draw)
        bias = None if bias_std is None else torch.randn(shape[0], **draw)
        # The factors multiply the narrower side of the layer; where there is a bias, both.
        self.before, self.after = 1.0, scale
        if parametrization == "ntk":
            self.before = factor
            if bias_std:
                self.before, self.after = factor / bias_std, scale * bias_std
            elif bias is not None:
                bias = bias * 0.0
        else:
            weight = weight * factor
            bias = None if bias is None else bias * float(bias_std or 0.0)
        if bias is None:
            factor = self.before * self.after
            self.before, self.after = (1.0, factor) if shape[0] < shape[1] else (factor, 1.0)
        device = torch.get_default_device()
        self.weight = nn.Parameter(weight.to(device, dtype))
        self.bias = None if bias is None else nn.Parameter(bias.to(device, dtype))

    def _apply_linear(self, x: Tensor) -> Tensor:
        raise AssertionError("a subclass says how")

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        if self.before != 1.0:
            x = x * self.before
        z = self._apply_linear(x)
        return z if self.after == 1.0 else z * self.after

    def extra_repr(self) -> str:
        """The shape and the factors, for ``print(model)``."""
        factors = f"before={self.before:.4g}, after={self.after:.4g}"
        return f"{tuple(self.weight.shape)}, bias={self.bias is not None}, {factors}"


class ScaledLinear(_Scaled):
    """A dense layer in one of the two parametrizations; its inputs are (…, in), its outputs (…, out)."""

    def _apply_linear(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class ScaledConv2d(_Scaled):
    """A convolution of odd size with as much padding as keeps the image's size: (N, in, H, W) → (N, out, H, W)."""

    def _apply_linear(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


def _check(parametrization: str, scale: float, activation: str) -> None:
    if parametrization not in ("ntk", "standard"):
        raise ModelError(f"parametrization is {parametrization!r}; expected 'ntk' or 'standard'.")
    if activation not in ACTIVATIONS:
        raise ModelError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}.")
    if not (math.isfinite(scale) and scale > 0):
        raise ModelError(f"scale is {scale}; expected a positive number (1 is the usual initialization).")


class MLP(nn.Module):
    """A fully connected network, f(x) = W_L φ(W_{L−1} φ(… W_1 x)), each layer multiplied by α.

    Without biases and with a rectifier f₀ and the tangent features scale as α^L, the kernel as α^{2L}.

    Args:
        sizes: (in, hidden, …, out), at least an input and an output.
        parametrization: "ntk" (σ_w/√fan_in in front of standard normal weights, Jacot et al. 2018) or "standard"
            (inside the weights, He initialization).
        scale: α, in front of every layer.
        bias: whether layers have biases.
        activation: one of ``networks.ACTIVATIONS``.
        weight_std: σ_w of the hidden layers; the activation's gain by default. The last layer has σ_w = 1.
        bias_std: σ_b; 0 starts from zero biases.
        seed: of the generator that draws the parameters; drawn in float64 on the CPU, so that a seed means one network
            in every type and on every device.
        dtype: of the parameters.

    Inputs of more than two axes are flattened: (N, …) → (N, out).
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        parametrization: Parametrization = "ntk",
        scale: float = 1.0,
        bias: bool = False,
        activation: str = "relu",
        weight_std: float | None = None,
        bias_std: float = 0.1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check(parametrization, scale, activation)
        if len(sizes) < 2 or any(int(s) != s or s < 1 for s in sizes):
            raise ModelError(
                f"sizes is {tuple(sizes)}; expected (in, hidden, …, out), positive integers, two at least."
            )
        generator = torch.Generator().manual_seed(seed)
        self.activation_name = activation
        self.activation, gain = ACTIVATIONS[activation]
        last = len(sizes) - 2
        self.layers = nn.ModuleList(
            ScaledLinear(
                (int(n_out), int(n_in)),
                parametrization=parametrization,
                scale=scale,
                weight_std=1.0 if i == last else (gain if weight_std is None else weight_std),
                bias_std=bias_std if bias else None,
                generator=generator,
                dtype=dtype,
            )
            for i, (n_in, n_out) in enumerate(pairwise(sizes))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, …) → (N, out)."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


class CNN(nn.Module):
    """A small convolutional network: 3×3 convolutions with an activation each, global average pooling, a dense layer.

    Args:
        channels: (in, hidden, …): the image's channels and those of each convolution.
        outputs: C.
        parametrization: as for :class:`MLP`.
        scale: α, in front of every layer.
        bias: whether layers have biases.
        activation: one of ``networks.ACTIVATIONS``.
        bias_std: σ_b.
        seed: of the generator that draws the parameters.
        dtype: of the parameters.

    Inputs are (N, channels, height, width), outputs (N, C).
    """

    def __init__(
        self,
        channels: Sequence[int] = (3, 64, 64, 64),
        outputs: int = 1,
        *,
        parametrization: Parametrization = "ntk",
        scale: float = 1.0,
        bias: bool = False,
        activation: str = "relu",
        bias_std: float = 0.1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check(parametrization, scale, activation)
        if len(channels) < 2 or any(int(c) != c or c < 1 for c in channels):
            raise ModelError(
                f"channels is {tuple(channels)}; expected (in, hidden, …), positive integers, two at least."
            )
        generator = torch.Generator().manual_seed(seed)
        self.activation_name = activation
        self.activation, gain = ACTIVATIONS[activation]
        common = {
            "parametrization": parametrization,
            "scale": scale,
            "bias_std": bias_std if bias else None,
            "generator": generator,
            "dtype": dtype,
        }
        self.convolutions = nn.ModuleList(
            ScaledConv2d((c_out, c_in, 3, 3), weight_std=gain, **common) for c_in, c_out in pairwise(channels)
        )
        self.head = ScaledLinear((outputs, channels[-1]), weight_std=1.0, **common)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, height, width) → (N, C)."""
        for convolution in self.convolutions:
            x = self.activation(convolution(x))
        return self.head(x.mean(dim=(-2, -1)))

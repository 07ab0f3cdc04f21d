"""The infinite-width limit read off a finite network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from whichmin.infinite.activations import by_name
from whichmin.infinite.description import PerLayer, numbers_per_layer
from whichmin.infinite.limit import Kind, Layer, Limit
from whichmin.infinite.modules import Dense, dense_layers
from whichmin.networks.mlp import MLP, ScaledLinear

#: Standard errors that a measured variance may be from a known law's.
_AGREES = 4.0


def describe(model: nn.Module, *, weight_std: PerLayer | None = None, bias_std: PerLayer | None = None) -> Limit:
    """The infinite-width limit of a fully connected network.

    Kernels need the law that the parameters were drawn from, which a module does not keep. It is the known law that the
    weights agree with (to four standard errors of their variance): torch's own for ``nn.Linear``, U(±1/√fan_in), hence
    σ_w² = 1/3 and Var b = 1/(3 fan_in); for layers of :class:`whichmin.networks.MLP` N(0, 1) in the NTK
    parametrization, N(0, σ_w²/fan_in) with the MLP's default σ_w in the standard one. Other weights, and biases without
    a known law, are measured: the layer's mean square, off by a relative √(2/number of entries). Say what it was where
    you know it.

    A layer's share of the tangent kernel follows from the widths and factors of the module, so that the result is
    comparable with the module's own kernel; under the standard parametrization it grows with the width. Parameters with
    ``requires_grad=False`` have no share.

    Args:
        model: an ``nn.Sequential`` of nn.Linear and nn.ReLU, nn.LeakyReLU, nn.Identity, ``infinite.ErfActivation``,
            with an optional nn.Flatten in front, nested or not; an ``nn.Linear``; or a :class:`whichmin.networks.MLP`.
        weight_std: √fan_in times the standard deviation of what multiplies the layer's input, factors included; one for
            all layers or one per layer; read off the model by default.
        bias_std: the standard deviation of what is added, factors included; likewise.

    Raises:
        ModelError: a module that is not supported (named), layers that do not fit together or are used twice, an
            activation in front of the first layer or after the last.
    """
    layers, activations = dense_layers(model)
    weights = (
        (None,) * len(layers) if weight_std is None else numbers_per_layer("weight_std", weight_std, len(layers), True)
    )
    biases = (None,) * len(layers) if bias_std is None else numbers_per_layer("bias_std", bias_std, len(layers), False)
    laws = _laws(model, layers)
    read = tuple(_layer(m, law, w, b) for m, law, w, b in zip(layers, laws, weights, biases, strict=True))
    return Limit(read, activations, layers[0].weight.shape[1])


def kernel(
    model: nn.Module,
    x1: Tensor,
    x2: Tensor | None = None,
    kind: Kind = "ntk",
    *,
    weight_std: PerLayer | None = None,
    bias_std: PerLayer | None = None,
) -> Tensor:
    """The infinite-width kernel of a finite network, per output, (n1, n2) float64; for C outputs it is ⊗ I_C.

    Args:
        model: as for :func:`describe`, which says how it is read.
        x1: (n1, …).
        x2: (n2, …); x1 by default.
        kind: "ntk", the tangent kernel, or "nngp", the covariance of the outputs at initialization.
        weight_std: see :func:`describe`.
        bias_std: see :func:`describe`.

    Raises:
        ModelError: see :func:`describe`.
        DataError: inputs that are not finite or do not fit the network.
        InputError: another kind.
    """
    return describe(model, weight_std=weight_std, bias_std=bias_std).kernel(x1, x2, kind)


_Law = tuple[float, float]


def _laws(model: nn.Module, layers: list[Dense]) -> list[_Law]:
    """The variances of each layer's weight and bias entries."""
    laws = []
    for i, layer in enumerate(layers):
        n = layer.weight.shape[1]
        measured = float(layer.weight.detach().double().square().mean())
        bias = 0.0 if layer.bias is None else float(layer.bias.detach().double().square().mean())
        weight = measured
        if isinstance(layer, nn.Linear) and _agree(measured, 1.0 / (3.0 * n), layer.weight.numel()):
            weight = 1.0 / (3.0 * n)
            bias = 0.0 if layer.bias is None else weight
        elif isinstance(layer, ScaledLinear) and _agree(measured, 1.0, layer.weight.numel()):
            weight, bias = 1.0, float(bias > 0.0)
        elif isinstance(model, MLP):
            activation = by_name(model.activation_name)
            gain = 1.0 if i == len(layers) - 1 or activation is None else activation.gain
            if _agree(measured, gain**2 / n, layer.weight.numel()):
                weight = gain**2 / n
        laws.append((weight, bias))
    return _shared_bias(layers, laws) if isinstance(model, MLP) else laws


def _agree(measured: float, law: float, entries: int) -> bool:
    return abs(measured / law - 1.0) <= _AGREES * math.sqrt(2.0 / entries)


def _shared_bias(layers: list[Dense], laws: list[_Law]) -> list[_Law]:
    """An MLP's layers have one σ_b: measured over all of them, or the known 1 of the NTK parametrization."""
    biases = [layer.bias.detach().double() for layer in layers if layer.bias is not None]
    if not biases or all(bias in (0.0, 1.0) for _, bias in laws):
        return laws
    pooled = float(torch.cat(biases).square().mean())
    return [(weight, pooled) for weight, _ in laws]


def _layer(module: Dense, law: _Law, weight_std: float | None, bias_std: float | None) -> Layer:
    n = module.weight.shape[1]
    after = module.after if isinstance(module, ScaledLinear) else 1.0
    factor = after * module.before if isinstance(module, ScaledLinear) else 1.0
    trained_bias = module.bias is not None and module.bias.requires_grad
    return Layer(
        weight_variance=n * factor**2 * law[0] if weight_std is None else weight_std**2,
        bias_variance=after**2 * law[1] if bias_std is None else bias_std**2,
        weight_tangent=n * factor**2 if module.weight.requires_grad else 0.0,
        bias_tangent=after**2 if trained_bias else 0.0,
    )

"""The infinite-width limit read off a finite network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.infinite.activations import by_name
from whichmin.infinite.description import PerLayer, numbers_per_layer
from whichmin.infinite.layer import Layer
from whichmin.infinite.limit import Kind, Limit
from whichmin.infinite.modules import Dense, dense_layers
from whichmin.networks.mlp import MLP, ScaledLinear

#: Standard errors by which a measured variance may differ from a law's and still be taken for that law.
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
            activation in front of the first layer or after the last, a ``bias_std`` for layers without biases.
    """
    layers, activations = dense_layers(model)
    weights = (
        (None,) * len(layers) if weight_std is None else numbers_per_layer("weight_std", weight_std, len(layers), True)
    )
    biases = (None,) * len(layers) if bias_std is None else numbers_per_layer("bias_std", bias_std, len(layers), False)
    for index, (layer, std) in enumerate(zip(layers, biases, strict=True)):
        if std and layer.bias is None:
            raise ModelError(f"bias_std is {std:g} for dense layer {index}, which has no biases: pass 0 for it.")
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


#: The variances of a layer's weight and bias entries.
_Law = tuple[float, float]


def _laws(model: nn.Module, layers: list[Dense]) -> list[_Law]:
    """The variances of each layer's weight and bias entries."""
    if isinstance(model, MLP):
        return _mlp_laws(model, layers)
    laws = []
    for layer in layers:
        known = 1.0 if isinstance(layer, ScaledLinear) else 1.0 / (3.0 * layer.weight.shape[1])
        measured = 0.0 if layer.bias is None else _mean_square(layer.bias)
        if not _agrees(layer.weight, known):
            laws.append((_mean_square(layer.weight), measured))
        elif layer.bias is not None and (isinstance(layer, nn.Linear) or _agrees(layer.bias, known)):
            laws.append((known, known))
        else:
            laws.append((known, measured))
    return laws


def _mlp_laws(model: MLP, layers: list[Dense]) -> list[_Law]:
    """An MLP's layers have one parametrization, the likelier of two, and one σ_b, measured over all of them."""
    biases = torch.cat(
        [layer.bias.detach().flatten() for layer in layers if layer.bias is not None] or [torch.zeros(1)]
    )
    bias = _mean_square(biases)
    activation = by_name(model.activation_name)
    gains = [1.0 if activation is None else activation.gain] * (len(layers) - 1) + [1.0]
    standard = [gain**2 / layer.weight.shape[1] for layer, gain in zip(layers, gains, strict=True)]
    if _surprise(layers, [1.0] * len(layers)) <= _surprise(layers, standard):
        return [(1.0, 1.0 if _agrees(biases, 1.0) else bias)] * len(layers)
    return [
        (known if _agrees(layer.weight, known) else _mean_square(layer.weight), bias)
        for layer, known in zip(layers, standard, strict=True)
    ]


def _surprise(layers: list[Dense], variances: list[float]) -> float:
    """Minus twice the log likelihood of normal weights with these variances, up to a constant."""
    return sum(
        layer.weight.numel() * (math.log(v) + _mean_square(layer.weight) / v)
        for layer, v in zip(layers, variances, strict=True)
    )


def _mean_square(values: Tensor) -> float:
    return float(values.detach().double().square().mean())


def _agrees(values: Tensor, variance: float) -> bool:
    """Whether numbers can have been drawn with this variance and mean zero."""
    measured = _mean_square(values)
    return measured > 0.0 and abs(math.log(measured / variance)) <= _AGREES * math.sqrt(2.0 / values.numel())


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

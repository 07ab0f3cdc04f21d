"""The infinite-width limit read off a finite network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from whichmin.devices import default_device_aside
from whichmin.errors import ModelError
from whichmin.infinite.activations import by_name
from whichmin.infinite.description import PerLayer, numbers_per_layer
from whichmin.infinite.laws import bias_variances, surprise, weight_variances
from whichmin.infinite.layer import Layer
from whichmin.infinite.limit import Kind, Limit
from whichmin.infinite.modules import Dense, dense_layers
from whichmin.networks.mlp import MLP, ScaledLinear

#: The standard deviation of an :class:`MLP`'s biases unless it is told another.
_MLP_BIAS_STD = 0.1


@default_device_aside()
def describe(model: nn.Module, *, weight_std: PerLayer | None = None, bias_std: PerLayer | None = None) -> Limit:
    """The infinite-width limit of a fully connected network.

    Kernels need the law that the parameters were drawn from, which a module does not keep. It is told from the values,
    weights and biases of each layer on their own: the law of that kind of layer if they agree with it (to four standard
    errors of their variance): torch's own for ``nn.Linear``, U(±1/√fan_in), hence σ_w² = 1/3 and Var b = 1/(3 fan_in);
    for layers of :class:`whichmin.networks.MLP` N(0, 1) in the NTK parametrization, N(0, σ_w²/fan_in) with the MLP's
    default σ_w in the standard one. Biases that are zero have the variance zero, and are trained all the same. Other
    weights have the variance of He's, LeCun's, Glorot's or the orthogonal law where they agree with one of these (in
    the limit of infinite width orthogonal weights give the kernels of independent ones); else they, and other biases,
    are measured: by the mean square, off by a relative √(2/number of entries). What is no draw of mean zero, or too few
    numbers to tell, is refused. Say what it was where you know it.

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
            activation in front of the first layer or after the last, a ``bias_std`` for layers without biases, and
            parameters whose law cannot be told (constant biases, an identity, few weights of no usual law).
    """
    layers, activations = dense_layers(model)
    weights = (
        (None,) * len(layers) if weight_std is None else numbers_per_layer("weight_std", weight_std, len(layers), True)
    )
    biases = (None,) * len(layers) if bias_std is None else numbers_per_layer("bias_std", bias_std, len(layers), False)
    for index, (layer, std) in enumerate(zip(layers, biases, strict=True)):
        if std and layer.bias is None:
            raise ModelError(f"bias_std is {std:g} for dense layer {index}, which has no biases: pass 0 for it.")
    laws = _laws(model, layers, weights, biases)
    read = tuple(_layer(m, law, w, b) for m, law, w, b in zip(layers, laws, weights, biases, strict=True))
    return Limit(read, activations, layers[0].weight.shape[1])


@default_device_aside()
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


def _laws(model: nn.Module, layers: list[Dense], weights: Sequence[Any], biases: Sequence[Any]) -> list[_Law]:
    """The variances of each layer's weight and bias entries; zero where a standard deviation is given."""
    own = _own_laws(model, layers)
    names = [f"dense layer {i} ({layer.weight.shape[1]} to {layer.weight.shape[0]})" for i, layer in enumerate(layers)]
    unknown = [
        (layer.weight if w is None else None, layer.bias if b is None else None)
        for layer, w, b in zip(layers, weights, biases, strict=True)
    ]
    weight = weight_variances([u[0] for u in unknown], [law[0] for law in own], _usual_laws(layers), names)
    bias = bias_variances([u[1] for u in unknown], [law[1] for law in own], names)
    return list(zip(weight, bias, strict=True))


def _own_laws(model: nn.Module, layers: list[Dense]) -> list[_Law]:
    """The laws that such layers draw from; an MLP's have one parametrization, the likelier of two."""
    if not isinstance(model, MLP):
        own = [1.0 if isinstance(layer, ScaledLinear) else 1.0 / (3.0 * layer.weight.shape[1]) for layer in layers]
        return list(zip(own, own, strict=True))
    activation = by_name(model.activation_name)
    gains = [1.0 if activation is None else activation.gain] * (len(layers) - 1) + [1.0]
    standard = [gain**2 / layer.weight.shape[1] for layer, gain in zip(layers, gains, strict=True)]
    weights = [layer.weight for layer in layers]
    if sum(surprise(w, 1.0) for w in weights) <= sum(surprise(w, v) for w, v in zip(weights, standard, strict=True)):
        return [(1.0, 1.0)] * len(layers)
    return [(variance, _MLP_BIAS_STD**2) for variance in standard]


def _usual_laws(layers: list[Dense]) -> list[list[float]]:
    """The variances, in each layer, of He's law (by either side), LeCun's, Glorot's and the orthogonal one."""
    if any(isinstance(layer, ScaledLinear) for layer in layers):
        return []
    shapes = [tuple(layer.weight.shape) for layer in layers]
    laws = [(2.0 / n, 2.0 / m, 1.0 / n, 2.0 / (n + m), 1.0 / max(n, m)) for m, n in shapes]
    return [list(law) for law in zip(*laws, strict=True)]


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

"""The dense layers and activations of a finite network, in order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.infinite.activations import NAMES, Activation, Erf, Linear, Rectifier, by_name
from whichmin.networks.mlp import MLP, ScaledLinear

Dense = nn.Linear | ScaledLinear

#: The modules that a limit can be read off, as an error message lists them.
_SUPPORTED = "nn.Linear, nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten, whichmin.infinite.ErfActivation, nn.Sequential"


class ErfActivation(nn.Module):
    """The error function as a module, for an ``nn.Sequential`` whose limit is wanted."""

    def forward(self, x: Tensor) -> Tensor:
        """erf(x), elementwise."""
        return torch.erf(x)


def dense_layers(model: nn.Module) -> tuple[list[Dense], tuple[Activation, ...]]:
    """The dense layers from input to output, and the activations between them.

    Raises:
        ModelError: a module that is not supported (named), layers that do not fit together or are used twice, an
            activation in front of the first layer or after the last.
    """
    return _mlp(model) if isinstance(model, MLP) else _sequential(model)


def _mlp(model: MLP) -> tuple[list[Dense], tuple[Activation, ...]]:
    activation = by_name(model.activation_name)
    if activation is None:
        raise ModelError(
            f"the network's activation is {model.activation_name!r}, which has no closed form here; expected one of "
            f"{', '.join(NAMES)}."
        )
    layers: list[Dense] = [layer for layer in model.layers if isinstance(layer, ScaledLinear)]
    return layers, (activation,) * (len(layers) - 1)


def _sequential(model: nn.Module) -> tuple[list[Dense], tuple[Activation, ...]]:
    layers: list[Dense] = []
    activations: list[Activation | None] = []
    for name, module in _leaves(model, ""):
        if isinstance(module, nn.Linear | ScaledLinear):
            _check_fits(layers, module, name)
            if layers and len(activations) < len(layers):
                activations.append(Linear())
            layers.append(module)
        elif not isinstance(module, nn.Identity | nn.Flatten):
            activation = _activation(module, name)
            if len(activations) == len(layers):
                where = "after another activation" if layers else "in front of the first nn.Linear"
                raise ModelError(f"layer {name!r} ({type(module).__name__}) comes {where}: put an nn.Linear between.")
            activations.append(activation)
        elif isinstance(module, nn.Flatten) and (layers or module.start_dim != 1 or module.end_dim != -1):
            raise ModelError(
                f"layer {name!r} ({module}) is supported in front of the first nn.Linear, with its defaults."
            )
    if not layers:
        raise ModelError(f"got {type(model).__name__} without an nn.Linear; expected an nn.Sequential of {_SUPPORTED}.")
    if len(activations) == len(layers):
        raise ModelError("the network ends in an activation; expected it to end in an nn.Linear.")
    return layers, tuple(a for a in activations if a is not None)


def _leaves(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        prefix = f"{name}." if name else ""
        return [leaf for i, child in enumerate(module) for leaf in _leaves(child, f"{prefix}{i}")]
    return [(name or type(module).__name__, module)]


def _activation(module: nn.Module, name: str) -> Activation:
    if isinstance(module, nn.ReLU):
        return Rectifier()
    if isinstance(module, nn.LeakyReLU):
        return Rectifier(module.negative_slope)
    if isinstance(module, ErfActivation):
        return Erf()
    raise ModelError(
        f"layer {name!r} ({type(module).__name__}) is not supported; expected one of {_SUPPORTED}, or a "
        "whichmin.networks.MLP."
    )


def _check_fits(layers: list[Dense], module: Dense, name: str) -> None:
    if any(module is layer or module.weight is layer.weight for layer in layers):
        raise ModelError(
            f"layer {name!r} shares its weights with an earlier layer: the limit needs independent layers."
        )
    if layers and layers[-1].weight.shape[0] != module.weight.shape[1]:
        raise ModelError(
            f"layer {name!r} expects {module.weight.shape[1]} inputs and gets {layers[-1].weight.shape[0]} from the "
            "layer before."
        )

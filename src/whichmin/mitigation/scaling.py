"""A network at another scale: every layer's parameters, and so its outputs, multiplied by α while it trains."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from whichmin.errors import InputError, ModelError
from whichmin.inputs import AnyInputs
from whichmin.tangent.copying import private_copy
from whichmin.tangent.model import evaluate

#: Outputs of a scaled network and of one with scaled weights agree to this many rounding units of the largest output.
AGREE = 1e4
#: Rows on which that is looked at.
ROWS = 4


class Scale(nn.Module):
    """The parametrization p ↦ α p.

    Args:
        scale: α.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, p: Tensor) -> Tensor:
        """Returns α p."""
        return self.scale * p


def check_scale(scale: float) -> float:
    """A scale as a number.

    Raises:
        InputError: it is not positive and finite.
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale is {scale!r}; expected a positive number, where 1 is the network as it is.")
    return float(scale)


def scaled(model: nn.Module, scale: float, X: AnyInputs) -> nn.Module:
    """A copy whose layers' parameters are α times what is trained.

    The trained parameters start as the model's own. A layer that is linear in its parameters, such as a dense one, a
    convolution, an embedding or the gain and shift of a normalization, so has α times its outputs: with L of them,
    f₀ and the tangent features of a network of rectifiers scale as α^L, the kernel as α^{2L}.

    Args:
        model: the network; it is not changed.
        scale: α.
        X: some inputs, for the check that all layers use what was scaled.

    Raises:
        InputError: a scale that is not positive.
        ModelError: a layer that cannot be scaled; names it.
    """
    check_scale(scale)
    network = _with_own_classes(private_copy(model))
    for owner in list(network.modules()):
        _scale_parameters(owner, scale)
    if scale != 1:
        _check(model, network, scale, X[:ROWS])
    return network


def unscaled(network: nn.Module) -> nn.Module:
    """A scaled network as an ordinary one of the same architecture: α goes into its parameters. Done in place."""
    factors: dict[int, float] = {}
    _with_own_classes(network)
    for module in list(network.modules()):
        if not parametrize.is_parametrized(module):
            continue
        for name, steps in list(module.parametrizations.items()):  # type: ignore[union-attr]
            if len(steps) == 1 and isinstance(steps[0], Scale):
                factors[id(steps.original)] = steps[0].scale
                parametrize.remove_parametrizations(module, name, leave_parametrized=False)
    with torch.no_grad():
        for p in network.parameters():
            p *= factors.get(id(p), 1.0)
    return network


def _scale_parameters(owner: nn.Module, scale: float) -> None:
    """Scale the floating-point parameters that a module owns itself."""
    for name in [n for n, p in owner._parameters.items() if p is not None and p.is_floating_point()]:
        parametrize.register_parametrization(owner, name, Scale(scale), unsafe=True)


def _with_own_classes(network: nn.Module) -> nn.Module:
    """The network, its parametrized modules of classes of their own.

    A parametrization is a property of a module's class, and copies of the module share that class: adding or removing
    one would do so in all of them.
    """
    for module in network.modules():
        if parametrize.is_parametrized(module):
            shared = type(module)
            own = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
            module.__class__ = type(shared.__name__, shared.__bases__, own)  # pyright: ignore
    return network


def _check(model: nn.Module, network: nn.Module, scale: float, X: AnyInputs) -> None:
    """Refuse a network that computes with other parameters than those that were scaled.

    Raises:
        ModelError: names the first such layer.
    """
    with torch.no_grad():
        if _agree(evaluate(network, X), evaluate(unscaled(private_copy(network)), X)):
            return
    for name, _ in model.named_modules():
        alone = _with_own_classes(private_copy(model))
        owner = alone.get_submodule(name)
        _scale_parameters(owner, scale)
        with torch.no_grad():
            if not _agree(evaluate(alone, X), evaluate(unscaled(private_copy(alone)), X)):
                kind = type(model.get_submodule(name)).__name__
                raise ModelError(
                    f"layer {name or kind!r}, a {kind}, cannot be scaled: it keeps its parameters where "
                    "parametrizations do not reach them. Leave scale_search out of methods."
                )
    raise ModelError(
        f"{type(model).__name__} cannot be scaled: with all layers scaled it computes something else than with scaled "
        "weights. Leave scale_search out of methods."
    )


def _agree(one: Tensor, other: Tensor) -> bool:
    size = float(one.abs().max().clamp(min=torch.finfo(one.dtype).tiny))
    return float((one - other).abs().max()) <= AGREE * torch.finfo(one.dtype).eps * size

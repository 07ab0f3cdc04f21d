"""A network at another scale: every layer's parameters, and so its outputs, multiplied by α while it trains."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_map

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


class ScaledOutput:
    """The forward hook z ↦ α z: what scaled parameters do to the output of a layer that is linear in them, sooner.

    Args:
        scale: α.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Returns α z."""
        return self.scale * output


def scaled(model: nn.Module, scale: float, X: AnyInputs) -> nn.Module:
    """A copy whose layers' parameters are α times what is trained.

    The trained parameters start as the model's own. A layer that is linear in its parameters, such as a dense one, a
    convolution, an embedding or the gain and shift of a normalization, so has α times its outputs: with L of them,
    f₀ and the tangent features of a network of rectifiers scale as α^L, the kernel as α^{2L}. Such layers get a factor
    at their output, all others parametrizations.

    Args:
        model: the network; it is not changed.
        scale: α.
        X: some inputs, for the check that all layers use what was scaled.

    Raises:
        InputError: a scale that is not positive.
        ModelError: a layer that cannot be scaled; names it.
    """
    check_scale(scale)
    some = X[:ROWS]
    for linear in (_linear_layers(model, some), frozenset()):
        network = _with_own_classes(private_copy(model))
        for name, owner in list(network.named_modules()):
            if name in linear:
                owner.register_forward_hook(ScaledOutput(scale))
            else:
                _scale_parameters(owner, scale)
        if scale == 1 or _is_as_scaled_weights(network, some):
            return network
    raise ModelError(_what_cannot_be_scaled(model, scale, some))


def unscaled(network: nn.Module) -> nn.Module:
    """A scaled network as an ordinary one of the same architecture: α goes into its parameters. Done in place."""
    factors: dict[int, float] = {}
    _with_own_classes(network)
    for module in list(network.modules()):
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, ScaledOutput):
                del module._forward_hooks[key]
                factors |= {id(p): hook.scale for p in module._parameters.values() if p is not None}
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


def _linear_layers(model: nn.Module, X: AnyInputs) -> frozenset[str]:
    """The layers that are called and whose outputs double with the parameters that they own.

    Cost: a forward pass, and one more of each layer.
    """
    network = private_copy(model)
    calls: dict[str, tuple[Any, Any, Tensor]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                calls.setdefault(name, (*_copied((args, kwargs)), output.clone()))

        return hook

    owners = {name: m for name, m in network.named_modules() if any(map(_is_scalable, m._parameters.values()))}
    hooks = [m.register_forward_hook(note(name), with_kwargs=True) for name, m in owners.items()]
    with torch.no_grad():
        evaluate(network, X)
        for hook in hooks:
            hook.remove()
        return frozenset(name for name, call in calls.items() if _doubles(owners[name], *call))


def _doubles(layer: nn.Module, args: Any, kwargs: Any, output: Tensor) -> bool:
    """Whether a call's output doubles with the parameters that the layer owns; they are as before afterwards."""
    own = [p for p in layer._parameters.values() if p is not None and _is_scalable(p)]
    for p in own:
        p *= 2.0
    doubled = layer(*args, **kwargs)
    for p in own:
        p *= 0.5
    return isinstance(doubled, Tensor) and doubled.shape == output.shape and _agree(doubled, 2.0 * output)


def _copied(value: Any) -> Any:
    """A tree of arguments with copies of its tensors, which later layers may write into."""
    return tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, value)


def _is_scalable(p: Tensor | None) -> bool:
    return p is not None and p.is_floating_point()


def _scale_parameters(owner: nn.Module, scale: float) -> None:
    """Scale the floating-point parameters that a module owns itself."""
    for name in [n for n, p in owner._parameters.items() if _is_scalable(p)]:
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


def _is_as_scaled_weights(network: nn.Module, X: AnyInputs) -> bool:
    """Whether a scaled network computes what the one with scaled weights does."""
    with torch.no_grad():
        return _agree(evaluate(network, X), evaluate(unscaled(private_copy(network)), X))


def _what_cannot_be_scaled(model: nn.Module, scale: float, X: AnyInputs) -> str:
    """Which layer computes with other parameters than those that were scaled, a sentence."""
    for name, _ in model.named_modules():
        alone = _with_own_classes(private_copy(model))
        _scale_parameters(alone.get_submodule(name), scale)
        if not _is_as_scaled_weights(alone, X):
            kind = type(model.get_submodule(name)).__name__
            return (
                f"layer {name or kind!r}, a {kind}, cannot be scaled: it keeps its parameters where parametrizations "
                "do not reach them. Leave scale_search out of methods."
            )
    return (
        f"{type(model).__name__} cannot be scaled: with all layers scaled it computes something else than with scaled "
        "weights. Leave scale_search out of methods."
    )


def _agree(one: Tensor, other: Tensor) -> bool:
    size = float(one.abs().max().clamp(min=torch.finfo(one.dtype).tiny))
    return float((one - other).abs().max()) <= AGREE * torch.finfo(one.dtype).eps * size

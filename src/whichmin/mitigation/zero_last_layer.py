"""A last layer of zeros: the network starts at zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from whichmin.errors import ModelError
from whichmin.inputs import AnyInputs
from whichmin.mitigation.method import NetworkMethod
from whichmin.mitigation.work import Work
from whichmin.tangent.copying import private_copy
from whichmin.tangent.model import evaluate

#: Rows on which the outputs are looked at.
ROWS = 4


@dataclass(frozen=True)
class ZeroLastLayer(NetworkMethod):
    """The parameters of the last layer are zero at the start: f₀ = 0, and at first the last layer alone learns."""

    name = "zero_last_layer"
    summary = "Start from a last layer of zeros."

    def network(self, work: Work) -> nn.Module:
        """The network with zeros in the last layer with parameters that runs.

        Of a module with parameters of its own and layers within, such as a transformer with positions, it is the last
        one within, unless zeros in the module's own make the outputs zero.

        Raises:
            ModelError: its outputs are not zero then.
        """
        network, X = private_copy(work.model), work.task.X[:ROWS]
        layers = {name: m for name, m in network.named_modules() if any(True for _ in m.parameters(recurse=False))}
        order = _called(network, layers, X)
        for i, name in reversed(list(enumerate(order))):
            parameters = list(layers[name].parameters(recurse=False))
            values = [p.detach().clone() for p in parameters]
            with torch.no_grad():
                for p in parameters:
                    p.zero_()
                left = float(evaluate(network, X).abs().max())
            if left == 0:
                return network
            if i == 0 or not _is_within(order[i - 1], name):
                raise ModelError(
                    f"the last layer that runs is {name or type(network).__name__!r}, and with zeros in it outputs are "
                    f"up to {left:.2g}: they do not come from it alone, so it cannot be set to zero."
                )
            with torch.no_grad():
                for p, value in zip(parameters, values, strict=True):
                    p.copy_(value)
        raise ModelError(f"no layer of {type(network).__name__} is called as a module: the last one is not known.")


def _called(network: nn.Module, layers: Mapping[str, nn.Module], X: AnyInputs) -> list[str]:
    """The names of the layers in the order in which their calls end."""
    order: list[str] = []

    def note(name: str) -> Any:
        return lambda *_: order.append(name)

    hooks = [m.register_forward_hook(note(name)) for name, m in layers.items()]
    try:
        with torch.no_grad():
            evaluate(network, X)
    finally:
        for hook in hooks:
            hook.remove()
    return order


def _is_within(inner: str, outer: str) -> bool:
    """Whether a module, by its name, is part of another one, which has parameters of its own, such as positions."""
    return not outer or inner.startswith(f"{outer}.")

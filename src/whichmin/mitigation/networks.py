"""The networks that remedies leave: modules made of copies of a network, which train, predict and save as any other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.inputs import AnyInputs, Inputs, Output, called, picked
from whichmin.tangent.autograd import jvp
from whichmin.tangent.copying import merge_shared, private_copy
from whichmin.tangent.model import trainable


class Composed(nn.Module):
    """A network made of others. It returns a tensor: of what they return it takes the output that is meant.

    Args:
        output: which one; None for what is found by itself.
    """

    def __init__(self, output: Output | None) -> None:
        super().__init__()
        self._output = output

    def _of(self, network: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        return picked(network(*args, **kwargs), self._output)


class AntisymmetricNetwork(Composed):
    """(f(θ, x) − f(θ', x))/√2 with θ = θ' at the start: zero there, with the tangent kernel of f.

    Args:
        network: f; it is copied twice.
        output: as for :class:`Composed`.
    """

    def __init__(self, network: nn.Module, output: Output | None = None) -> None:
        super().__init__(output)
        self.plus, self.minus = private_copy(network), private_copy(network)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The outputs, (n, …)."""
        return (self._of(self.plus, args, kwargs) - self._of(self.minus, args, kwargs)) / math.sqrt(2.0)


class CenteredNetwork(Composed):
    """f(θ, x) − f(θ₀, x): zero at the start, with the tangent kernel of f.

    Args:
        network: f at θ₀; it is copied twice, and one of the copies is never trained.
        output: as for :class:`Composed`.
    """

    def __init__(self, network: nn.Module, output: Output | None = None) -> None:
        super().__init__(output)
        self.network, self.start = private_copy(network), private_copy(network).requires_grad_(False)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The outputs, (n, …)."""
        return self._of(self.network, args, kwargs) - self._of(self.start, args, kwargs)


class SubtractedNetwork(Composed):
    """f(θ, x) − [f(θ₀, x) − J₀(x) v]: a trained network less its initialization term.

    With v = J₀(X)ᵀ K⁺ f₀(X) the bracket is f₀(x) − K(x, X) K⁺ f₀(X), the part of the untrained network that training
    cannot see. A prediction costs a forward pass of the trained network and one with its derivative along v.

    Args:
        network: f at θ, trained; it is copied.
        start: the same network at θ₀; it is copied.
        direction: v by parameter, of all trainable parameters.
        output: as for :class:`Composed`.
    """

    def __init__(
        self, network: nn.Module, start: nn.Module, direction: Mapping[str, Tensor], output: Output | None = None
    ) -> None:
        super().__init__(output)
        self.network, self.start = private_copy(network), private_copy(start)
        merge_shared(self.start)
        self._moved = tuple(trainable(self.start))
        self.direction = private_copy(self.start).requires_grad_(False)
        self.start.requires_grad_(False)
        with torch.no_grad():
            for name in self._moved:
                self.direction.get_parameter(name).copy_(direction[name])

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The outputs, (n, …)."""
        f = self._of(self.network, args, kwargs)
        return f - self.initialization(_inputs(args, kwargs, self._output)).reshape(f.shape).to(f)

    def initialization(self, X: AnyInputs) -> Tensor:
        """The initialization term f₀(x) − J₀(x) v, (n, C)."""
        with torch.no_grad():
            f0 = called(self.start, X).reshape(len(X), -1)
        at = {name: self.start.get_parameter(name) for name in self._moved}
        v = {name: self.direction.get_parameter(name).detach() for name in self._moved}
        return f0 - jvp(self.start, at, X, v)


class EnsembleNetwork(Composed):
    """The mean of several networks, (1/k) Σ f_i(x).

    Args:
        members: f_1 … f_k; each is copied.
        output: as for :class:`Composed`.
    """

    def __init__(self, members: Sequence[nn.Module], output: Output | None = None) -> None:
        super().__init__(output)
        self.members = nn.ModuleList(map(private_copy, members))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The outputs, (n, …)."""
        return torch.stack([self._of(member, args, kwargs) for member in self.members]).mean(dim=0)


def _inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Output | None) -> AnyInputs:
    """The arguments of a call as inputs.

    Raises:
        ModelError: positional and keyword arguments together.
    """
    if args and kwargs:
        raise ModelError("got positional and keyword arguments together: pass all by name, or all by position.")
    if kwargs:
        return Inputs(dict(kwargs), output)
    return args[0] if len(args) == 1 and output is None else Inputs(args, output)

"""What a kind of layer has to say: where it is called, and what its parameter's part of J is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from whichmin.tangent.layers.grams import Grams
from whichmin.tangent.layers.matrix_products import MatrixProducts

#: So many numbers of gradients of every row are made at once where only their sum is wanted.
PULLED = 2**23


class Layer(ABC):
    """How one call uses one parameter: a kind of layer, with the settings of the call.

    A new kind implements :meth:`calls` and :meth:`gradient`, which is all that its kernel needs, and is entered in
    ``layers.registry``. :meth:`add_gram` and :meth:`products` are for kinds that know a shorter way.
    """

    @classmethod
    @abstractmethod
    def calls(cls) -> Mapping[Any, Recognizer]:
        """The functions of torch that are calls of this kind, each with its recognizer."""

    @abstractmethod
    def gradient(self, factor: Factor, shape: tuple[int, ...], lo: int, hi: int) -> Tensor:
        """∂f_c(x_i)/∂(parameter[lo:hi]), (C, n, hi − lo, …); of a parameter without axes the whole, (C, n).

        Args:
            factor: the call, this layer's.
            shape: the parameter's.
            lo: the first entry of the parameter's first axis.
            hi: the entry after the last.
        """

    #: Which matrix of a parameter with three axes the call uses; None for the whole parameter.
    entry: int | None = None

    #: Whether :meth:`of_entry` is there.
    takes_entries = False

    #: Whether a row may have several positions, its input (n, T, …) and gradient (C, n, T, …).
    takes_positions = True

    def positions(self, shape: tuple[int, ...], parameter: tuple[int, ...]) -> int:
        """Over how many leading axes of the output, of a shape, the call does the same to every position.

        Args:
            shape: the output's.
            parameter: the parameter's.
        """
        return len(shape) - 1

    def given(self, input: Tensor, shape: tuple[int, ...]) -> tuple[Layer, Tensor]:
        """The layer and its input as they are when positions are rearranged, for an output of a shape."""
        return self, input

    def transposed(self) -> Layer | None:
        """This layer when the parameter entered the call as its transpose; None where that has no meaning."""
        return None

    def of_entry(self, entry: int) -> Layer:
        """This layer when one matrix of a parameter with three axes entered the call."""
        raise NotImplementedError

    def unfolded(self, factor: Factor, shape: tuple[int, ...]) -> Factor:
        """The same part of J as a use by a layer that has a shorter way to the kernel, or the factor itself.

        Args:
            factor: the call, this layer's.
            shape: the parameter's.
        """
        return factor

    def has_gram(self, left: Factor, right: Factor) -> bool:
        """Whether :meth:`add_gram` is there for these, and cheaper than gradients."""
        return False

    def add_gram(self, K: Tensor, left: Factor, right: Factor, weight: float, grams: Grams) -> None:
        """Add weight·J(left) J(right)ᵀ to K, (C·n₁, C·n₂), without gradients of the parameter."""
        raise NotImplementedError

    def pull(self, factor: Factor, shape: tuple[int, ...], c: Tensor) -> Tensor:
        """Jᵀc by this use, of the parameter's shape; c is (n, C).

        From gradients of every row; layers that meet many weights know a shorter way.
        """
        first, C_n = (shape[0] if shape else 1), factor.gradient.shape[0] * factor.gradient.shape[1]
        step = max(1, PULLED // max(1, C_n * math.prod(shape[1:])))
        parts = []
        for lo in range(0, first, step):
            rows = self.gradient(factor, shape, lo, min(first, lo + step))
            parts.append(torch.einsum("nc,cn...->...", c.to(rows), rows).reshape(-1))
        return torch.cat(parts).view(shape)

    def products(self, factor: Factor, columns: Tensor | None = None) -> MatrixProducts | None:
        """Jᵀc and J v by matrix products; None where automatic differentiation is as good.

        Args:
            factor: the call, this layer's.
            columns: which of the parameter's last axis to keep; None for all.
        """
        return None


@dataclass(frozen=True, eq=False)
class Part:
    """What a recognizer says of one parameter of a call.

    Attributes:
        parameter: the tensor in the parameter's place; it may turn out to be none that is trained.
        layer: how the call uses it.
        input: what it meets, (N, …); None where it meets nothing.
    """

    parameter: Tensor
    layer: Layer
    input: Tensor | None = None


#: From the arguments of a call to its parts; None where the arguments are of a sort that is not known.
Recognizer = Callable[..., "list[Part] | None"]


@dataclass(frozen=True, eq=False)
class Use:
    """One call in which a parameter appears.

    Attributes:
        parameter: its name.
        layer: how it is used.
        input: what the parameter met, detached, (N, …); None where it met nothing.
        edge: the call's output in the autograd graph.
        shape: the output's shape, (N, …).
        version: the input's version at the call.
        is_fixed: whether no parameter moves the input.
        is_cacheable: whether its output may be followed in place of the weight (see ``cached_layer``).
    """

    parameter: str
    layer: Layer
    input: Tensor | None
    edge: GradientEdge
    shape: tuple[int, ...]
    version: int = 0
    is_fixed: bool = False
    is_cacheable: bool = False

    @property
    def intact(self) -> bool:
        """Whether the input still holds what it held at the call (nothing wrote into it since)."""
        return self.input is None or self.input._version == self.version


@dataclass(frozen=True, eq=False)
class Factor:
    """A use together with the gradients at its output.

    Attributes:
        use: the call.
        gradient: ∂f_c/∂output, (C, n, …).
    """

    use: Use
    gradient: Tensor

    @property
    def input(self) -> Tensor:
        """What the parameter met, of a layer that has an input."""
        assert self.use.input is not None
        return self.use.input

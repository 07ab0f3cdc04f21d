"""What an activation does to the correlation of two Gaussian signals: the dual activations, in closed form.

Two jointly Gaussian signals are known by their second moments p₁, p₂ and the *deficit* D = 1 − ρ of their correlation.
The deficit rather than the correlation ρ, because the angle between near-identical inputs is √(2D): from ρ, rounded
near one, it would be known to eight digits only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

#: Three buffers of the shape of a tile.
Work = tuple[Tensor, Tensor, Tensor]


class Activation(Protocol):
    """An activation φ whose Gaussian expectations are known in closed form."""

    @property
    def gain(self) -> float:
        """The weight_std that keeps the size of the signal."""
        ...

    def moment(self, p: Tensor) -> Tensor:
        """E[φ(z)²] for z ~ N(0, p), elementwise."""
        ...

    def apply_(self, deficit: Tensor, p1: Tensor, p2: Tensor, tangent: Tensor | None, work: Work) -> None:
        """Go through the activation, in place.

        Args:
            deficit: 1 − ρ of the two signals, (n1, n2); overwritten by that of φ of the signals.
            p1: second moments of the rows' signals, (n1,).
            p2: second moments of the columns' signals, (n2,).
            tangent: multiplied by E[φ'(z₁) φ'(z₂)], (n1, n2); None where no tangent kernel is asked for.
            work: three buffers of the shape of ``deficit``, overwritten.
        """
        ...


@dataclass(frozen=True)
class Rectifier:
    """ReLU (slope 0) and leaky ReLU, φ(z) = max(z, 0) + slope · min(z, 0).

    With θ = arccos ρ the deficit becomes D − w (sin θ − θ cos θ), w = (1 − slope)²/(π (1 + slope²)), and
    E[φ'φ'] = (1 + slope²)/2 − (1 − slope)² θ/(2π) (Cho and Saul 2009, arc-cosine kernels; Tsuchida et al. 2018).

    Args:
        slope: of the negative side.
    """

    slope: float = 0.0

    @property
    def gain(self) -> float:
        """√(2/(1 + slope²))."""
        return math.sqrt(2.0 / (1.0 + self.slope**2))

    def moment(self, p: Tensor) -> Tensor:
        """(1 + slope²)/2 · p."""
        return p * ((1.0 + self.slope**2) / 2.0)

    def apply_(self, deficit: Tensor, p1: Tensor, p2: Tensor, tangent: Tensor | None, work: Work) -> None:
        """See :meth:`Activation.apply_`."""
        bend, size = (1.0 - self.slope) ** 2, 1.0 + self.slope**2
        sine, cosine, angle = work
        torch.sub(deficit.new_tensor(2.0), deficit, out=sine)
        sine.mul_(deficit).sqrt_()
        torch.sub(deficit.new_tensor(1.0), deficit, out=cosine)
        torch.atan2(sine, cosine, out=angle)
        sine.addcmul_(angle, cosine, value=-1.0)
        deficit.sub_(sine, alpha=bend / (math.pi * size)).clamp_(min=0.0)
        if tangent is not None:
            tangent.mul_(angle.mul_(-bend / (2.0 * math.pi)).add_(size / 2.0))


@dataclass(frozen=True)
class Erf:
    """The error function.

    E[φφ] = (2/π) arctan(2S/√R) and E[φ'φ'] = (4/π)/√R with S = E[z₁z₂] and R = (1 + 2p₁)(1 + 2p₂) − 4S², computed as
    1 + 2p₁ + 2p₂ + 4p₁p₂D(2 − D), which does not cancel (Williams 1996).
    """

    @property
    def gain(self) -> float:
        """1, as in :data:`whichmin.networks.ACTIVATIONS`."""
        return 1.0

    def moment(self, p: Tensor) -> Tensor:
        """(2/π) arcsin(2p/(1 + 2p))."""
        return torch.atan(2.0 * p / torch.sqrt(1.0 + 4.0 * p)) * (2.0 / math.pi)

    def apply_(self, deficit: Tensor, p1: Tensor, p2: Tensor, tangent: Tensor | None, work: Work) -> None:
        """See :meth:`Activation.apply_`."""
        root, twice, _ = work
        torch.sub(deficit.new_tensor(2.0), deficit, out=root)
        root.mul_(deficit).mul_(4.0 * p1[:, None]).mul_(p2[None, :])
        root.add_(1.0 + 2.0 * p1[:, None]).add_(2.0 * p2[None, :]).sqrt_()
        torch.sub(deficit.new_tensor(1.0), deficit, out=twice)
        twice.mul_(2.0 * p1[:, None].sqrt()).mul_(p2[None, :].sqrt())
        torch.atan2(twice, root, out=deficit)
        if tangent is not None:
            tangent.div_(root).mul_(4.0 / math.pi)
        for moment, axis in ((self.moment(p1), 1), (self.moment(p2), 0)):
            deficit.mul_(torch.where(moment > 0, moment.rsqrt(), 0.0).unsqueeze(axis))
        deficit.mul_(-2.0 / math.pi).add_(1.0).clamp_(0.0, 2.0)


@dataclass(frozen=True)
class Linear:
    """The identity, φ(z) = z: nothing changes."""

    @property
    def gain(self) -> float:
        """1."""
        return 1.0

    def moment(self, p: Tensor) -> Tensor:
        """The same p."""
        return p

    def apply_(self, deficit: Tensor, p1: Tensor, p2: Tensor, tangent: Tensor | None, work: Work) -> None:
        """See :meth:`Activation.apply_`."""


#: The names of the activations with a closed form, as ``whichmin.networks`` and :class:`FullyConnected` spell them.
NAMES = ("relu", "leaky_relu", "erf", "linear")


def by_name(name: str, negative_slope: float = 0.01) -> Activation | None:
    """The activation of that name; None where there is no closed form."""
    known: dict[str, Activation] = {
        "relu": Rectifier(),
        "leaky_relu": Rectifier(negative_slope),
        "erf": Erf(),
        "linear": Linear(),
    }
    return known.get(name)

"""J written out by plain autograd, beside the features that never form it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from oracles.zoo import build, plain_jacobian
from whichmin.tangent.features import Features, features_of
from whichmin.tangent.model import trainable


@dataclass(frozen=True)
class Problem:
    """Features of one network at two sets of inputs, and the Jacobians.

    Attributes:
        model: the network.
        left: at 5 rows.
        right: at 3 rows.
        J: ∂f_c(x_i)/∂θ at the first rows, (n, C, *shape) by parameter.
        J_right: at the second.
    """

    model: nn.Module
    left: Features
    right: Features
    J: dict[str, Tensor]
    J_right: dict[str, Tensor]

    @classmethod
    def of(cls, name: str, outputs: int) -> Problem:
        """A network of the zoo."""
        model, X = build(name, outputs, 5)
        _, Z = build(name, outputs, 3, seed=1)
        left, right = (features_of(model, trainable(model), x) for x in (X, Z))
        return cls(model, left, right, *_jacobians(name, outputs))

    def metric(self) -> dict[str, Tensor | float]:
        """Numbers and tensors by turns."""
        g = torch.Generator().manual_seed(3)
        return {
            n: 0.5 + 0.1 * i if i % 2 else torch.rand(p.shape, dtype=torch.float64, generator=g) + 0.1
            for i, (n, p) in enumerate(self.left.parameters.items())
        }

    def direction(self, seed: int = 5) -> dict[str, Tensor]:
        """A random vector in parameter space."""
        g = torch.Generator().manual_seed(seed)
        return {n: torch.randn(p.shape, dtype=torch.float64, generator=g) for n, p in self.left.parameters.items()}


@cache
def _jacobians(name: str, outputs: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of the network of a problem at both inputs; nobody may change them."""
    model, X = build(name, outputs, 5)
    _, Z = build(name, outputs, 3, seed=1)
    return plain_jacobian(model, X), plain_jacobian(model, Z)


def multiplied(J: dict[str, Tensor], v: dict[str, Tensor]) -> Tensor:
    """J v, (n, C), of the parameters that v names."""
    return torch.stack([(J[n] * v[n]).flatten(2).sum(2) for n in v]).sum(0)


def pulled(J: dict[str, Tensor], c: Tensor) -> dict[str, Tensor]:
    """Jᵀc for c (n, C)."""
    return {n: torch.einsum("nc,nc...->...", c, j) for n, j in J.items()}


def gram(J: dict[str, Tensor], other: dict[str, Tensor], metric: dict[str, Tensor | float] | None = None) -> Tensor:
    """J D J'ᵀ, (n₁, n₂, C, C)."""
    parts = []
    for n, j in J.items():
        weighted = j if metric is None else j * metric[n]
        parts.append(torch.einsum("icp,jdp->ijcd", weighted.flatten(2), other[n].flatten(2)))
    return torch.stack(parts).sum(0)

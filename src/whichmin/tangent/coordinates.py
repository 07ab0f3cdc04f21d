"""The coordinates that training moves.

A first layer's weight does not move where its inputs are zero on the whole training set, as at the borders of images:
vectors in parameter space may leave those columns out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from whichmin.tangent.features import Features
from whichmin.tangent.layers.dense import Dense

#: Columns are left out where the others are no more than this part of all.
WORTH = 0.9


class Coordinates:
    """Which columns of first layers training moves.

    Attributes:
        columns: their numbers, by parameter; parameters that move as a whole are not there.

    Args:
        features: of the training inputs.
    """

    def __init__(self, features: Features) -> None:
        self.columns: dict[str, Tensor] = {}
        for name in features.parameters:
            uses = features.uses(name)
            if len(uses) == 1 and uses[0].use.layer == Dense() and uses[0].use.is_fixed and uses[0].input.ndim == 2:
                moving = (uses[0].input != 0).any(0)
                if float(moving.double().mean()) <= WORTH:
                    self.columns[name] = moving.nonzero()[:, 0]

    def restrict(self, features: Features) -> Features:
        """Features whose directions have only the coordinates that move."""
        return features.by_columns(self.columns)

    def take(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The coordinates that move of vectors in parameter space."""
        return {n: t[:, self.columns[n]] if n in self.columns else t for n, t in tensors.items()}

    def whole(self, direction: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
        """The vector in parameter space: :meth:`take` undone, with zeros where nothing moves."""
        whole = dict(direction)
        for name, columns in self.columns.items():
            whole[name] = torch.zeros_like(parameters[name].detach()).index_add_(1, columns, direction[name])
        return whole

    def add(self, direction: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
        """θ ← θ + direction."""
        for name, p in parameters.items():
            if name in self.columns:
                p.data.index_add_(1, self.columns[name], direction[name])
            else:
                p.data.add_(direction[name])

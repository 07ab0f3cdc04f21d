"""Products with J and Jᵀ in the coordinates that training moves.

A first layer's weight does not move where its inputs are zero on the whole training set, as at the borders of images:
vectors in parameter space leave those columns out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.motion.motion import Array
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.position import Network
from whichmin.tangent.contract import Factor
from whichmin.tangent.factors import Factors
from whichmin.tangent.products import product

#: Columns are left out where they are no more than this part of all.
WORTH = 0.9


class Coordinates:
    """J where a network was linearized last; directions are by parameter, of :meth:`take`'s shapes.

    Args:
        network: moved by somebody else; :meth:`bind` follows.
        factors: of the training set where it stands.
    """

    def __init__(self, network: Network, factors: Factors) -> None:
        self.network = network
        self._columns: dict[str, Tensor] = {}
        for name, fs in factors.by_parameter.items():
            x = fs[0].use.input
            if len(fs) == 1 and fs[0].use.is_first_layer and x is not None:
                seen = (x != 0).any(0)
                if float(seen.double().mean()) <= WORTH:
                    self._columns[name] = seen.nonzero()[:, 0]
        self.bind(factors)

    def bind(self, factors: Factors) -> None:
        """Take J where the network stands now."""
        self.factors = factors
        self._dense = {n: fs[0] for n, fs in factors.by_parameter.items() if len(fs) == 1 and _is_one_token(fs[0])}
        self._inputs = {n: self._input(n, f) for n, f in self._dense.items()}
        self._across = {n: None if x is None else x.T.contiguous() for n, x in self._inputs.items()}
        self._gradients = {n: f.gradient.transpose(1, 2).contiguous() for n, f in self._dense.items()}
        self._rest = [n for n in self.network.named if n not in self._dense]

    def _input(self, name: str, factor: Factor) -> Tensor | None:
        x = factor.use.input
        return x if x is None or name not in self._columns else x[:, self._columns[name]]

    def take(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The coordinates that matter of vectors in parameter space."""
        return {n: t[:, self._columns[n]] if n in self._columns else t for n, t in tensors.items()}

    def whole(self, direction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The vector in parameter space: :meth:`take` undone, with zeros where nothing moves."""
        found = dict(direction)
        for name, columns in self._columns.items():
            found[name] = torch.zeros_like(self.network.named[name]).index_add_(1, columns, direction[name])
        return found

    def add(self, direction: Mapping[str, Tensor]) -> None:
        """θ ← θ + direction."""
        for name, p in self.network.named.items():
            if name in self._columns:
                p.data.index_add_(1, self._columns[name], direction[name])
            else:
                p.data.add_(direction[name])

    def pull(self, c: Array) -> dict[str, Tensor]:
        """Jᵀc for c (N·C,)."""
        outputs = self.factors.outputs
        seed = torch.from_numpy(c).to(outputs).view_as(outputs)
        found: dict[str, Tensor] = {}
        for name, factor in self._dense.items():
            g, x = self._gradients[name], self._across[name]
            weighted = g[0] * seed[:, 0] if len(g) == 1 else torch.einsum("nc,con->on", seed, g)
            if x is None:
                found[name] = weighted.sum(1).view_as(self.network.named[name])
            else:
                found[name] = product(x, weighted) if factor.flipped else product(weighted, x)
        if self._rest:
            values = [self.network.named[n] for n in self._rest]
            grads = torch.autograd.grad(outputs, values, seed, retain_graph=True, allow_unused=True)
            for name, p, g in zip(self._rest, values, grads, strict=True):
                found[name] = torch.zeros_like(p) if g is None else g
        return found

    def push(self, direction: Mapping[str, Tensor]) -> Array:
        """J v, (N·C,)."""
        total = torch.zeros_like(self.factors.outputs.detach())
        for name, factor in self._dense.items():
            v, x = direction[name], self._inputs[name]
            moved = v.reshape(1, -1) if x is None else product(x, v.T if factor.flipped else v)
            total += (factor.gradient * moved).sum(-1).T
        if self._rest:
            rest = {n: direction[n] for n in self._rest}
            zero = {n: torch.zeros(()).to(p).expand_as(p) for n, p in self.network.named.items() if n not in rest}
            total += self.network.push_forward(self.factors, self.network.task.X, rest | zero, without=self._dense)
        return flat(total).numpy().astype(np.float64, copy=False)


def _is_one_token(factor: Factor) -> bool:
    return factor.gradient.ndim == 3 and (factor.is_dense or factor.is_plain_bias)

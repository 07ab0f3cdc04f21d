"""Cholesky's factor of a kernel on disk, in tiles beside it: what conjugate gradients are preconditioned with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin._bars import tqdm
from whichmin.kernels.tiles import KernelTiles

Array = NDArray[np.float64]

#: What is added to the diagonal, in units of ε·λ_max of the tiles' type: the first that lets the factor exist.
SHIFTS = (10.0, 100.0, 1000.0)


@dataclass(frozen=True)
class TileCholesky:
    """L with L Lᵀ = K + δ, in the type of K's tiles, each tile written whole."""

    factor: KernelTiles

    @classmethod
    def of(cls, tiles: KernelTiles, largest: float, progress: bool) -> TileCholesky | None:
        """The factor in a folder of its own in that of K, as far as it is there already; None of an indefinite K.

        Args:
            tiles: K, (n, n), all of them.
            largest: λ_max of K.
            progress: whether to show a progress bar on standard error.

        Cost: n³/3 multiplications in the type of the tiles, n²/2 numbers on disk, memory for four tiles.
        """
        for units in SHIFTS:
            shift = units * torch.finfo(tiles.dtype).eps * largest
            factor = tiles.beside(f"factor-{units:g}")
            if _fill(factor, tiles, shift, progress):
                return cls(factor)
            factor.remove()
        return None

    def __call__(self, v: Array) -> Array:
        """(L Lᵀ)⁻¹ v for v (n, k)."""
        L = self.factor
        x = torch.from_numpy(v).to(L.dtype)
        blocks = [x[i : i + L.tile].clone() for i in L.starts]
        starts = list(L.starts)
        for a, i in enumerate(starts):
            for b, j in enumerate(starts[:a]):
                blocks[a] -= L.read(i, j) @ blocks[b]
            blocks[a] = torch.linalg.solve_triangular(L.read(i, i), blocks[a], upper=False)
        for a in reversed(range(len(starts))):
            blocks[a] = torch.linalg.solve_triangular(L.read(starts[a], starts[a]).T, blocks[a], upper=True)
            for b in range(a):
                blocks[b] -= L.read(starts[a], starts[b]).T @ blocks[a]
        return torch.cat(blocks).double().numpy()


def _fill(L: KernelTiles, K: KernelTiles, shift: float, progress: bool) -> bool:
    """Make the tiles that are missing, a column after the other; whether K + δ is positive definite."""
    missing = sorted(L.missing(), key=lambda tile: tile[::-1])
    for i, j in tqdm(missing, desc="factor", unit="tile", leave=False, disable=not progress or len(missing) < 2):
        left = K.read(i, j).clone()
        for k in range(0, j, L.tile):
            left -= L.read(i, k) @ L.read(j, k).T
        made = torch.linalg.solve_triangular(L.read(j, j), left.T, upper=False).T if i > j else _root(left, shift)
        if made is None:
            return False
        L.write(i, j, made)
    return True


def _root(block: Tensor, shift: float) -> Tensor | None:
    """The factor of a block on the diagonal, computed in float64; None where it is not positive definite."""
    exact = block.double()
    exact.diagonal().add_(shift)
    root, failed = torch.linalg.cholesky_ex(exact)
    return None if int(failed) else root.to(block.dtype)

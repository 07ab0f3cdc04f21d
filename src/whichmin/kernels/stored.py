"""A kernel on disk to solve with: products, Lanczos spaces, and conjugate gradients for its inverse."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from whichmin.jobs.progress import progress_bar
from whichmin.kernels.cg import conjugate_gradients
from whichmin.kernels.tile_cholesky import TileCholesky
from whichmin.kernels.tile_jobs import multiply
from whichmin.kernels.tiles import KernelTiles
from whichmin.kernels.unheld import UnheldSpectrum

if TYPE_CHECKING:
    from whichmin._bars import tqdm

#: Residuals of K⁻¹ are to come below this part of the right-hand side, and are refused above that.
TOLERANCE, REFUSED = 1e-6, 1e-4
#: So many products are made for K⁻¹ at most.
MOST = 200


@dataclass(frozen=True)
class StoredKernel:
    """A kernel in tiles that multiplies as an array does."""

    of: StoredSpectrum

    def dot(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K v for v (N·C,) or (N·C, k)."""
        return self.of.apply(v)

    def __getitem__(self, rows: NDArray[np.int64] | Sequence[int]) -> NDArray[np.float64]:
        """Some rows, (k, N·C)."""
        return self.of.kernel_tiles[rows]


@dataclass(frozen=True, eq=False)
class StoredSpectrum(UnheldSpectrum):
    """Of a kernel in tiles on disk.

    Each product reads all tiles once.

    Attributes:
        tiles: the kernel.
        executor: where products with it are made; here by default.
        progress: whether products with it and factorizing it show progress bars.
    """

    tiles: KernelTiles | None = None
    executor: Executor | None = None
    progress: bool = False

    @classmethod
    def on_disk(
        cls, tiles: KernelTiles, gamma: float, executor: Executor | None = None, progress: bool = False
    ) -> StoredSpectrum:
        """Of these tiles, with γ of the loss."""
        eps = torch.finfo(tiles.dtype).eps
        return cls(torch.empty(0, 0), gamma, eps, tiles, executor, progress)

    @property
    def kernel(self) -> StoredKernel:  # pyright: ignore[reportIncompatibleMethodOverride]
        """K, which multiplies as an array does."""
        return StoredKernel(self)

    @property
    def kernel_tiles(self) -> KernelTiles:
        """The tiles, which are there."""
        assert self.tiles is not None
        return self.tiles

    @property
    def size(self) -> int:
        """N·C."""
        return self.kernel_tiles.size

    @property
    def diagonal(self) -> NDArray[np.float64]:
        """Of the tiles."""
        return self.kernel_tiles.diagonal()

    def apply(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K v for v (N·C,) or (N·C, k)."""
        self._products.update()
        return multiply(self.kernel_tiles, v, self.executor)

    @cached_property
    def _products(self) -> tqdm:
        return progress_bar(None, "product", self.progress, "products with the kernel on disk")

    @cached_property
    def _preconditioner(self) -> TileCholesky:
        found = TileCholesky.of(self.kernel_tiles, self.largest, self.progress)
        if found is None:
            raise self._stagnates(1.0)
        return found

    def solve(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K⁻¹v for v (N·C,) or (N·C, k), by conjugate gradients, with Cholesky's factor in the tiles' type before them.

        Raises:
            SingularKernelError: the residual does not come down.
        """
        columns = v.reshape(len(v), -1)
        x, missed = conjugate_gradients(self.apply, columns, self._preconditioner, TOLERANCE, MOST)
        if not missed <= REFUSED:
            raise self._stagnates(missed)
        return x.reshape(v.shape)

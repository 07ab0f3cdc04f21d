"""A kernel to solve with that is never formed: J(Jᵀv), one backward and one forward-derivative pass over the rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from whichmin._bars import tqdm
from whichmin.errors import MemoryPlanError
from whichmin.jobs.progress import progress_bar
from whichmin.kernels.operator import KernelOperator
from whichmin.kernels.unheld import UnheldSpectrum

#: K⁻¹ leaves over no less than about so many rounding units of a right-hand side: products are rounded.
ROUNDED = 100.0


@dataclass(frozen=True, eq=False)
class MultipliedSpectrum(UnheldSpectrum):
    """Of a kernel as an operator; its inverse acts in Lanczos spaces.

    Attributes:
        operator: the kernel.
        of_diagonal: its diagonal, (N·C,).
        progress: whether products with it show a progress bar.
    """

    operator: KernelOperator | None = None
    of_diagonal: NDArray[np.float64] | None = None
    progress: bool = False

    @classmethod
    def by(
        cls, operator: KernelOperator, diagonal: NDArray[np.float64], gamma: float, eps: float, progress: bool = False
    ) -> MultipliedSpectrum:
        """By an operator, with γ of the loss and the rounding unit of its type."""
        return cls(torch.empty(0, 0), gamma, eps, operator, diagonal, progress)

    @property
    def size(self) -> int:
        """N·C."""
        return len(self.diagonal)

    @property
    def diagonal(self) -> NDArray[np.float64]:
        """As it was given."""
        assert self.of_diagonal is not None
        return self.of_diagonal

    @property
    def kernel(self) -> NoReturn:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Refused.

        Raises:
            MemoryPlanError: always.
        """
        raise MemoryPlanError(
            f"mini-batches read columns of the kernel of {self.size} outputs, which is multiplied and not held: pass "
            "tiles=FOLDER to keep it on disk, or raise memory=."
        )

    @property
    def unsolved(self) -> float:
        """As of :class:`LargeSpectrum`; no less than what the rounding of products leaves over anyhow."""
        return max(super().unsolved, ROUNDED * self.eps)

    def apply(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K v for v (N·C,) or (N·C, k), a column at a time, in the type of the network."""
        assert self.operator is not None
        columns = torch.from_numpy(np.ascontiguousarray(v)).reshape(self.size, -1)
        products = []
        for column in columns.unbind(1):
            products.append(self.operator.matvec(column).double().cpu())
            self._products.update()
        return torch.stack(products, dim=1).numpy().reshape(v.shape)

    @cached_property
    def _products(self) -> tqdm:
        return progress_bar(None, "product", self.progress, "products with the kernel")

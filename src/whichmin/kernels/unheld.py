"""A kernel that is not held in memory: what follows from products with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.errors import MemoryPlanError
from whichmin.kernels.cholesky import Cholesky
from whichmin.kernels.large import LargeSpectrum
from whichmin.tangent.memory import size as readable

#: Eigenvalues that are known to this part of the largest are told.
KNOWN = 1e-6


@dataclass(frozen=True, eq=False)
class UnheldSpectrum(LargeSpectrum):
    """As :class:`LargeSpectrum`, of a kernel that is positive definite and can only be multiplied; ``of`` is empty."""

    @property
    def is_complete(self) -> bool:
        """Never."""
        return False

    @property
    def is_affordable(self) -> bool:
        """Never."""
        return False

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """Refused.

        Raises:
            MemoryPlanError: always.
        """
        raise MemoryPlanError(
            f"losses other than the mean square error need the kernel of {self.size} outputs in memory, "
            f"{readable(8 * self.size**2)}: raise memory=, without tiles=, or predict from fewer training points."
        )

    @cached_property
    def _cholesky(self) -> Cholesky | None:
        return None

    @cached_property
    def _leading(self) -> tuple[Tensor, Tensor]:
        """Those of the largest eigenvalues that a small space knows, and their vectors."""
        space = self._probed
        values, parts = np.linalg.eigh(space.projected)
        values, parts = values[::-1].copy(), parts[:, ::-1]
        self._check_positive(float(values[-1]), float(values[0]))
        missed = np.linalg.norm(space.missed(parts), axis=0)
        count = max(1, int(np.argmax(missed > KNOWN * values[0])))
        return torch.from_numpy(values[:count]), torch.from_numpy(space.basis @ parts[:, :count])

    @property
    def rank(self) -> int:
        """All: K⁻¹ is refused otherwise."""
        return self.size

    @property
    def condition(self) -> float:
        """Not known."""
        return math.nan

    def project(self, v: Tensor) -> Tensor:
        """All of v: the kernel is positive definite."""
        return v.clone()

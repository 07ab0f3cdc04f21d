"""Cholesky's factor of a kernel: its inverse applied to vectors, and its smallest eigenvalue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.kernels.lanczos import LanczosSpace, probe

Array = NDArray[np.float64]

#: The smallest eigenvalue is known when a larger space changes it by no more than this part.
PRECISION = 1e-3
#: The dimensions of the first space for it, and of the largest.
FIRST, LARGEST = 16, 256


@dataclass(frozen=True, eq=False)
class Cholesky:
    """K = L Lᵀ by LAPACK, in float64.

    Attributes:
        factor: L in its lower triangle, (n, n); what is above it means nothing.
    """

    factor: Array

    @classmethod
    def of(cls, K: Tensor) -> Self | None:
        """The factor of a symmetric K, (n, n); None where rounding leaves it not positive definite.

        Cost: n³/3, and a copy of K in float64.
        """
        from scipy.linalg import LinAlgError, cholesky  # is slow to import

        copy = K.detach().to("cpu", torch.float64, copy=True).numpy()
        try:
            return cls(cholesky(copy.T, lower=True, overwrite_a=True, check_finite=False))
        except LinAlgError:
            return None

    def solve(self, v: Array) -> Array:
        """K⁻¹v for v (n,) or (n, k)."""
        from scipy.linalg import cho_solve  # is slow to import

        return np.asarray(cho_solve((self.factor, True), v, check_finite=False), np.float64)

    @cached_property
    def smallest(self) -> float:
        """λ_min, by Lanczos on K⁻¹."""
        space, before = LanczosSpace.of(self.solve, probe(len(self.factor))[None], FIRST), 0.0
        while True:
            now = float(np.linalg.eigvalsh(space.projected)[-1])
            if now - before <= PRECISION * now or space.size >= LARGEST or space.is_invariant:
                return 1.0 / now
            space, before = space.grown(self.solve, 2 * space.size), now

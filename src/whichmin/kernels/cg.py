"""Conjugate gradients for a kernel that is not factorized, with a low-rank preconditioner from some of its columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: The ridge of the preconditioner, relative to the smallest eigenvalue that its columns know.
RIDGE = 1.0
#: Eigenvalues of the columns' own block below this part of the largest are left out.
NEGLIGIBLE = 1e-10
#: The residual is computed again after so many iterations, so that what recursions lose is not kept.
REFRESHED = 50
#: It has come down no further for so many of these times: it will not.
STALLED = 4


@dataclass(frozen=True, eq=False)
class Preconditioner:
    """P = U Λ Uᵀ + μ(1 − U Uᵀ), the Nyström approximation of K by some columns, μ what is beyond their reach.

    Attributes:
        vectors: U, (n, k), orthonormal.
        values: Λ, (k,), descending.
        ridge: μ.
    """

    vectors: Array
    values: Array
    ridge: float

    @classmethod
    def of(cls, columns: Array, block: Array) -> Self:
        """From columns K[:, S], (n, k), and their own rows K[S, S], (k, k).

        Cost: 6·n·k² multiplications.
        """
        values, Q = np.linalg.eigh((block + block.T) / 2)
        kept = values > NEGLIGIBLE * values[-1]
        F = columns @ (Q[:, kept] / np.sqrt(values[kept]))  # F Fᵀ is the approximation
        squares, S = np.linalg.eigh(F.T @ F)
        kept = squares > NEGLIGIBLE * squares[-1]
        squares, S = squares[kept][::-1], S[:, kept][:, ::-1]
        return cls(F @ (S / np.sqrt(squares)), squares, RIDGE * float(squares[-1]))

    def __call__(self, v: Array) -> Array:
        """μ P⁻¹v for v (n, k)."""
        c = self.vectors.T @ v
        return v + self.vectors @ ((self.ridge / self.values - 1.0)[:, None] * c)


def conjugate_gradients(
    apply: Callable[[Array], Array], B: Array, precondition: Callable[[Array], Array], tolerance: float, most: int
) -> tuple[Array, float]:
    """K⁻¹B, a column at a time but all products together, until the residuals are small.

    Args:
        apply: K V for V (n, b).
        B: (n, b).
        precondition: P⁻¹V.
        tolerance: of the residuals, relative to B's columns.
        most: how many products at most.

    Returns:
        X, (n, b), and the largest relative residual ‖B − K X‖/‖B‖ of a column, computed anew.
    """
    scale = np.maximum(np.linalg.norm(B, axis=0), 1e-300)
    X, R = np.zeros_like(B), B.copy()
    Z = precondition(R)
    P, rho = Z, (R * Z).sum(0)
    best, left, stalled = (X, 1.0), 1.0, 0
    for k in range(1, most + 1):
        Q = apply(P)
        step = rho / np.maximum((P * Q).sum(0), 1e-300)
        X = X + step * P
        refresh = k % REFRESHED == 0 or left <= tolerance
        R = B - apply(X) if refresh else R - step * Q
        left = float((np.linalg.norm(R, axis=0) / scale).max())
        if refresh:
            best, stalled = ((X, left), 0) if left < best[1] else (best, stalled + 1)
            if left <= tolerance or stalled >= STALLED:
                break
        Z = precondition(R)
        before, rho = rho, (R * Z).sum(0)
        P = Z + rho / np.maximum(before, 1e-300) * P
    return best

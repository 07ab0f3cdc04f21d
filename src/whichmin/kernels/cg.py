"""Conjugate gradients with a preconditioner, for a kernel that is not factorized in double precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: The residual is computed again after so many iterations, so that what recursions lose is not kept.
REFRESHED = 50
#: No step is made along a direction whose curvature is below this part of what the preconditioner says of it.
NO_CURVATURE = 1e-30
#: It has come down no further for so many of these times: it will not.
STALLED = 4


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
        curvature = (P * Q).sum(0)
        step = np.divide(rho, curvature, out=np.zeros_like(rho), where=curvature > NO_CURVATURE * np.abs(rho))
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

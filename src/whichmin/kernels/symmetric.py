"""Products of a symmetric matrix with one vector, which read half of it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def symmetric_product(K: Array, v: Array) -> Array:
    """K v for a symmetric K, (n, n), of which the upper half is read, and v (n,)."""
    return _dsymv()(1.0, K.T, v)


@cache
def _dsymv() -> Any:
    from scipy.linalg import blas  # is slow to import

    return blas.dsymv  # pyright: ignore[reportAttributeAccessIssue]

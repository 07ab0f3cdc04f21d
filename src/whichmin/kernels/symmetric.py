"""Products of a symmetric matrix with one vector, which read half of it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def symmetric_product(K: NDArray[np.floating], v: Array) -> Array:
    """K v for a symmetric K, (n, n), of which the upper half is read, and v (n,); in the precision of K."""
    if K.dtype == np.float32:
        return _routine("ssymv")(1.0, K.T, v.astype(np.float32)).astype(np.float64)
    return _routine("dsymv")(1.0, K.T, v)


@cache
def _routine(name: str) -> Any:
    from scipy.linalg import blas  # is slow to import

    return getattr(blas, name)

"""Products of rows with rows, shared by the parameters of one kernel."""

from __future__ import annotations

import math

from torch import Tensor

from whichmin.tangent.products import product, product_into

#: Products of rows with themselves that take more multiplications than this are made by half.
LARGE_GRAM = 2**27
#: Such products are made in so many blocks of rows at most, of so many rows at least.
BLOCKS, LEAST_ROWS = 16, 256


class Grams:
    """Products A·Bᵀ of rows, each made once: a dense layer's weight and bias have the same gradients."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def know(self, a: Tensor, b: Tensor, gram: Tensor) -> None:
        """Take A·Bᵀ as given."""
        self._made[id(a), id(b)] = (gram, a, b)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """A·Bᵀ, (m, n), of the last axes of ``a`` and ``b``, the others flattened; not to be written into."""
        key = (id(a), id(b))
        if key not in self._made:
            left = a.reshape(-1, a.shape[-1])
            gram = _symmetric(left) if a is b else product(left, b.reshape(-1, b.shape[-1]))
            self._made[key] = (gram, a, b)
        return self._made[key][0]


def _symmetric(a: Tensor) -> Tensor:
    """A·Aᵀ, (m, m); a large one by blocks of rows up to the diagonal, of which the rest is the mirror image."""
    m, width = a.shape
    if m * m * width < LARGE_GRAM:
        return product(a, a)
    K, rows = a.new_empty((m, m)), max(math.ceil(m / BLOCKS), LEAST_ROWS)
    for i in range(0, m, rows):
        end = min(i + rows, m)
        product_into(K[i:end, :end], a[i:end], a[:end])
        K[:i, i:end] = K[i:end, :i].T
    return K

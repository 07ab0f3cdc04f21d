"""Block Lanczos: a small space in which functions of a kernel act on a few vectors, with what it misses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: A direction of less than this part of what it is made of is rounding.
NEGLIGIBLE = 1e-13
#: The random part of a vector that begins near an eigenvector.
PROBED = 1e-2


@dataclass(frozen=True, eq=False)
class LanczosSpace:
    """The space spanned by B, K B, K² B, …, with full reorthogonalization in float64.

    For a vector b of B, φ(K) b is V φ(T) Vᵀb up to what the space misses, T = VᵀKV. What it misses of a combination V y
    that is used as if K V y were V T y is known: ‖(K V − V T) y‖, see :meth:`defect`.

    Attributes:
        basis: V, (n, k), orthonormal columns.
        projected: T = VᵀKV, (k, k), symmetric.
        residual: the columns of K V − V T that are more than rounding, those of the vectors added last, (n, b).
    """

    basis: Array
    projected: Array
    residual: Array

    @classmethod
    def of(cls, apply: Callable[[Array], Array], vectors: Array, size: int) -> Self:
        """The space of some vectors, of at least so many dimensions, or all that there are.

        Args:
            apply: K V for V (n, b).
            vectors: B, (m, n), a vector a row; some may be zero or depend on others.
            size: how many dimensions.

        Cost: ``size`` products with K and 4·n·size² multiplications.
        """
        empty = np.zeros((vectors.shape[1], 0))
        scales = np.linalg.norm(vectors, axis=1)
        kept = vectors[scales > 0] / scales[scales > 0, None]
        start = cls(empty, np.zeros((0, 0)), empty)
        return start._with(apply, _orthonormal(kept.T, empty)).grown(apply, size)

    @property
    def size(self) -> int:
        """How many dimensions, k."""
        return self.basis.shape[1]

    @property
    def is_invariant(self) -> bool:
        """Whether K takes the space to itself, so that nothing is missed."""
        return self.residual.shape[1] == 0

    def grown(self, apply: Callable[[Array], Array], size: int) -> Self:
        """With more products, of at least so many dimensions."""
        space = self
        while space.size < size and not space.is_invariant:
            scale = max(float(np.abs(space.projected).max()), 1e-300)
            large = space.residual[:, np.linalg.norm(space.residual, axis=0) > NEGLIGIBLE * scale]
            more = _orthonormal(large / scale, space.basis)
            if not more.shape[1]:
                return replace(space, residual=more)
            space = space._with(apply, more)
        return space

    def _with(self, apply: Callable[[Array], Array], more: Array) -> Self:
        """With these orthonormal columns, which are orthogonal to the basis."""
        old, k = self.size, self.size + more.shape[1]
        basis, image = np.concatenate([self.basis, more], axis=1), apply(more)
        column = basis.T @ image
        projected = np.zeros((k, k))
        projected[:old, :old] = self.projected
        projected[:, old:] = column
        projected[old:, :] = column.T
        projected[old:, old:] = (column[old:] + column[old:].T) / 2
        return type(self)(basis, projected, image - basis @ column)

    def defect(self, y: Array) -> float:
        """‖(K V − V T) y‖ for y (k,): how far K V y is from what the space says."""
        return float(np.linalg.norm(self.missed(y)))

    def missed(self, y: Array) -> Array:
        """(K V − V T) y for y (k,) or (k, m), (n,) or (n, m)."""
        return self.residual @ y[self.size - self.residual.shape[1] :]


def _orthonormal(vectors: Array, basis: Array) -> Array:
    """An orthonormal basis of what (n, b) adds to a basis (n, k), twice orthogonalized."""
    from scipy.linalg import qr  # is slow to import

    for _ in range(2):
        vectors = vectors - basis @ (basis.T @ vectors)
    if not vectors.size:
        return vectors[:, :0]
    factors = qr(vectors, mode="economic", pivoting=True)
    Q, R = (np.asarray(part, np.float64) for part in factors[:2])
    Q = Q[:, np.abs(np.diag(R)) > NEGLIGIBLE]
    Q = Q - basis @ (basis.T @ Q)
    return np.asarray(np.linalg.qr(Q)[0], np.float64)


def beside(near: Array) -> Array:
    """A vector (n,) near another, with a part in every mode of any matrix."""
    aside = probe(len(near))
    return near + PROBED * float(np.linalg.norm(near)) / float(np.linalg.norm(aside)) * aside


def probe(n: int) -> Array:
    """A vector (n,) that has a part in every mode of any matrix."""
    return np.random.default_rng(0).standard_normal(n)

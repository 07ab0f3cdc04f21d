"""A kernel too large to be decomposed for a prediction: functions of it on a few vectors, its inverse, its extremes.

Functions of K act in Lanczos spaces (:meth:`LargeSpectrum.lanczos`), which give them to rounding; K⁻¹ is Cholesky's
factor, where the kernel is not singular. Callers ask for what they need and do not know which it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.errors import SingularKernelError
from whichmin.kernels.cholesky import Cholesky
from whichmin.kernels.lanczos import LanczosSpace, beside, probe
from whichmin.kernels.modes import AT_ONCE, CUTOFF, Spectrum, rank_cutoff
from whichmin.kernels.symmetric import symmetric_product

#: Kernels of up to this many rows are decomposed where all modes are asked for, or where nothing else will do.
COMPLETE = 4096
#: Of kernels of more rows than this a prediction tells only so many of the largest eigenvalues.
SHOWN, LEADING = 1024, 32
#: The dimensions of a first Lanczos space, and by what they grow.
FIRST_SPACE, GROWTH = 24, 1.25
#: Those of the first space of a vector that begins near an eigenvector.
NEAR_SPACE = 6
#: A Lanczos space does not grow beyond so many dimensions.
LARGEST_SPACE = 1200
#: What a Lanczos space may miss, relative to the vectors it is made of, in rounding units of the kernel and at least.
MISSED, LEAST_MISSED = 1e-3, 1e-12
#: A change of the residual is suppressed to this part of itself.
SUPPRESSED = 1e-6
#: Rows of a kernel in single precision that are made double at once to be multiplied.
ROWS = 256
#: Kernels of up to this many rows are held in double precision; larger ones are multiplied block by block.
HELD = 22_000
#: So many random vectors tell the effective rank of a kernel that is not decomposed.
PROBES = 16


@dataclass(frozen=True, eq=False)
class LargeSpectrum(Spectrum):
    """As :class:`Spectrum`, without a decomposition.

    Attributes:
        near: an eigenvector of λ_max of a matrix like K, (N·C,), where the search for that of K begins; None for none.
    """

    near: NDArray[np.float64] | None = field(default=None, repr=False, kw_only=True)

    @property
    def is_complete(self) -> bool:
        """Whether :attr:`eigenvalues` are all there are, rather than the ``LEADING`` largest."""
        return self.size <= SHOWN

    @property
    def is_affordable(self) -> bool:
        """Up to ``COMPLETE`` rows."""
        return self.size <= COMPLETE

    @property
    def resolution(self) -> float:
        """That of K's entries; where all modes are not affordable, 1/√n of it.

        The roundings of so many entries are independent in small modes, which they move by so much less than the
        largest.
        """
        return self.eps if self.is_affordable else self.eps / math.sqrt(self.size)

    def checked(self) -> Spectrum:
        """The same: what is not positive semidefinite is refused where it shows."""
        return self

    def decomposed(self) -> Spectrum:
        """The same kernel with all its modes, whatever that costs."""
        return self._modes

    @cached_property
    def _modes(self) -> Spectrum:
        return Spectrum(self.of, self.gamma, self.eps)

    @property
    def eigenvalues(self) -> Tensor:
        """Λ, descending, (N·C,), or where not :attr:`is_complete` the ``LEADING`` largest, on the CPU."""
        return self._values[0] if self.is_complete else self._leading[0]

    @property
    def vectors(self) -> Tensor:
        """Q, on the CPU, a column per eigenvalue."""
        return self._modes.vectors if self.is_complete else self._leading[1]

    @property
    def discarded(self) -> float:
        """As of :class:`Spectrum`; of a singular kernel that is not affordable, what was discarded at most."""
        if self._is_known:
            return self._values[1]
        return 0.0 if self._cholesky is not None else rank_cutoff(self.largest, self.resolution)

    @property
    def _is_known(self) -> bool:
        """Whether all eigenvalues are to be had: where that is cheap, or the kernel singular and it is affordable."""
        return self.is_complete or (self.is_affordable and self._cholesky is None)

    @cached_property
    def _values(self) -> tuple[Tensor, float]:
        """All eigenvalues without the vectors, and what is discarded."""
        matrix = self.of.double()
        return self._without_zeros(torch.linalg.eigvalsh((matrix + matrix.T) / 2).flip(0).cpu())

    @cached_property
    def _probed(self) -> LanczosSpace:
        """The space of a random vector, or of one that is nearly known, which knows the largest eigenvalues."""
        if self.near is None:
            return self.lanczos(probe(self.size)[None])
        return self.lanczos(beside(self.near)[None], NEAR_SPACE)

    @cached_property
    def _leading(self) -> tuple[Tensor, Tensor]:
        """The largest eigenvalues, descending, and their vectors, by Lanczos."""
        space = self._probed
        while True:
            values, parts = np.linalg.eigh(space.projected)
            values, parts = values[::-1], parts[:, ::-1]
            self._check_positive(float(values[-1]), float(values[0]))
            missed = np.linalg.norm(space.missed(parts[:, :LEADING]), axis=0)
            converged = space.size > LEADING and bool((missed <= 1e-6 * values[0]).all())
            if converged or space.is_invariant or space.size >= LARGEST_SPACE:
                break
            space = self.more(space)
        found = torch.from_numpy(values[:LEADING].copy())
        small = found <= rank_cutoff(float(found[0]), self.resolution)
        return torch.where(small, torch.zeros_like(found), found), torch.from_numpy(space.basis @ parts[:, :LEADING])

    @cached_property
    def _top(self) -> tuple[float, Tensor]:
        """The largest eigenvalue and its vector."""
        space = self._probed
        while True:
            values, parts = np.linalg.eigh(space.projected)
            missed = space.defect(parts[:, -1])
            self._check_positive(float(values[0]), float(values[-1]))
            if space.is_invariant or missed <= 1e-9 * values[-1] or space.size >= LARGEST_SPACE:
                return float(values[-1]), torch.from_numpy(space.basis @ parts[:, -1])
            space = self.more(space)

    @property
    def largest(self) -> float:
        """λ_max."""
        return self._top[0]

    @property
    def top_vector(self) -> Tensor:
        """The eigenvector of λ_max, (N·C,), on the CPU."""
        return self._top[1]

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue that does not count as zero; where none is known, what would."""
        if self._is_known:
            values = self._values[0]
            return float(values[values > 0][-1])
        return rank_cutoff(self.largest, self.resolution) if self._cholesky is None else self._cholesky.smallest

    @property
    def extremes(self) -> NDArray[np.float64]:
        """λ_max and the smallest positive eigenvalue."""
        return np.array([self.largest, self.smallest])

    def above(self, limit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The eigenvalues above a limit, descending, (k,), and their vectors, (N·C, k)."""
        if self.largest <= limit:
            return np.zeros(0), np.zeros((self.size, 0))
        values, Q = self._leading
        if float(values[-1]) > limit:  # there are more of them
            return self._modes.above(limit)
        return values[values > limit].numpy(), Q[:, values > limit].numpy()

    def hidden(self, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """None."""
        return np.zeros(0), np.zeros((self.size, 0))

    def apply(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K v for v (N·C,) or (N·C, k); of a single vector from the lower half of K, which is half as much to read."""
        if self.size <= HELD or self.of.dtype == torch.float64:
            if v.size != self.size:
                return self.matrix @ v
            return symmetric_product(self.matrix, v.reshape(-1)).reshape(v.shape)
        columns = torch.from_numpy(np.ascontiguousarray(v)).to(self.of.device)
        parts = [rows.double() @ columns for rows in self.of.split(ROWS)]
        return torch.cat(parts).cpu().numpy()

    def lanczos(self, vectors: NDArray[np.float64], size: int = FIRST_SPACE) -> LanczosSpace:
        """The Lanczos space of some vectors, (m, N·C), of about so many dimensions."""
        return LanczosSpace.of(self.apply, vectors, size)

    def more(self, space: LanczosSpace) -> LanczosSpace:
        """A larger one."""
        return space.grown(self.apply, math.ceil(GROWTH * space.size))

    @property
    def missed(self) -> float:
        """What a Lanczos space may miss, relative to what it is made of."""
        return max(MISSED * self.eps, LEAST_MISSED)

    @property
    def unsolved(self) -> float:
        """What K⁻¹ may leave over of a right-hand side, relative to it."""
        return 1e3 * self.missed

    @cached_property
    def _cholesky(self) -> Cholesky | None:
        """The factor of K; None where some eigenvalue counts as zero."""
        found = Cholesky.of(self.of)
        if found is None:
            return None
        if self.is_complete:  # all eigenvalues cost less than the smallest one from many solves
            return found if bool((self._values[0] > 0).all()) else None
        return found if found.smallest > rank_cutoff(self.largest, self.resolution) else None

    def solve(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K⁺v for v (N·C,) or (N·C, k), with eigenvalues that count as zero left out.

        Raises:
            SingularKernelError: no solver converges.
        """
        if self._cholesky is None:
            return self._modes.solve(v) if self.is_affordable else self._pseudo_inverse(v)
        x = self._cholesky.solve(v)
        x = x + self._cholesky.solve(v - self.apply(x))
        missed = np.linalg.norm(v - self.apply(x), axis=0) / np.maximum(np.linalg.norm(v, axis=0), 1e-300)
        if not np.max(missed) <= self.unsolved:
            raise self._stagnates(float(np.max(missed)))
        return x

    def _pseudo_inverse(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K⁺v in a Lanczos space."""
        columns = v.reshape(len(v), -1)
        if not columns.any():
            return np.zeros_like(v)
        scale = np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
        space = self.lanczos(columns.T, FIRST_SPACE * columns.shape[1])
        while True:
            values, parts = np.linalg.eigh(space.projected)
            self._check_positive(float(values[0]), float(values[-1]))
            inverse = np.where(values > rank_cutoff(float(values[-1]), self.resolution), 1.0 / values, 0.0)
            y = parts @ (inverse[:, None] * (parts.T @ (space.basis.T @ columns)))
            missed = float((np.linalg.norm(space.missed(y), axis=0) / scale).max())
            if space.is_invariant or missed <= self.unsolved:
                return (space.basis @ y).reshape(v.shape)
            if space.size >= LARGEST_SPACE:
                raise self._stagnates(missed)
            space = self.more(space)

    def _stagnates(self, missed: float) -> SingularKernelError:
        double = self.resolution * torch.finfo(torch.float64).eps / self.eps
        reaches = f" In double precision, model.double(), conditions up to {1 / (CUTOFF * double):.0e} can be inverted."
        precision = "" if self.eps < 1e-10 else reaches
        return SingularKernelError(
            f"the kernel of {self.size} training outputs cannot be inverted: {missed:.1g} of the right-hand side is "
            f"left over. Its condition is beyond {1 / (CUTOFF * self.resolution):.0e}: the limit of infinitely many "
            f"steps and the terms, which take the inverse, mean nothing there.{precision}"
        )

    def project(self, v: Tensor) -> Tensor:
        """K K⁺v for v (N·C,) or (N·C, k): its part in the range of K."""
        return v.clone() if self._cholesky is not None else torch.from_numpy(self.apply(self.solve(v.numpy())))

    def suppressed(
        self,
        change: NDArray[np.float64],
        before: NDArray[np.float64],
        after: NDArray[np.float64],
        shares: NDArray[np.float64] = AT_ONCE,
    ) -> NDArray[np.float64]:
        """As of :class:`Spectrum`, in the modes of a Lanczos space of the change and the first residual."""
        if not change.any():
            return np.zeros_like(change)
        space = self.lanczos(np.stack([change, np.atleast_2d(before)[0]]), 2 * FIRST_SPACE)
        while True:
            V, small = space.basis, Spectrum(torch.from_numpy(space.projected), self.gamma, self.resolution)
            y = small.suppressed(change @ V, before @ V, after @ V, shares)
            is_small = space.defect(y) <= SUPPRESSED * np.linalg.norm(change)
            if is_small or space.is_invariant or space.size >= LARGEST_SPACE:
                return V @ y
            space = self.more(space)

    @property
    def kernel(self) -> NDArray[np.float64]:
        """K as it was given, (N·C, N·C)."""
        return self.matrix

    @property
    def rank(self) -> int:
        """How many eigenvalues do not count as zero; of a singular kernel that is not affordable, at least."""
        if not self._is_known and self._cholesky is not None:
            return self.size
        return int(((self._values[0] if self._is_known else self._leading[0]) > 0).sum())

    @property
    def effective_rank(self) -> float:
        """As of :class:`Spectrum`; by stochastic Lanczos quadrature where not :attr:`is_complete`."""
        return self._effective_rank[0]

    @property
    def effective_rank_error(self) -> float:
        """The standard error of :attr:`effective_rank` over random vectors; 0 where all eigenvalues are known."""
        return self._effective_rank[1]

    @cached_property
    def _effective_rank(self) -> tuple[float, float]:
        if self.is_complete:
            return self._modes.effective_rank, 0.0
        trace = float(self.diagonal.sum())
        samples = [self._entropy(trace, seed) for seed in range(PROBES)]
        value = math.exp(float(np.mean(samples)))
        return value, value * float(np.std(samples, ddof=1)) / math.sqrt(PROBES)

    def _entropy(self, trace: float, seed: int) -> float:
        """−Σ p ln p over Σ p = 1 as one random vector of signs has both: the quadrature of its Lanczos space."""
        n = self.size
        signs = np.where(np.random.default_rng(seed).random(n) < 0.5, -1.0, 1.0)
        space = self.lanczos(signs[None], 4 * FIRST_SPACE)
        values, parts = np.linalg.eigh(space.projected)
        p = np.maximum(values, 0.0) / trace
        weights = (signs @ space.basis @ parts) ** 2 * p
        return -float(np.dot(weights, np.log(np.where(p > 0, p, 1.0))) / weights.sum())


def bytes_per_entry(n: int, item: int) -> int:
    """What a kernel of n rows takes at its peak, in bytes an entry of so many bytes, with what it is solved with."""
    if n <= COMPLETE:  # the eigenvectors and what LAPACK works in
        return 40
    return 2 * item + (16 if n <= HELD else 8)  # K and its parts, a copy in double precision, Cholesky's factor

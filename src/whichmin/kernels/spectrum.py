"""A kernel to solve with: all its modes where that is cheap, functions of it on a few vectors where it is not.

Small kernels are decomposed, K = Q Λ Qᵀ in float64. Of large ones predictions need functions on a few vectors only,
which a Lanczos space gives to rounding (:meth:`Spectrum.lanczos`), and K⁻¹, which a Cholesky factor gives; callers ask
for what they need and do not know which it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.arrays import as_tensor
from whichmin.errors import InputError, SingularKernelError
from whichmin.kernels.cholesky import Cholesky
from whichmin.kernels.lanczos import LanczosSpace, probe
from whichmin.kernels.symmetric import symmetric_product
from whichmin.losses import MeanSquaredError
from whichmin.shown import Shown

#: Eigenvalues of at most this many rounding units ε of the largest count as zero: rounding moves them by about one.
CUTOFF = 10.0
#: Kernels of up to this many rows are decomposed where a prediction needs them; a Lanczos space is faster beyond.
DENSE = 512
#: Kernels of up to this many rows are decomposed where all modes are asked for, or where nothing else will do.
COMPLETE = 4096
#: Of kernels of more rows than this a prediction tells only so many of the largest eigenvalues.
SHOWN, LEADING = 1024, 32
#: The dimensions of a first Lanczos space, and by what they grow.
FIRST_SPACE, GROWTH = 24, 1.5
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


def rank_cutoff(largest: float, eps: float) -> float:
    """CUTOFF·ε·λ_max: eigenvalues at or below it count as zero. The one rule of rank in whichmin.

    Args:
        largest: λ_max, the largest eigenvalue, or for singular values of a matrix that was itself rounded the largest
            singular value.
        eps: the rounding unit ε of the type that the matrix was computed in, not of the type it is decomposed in.
    """
    return CUTOFF * eps * largest


def rounding_unit(dtype: torch.dtype) -> float:
    """ε of a floating-point type; that of float64 for integers, which are exact."""
    return torch.finfo(dtype if dtype.is_floating_point else torch.float64).eps


@dataclass(frozen=True, eq=False)
class Spectrum(Shown):
    """K = Q Λ Qᵀ in float64, and what follows from it for gradient descent on a quadratic loss.

    Nothing is computed before it is asked for; products with K need no decomposition.

    Attributes:
        of: K, (N·C, N·C), symmetric up to rounding, not zero.
        gamma: γ of the loss, ∂L/∂f = γ (f − y): gradient descent multiplies a mode by 1 − lr·γ·λ a step. Of other
            losses the largest curvature.
        eps: the rounding unit of the type that K was computed in.
        most: kernels of more rows are not decomposed where functions of them on a few vectors will do.
    """

    of: Tensor = field(repr=False)
    gamma: float
    eps: float
    most: int = COMPLETE

    def _finding(self) -> Sequence[str]:
        if "_decomposition" not in vars(self):
            return ()
        return (
            f"A kernel of {self.size} training outputs and rank {self.rank}, with eigenvalues from {self.largest:.3g} "
            f"to {self.smallest:.3g}: gradient descent converges below lr={self.max_lr:.3g}, fastest at "
            f"{self.best_lr:.3g}.",
        )

    def _facts(self) -> Mapping[str, Any]:
        return {"size": self.size, "gamma": self.gamma, "eps": self.eps, "decomposed": "_decomposition" in vars(self)}

    @property
    def size(self) -> int:
        """N·C."""
        return len(self.of)

    @property
    def is_large(self) -> bool:
        """Whether functions of K are applied in Lanczos spaces rather than in all its modes."""
        return self.size > self.most

    @property
    def is_complete(self) -> bool:
        """Whether :attr:`eigenvalues` are all there are; of larger kernels the largest ones."""
        return self.size <= max(self.most, SHOWN)

    @property
    def is_affordable(self) -> bool:
        """Whether all modes can be had where nothing else will do."""
        return self.size <= max(self.most, COMPLETE)

    @property
    def resolution(self) -> float:
        """The rounding unit that decides which modes count as zero (:func:`rank_cutoff`).

        That of K's entries; where not :attr:`is_affordable`, 1/√n of it: the roundings of so many entries are
        independent in small modes, which they move by so much less than the largest.
        """
        return self.eps if self.is_affordable else self.eps / math.sqrt(self.size)

    def checked(self) -> Spectrum:
        """The same; decomposed now where that is cheap.

        Raises:
            InputError: the matrix is not positive semidefinite.
        """
        if not self.is_large:
            _ = self._decomposition
        return self

    def decomposed(self) -> Spectrum:
        """The same kernel with all its modes, whatever that costs."""
        return replace(self, most=self.size)

    @property
    def eigenvalues(self) -> Tensor:
        """Λ, descending, on the CPU, those that count as zero (:func:`rank_cutoff`) exactly zero.

        (N·C,), or where not :attr:`is_complete` the ``LEADING`` largest.
        """
        if not self.is_large:
            return self._decomposition[0]
        return self._values[0] if self.is_complete else self._leading[0]

    @property
    def vectors(self) -> Tensor:
        """Q, on the CPU, a column per eigenvalue, rows ordered as ``outputs.reshape(-1)``."""
        return self._decomposition[1] if self.is_complete else self._leading[1]

    @property
    def discarded(self) -> float:
        """The largest magnitude among the eigenvalues set to zero; 0 where there were none.

        Where not :attr:`is_complete`, what was discarded at most.
        """
        if not self.is_large:
            return self._decomposition[2]
        if self.is_complete or (self._cholesky is None and self.is_affordable):
            return self._values[1]
        return 0.0 if self._cholesky is not None else rank_cutoff(self.largest, self.resolution)

    @cached_property
    def _decomposition(self) -> tuple[Tensor, Tensor, float]:
        """Eigenvalues, vectors and what is discarded.

        Raises:
            InputError: the matrix is not positive semidefinite.
        """
        matrix = self.of.double()
        values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
        values, discarded = self._without_zeros(values.flip(0).cpu())
        return values, vectors.flip(1).cpu(), discarded

    @cached_property
    def _values(self) -> tuple[Tensor, float]:
        """All eigenvalues without the vectors, and what is discarded."""
        matrix = self.of.double()
        return self._without_zeros(torch.linalg.eigvalsh((matrix + matrix.T) / 2).flip(0).cpu())

    def _without_zeros(self, values: Tensor) -> tuple[Tensor, float]:
        """Descending eigenvalues with those that count as zero set to it, and the largest of these.

        Raises:
            InputError: the matrix is not positive semidefinite.
        """
        self._check_positive(float(values[-1]), float(values[0]))
        small = values <= rank_cutoff(float(values[0]), self.resolution)
        discarded = float(values[small].abs().max()) if bool(small.any()) else 0.0
        return torch.where(small, torch.zeros_like(values), values), discarded

    def _check_positive(self, smallest: float, largest: float) -> None:
        if smallest < -1e3 * self.eps * abs(largest) or largest <= 0:
            raise InputError(
                f"the kernel is not positive semidefinite: its smallest eigenvalue is {smallest:.3g}, its largest "
                f"{largest:.3g}. Pass K(X, X) of one set of inputs."
            )

    @cached_property
    def _probed(self) -> LanczosSpace:
        """The space of a random vector, which knows the largest eigenvalues."""
        return self.lanczos(probe(self.size)[None])

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
        if not self.is_large:
            return float(self.eigenvalues[0]), self.vectors[:, 0]
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

    @cached_property
    def smallest(self) -> float:
        """The smallest eigenvalue that does not count as zero."""
        if self.is_large and not self.is_complete and self._cholesky is not None:
            return self._cholesky.smallest
        values = self._all_values
        return rank_cutoff(self.largest, self.resolution) if values is None else float(values[values > 0][-1])

    @property
    def _all_values(self) -> Tensor | None:
        """All eigenvalues, where they can be had."""
        if not self.is_large:
            return self._decomposition[0]
        return self._values[0] if self.is_affordable else None

    @property
    def extremes(self) -> NDArray[np.float64]:
        """All positive eigenvalues, descending, or of a large kernel the largest and the smallest of them."""
        if self.is_large:
            return np.array([self.largest, self.smallest])
        return self.eigenvalues[self.eigenvalues > 0].numpy()

    def above(self, limit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The eigenvalues above a limit, descending, (k,), and their vectors, (N·C, k)."""
        if self.largest <= limit:
            return np.zeros(0), np.zeros((self.size, 0))
        values, Q = self._decomposition[:2] if not self.is_large else self._leading
        return values[values > limit].numpy(), Q[:, values > limit].numpy()

    @property
    def trace(self) -> float:
        """Σ λ."""
        return float(self.of.diagonal().double().sum())

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """K as it was given, (N·C, N·C), float64."""
        return self.of.double().cpu().numpy()

    def rotate(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Qᵀv for rows v, (…, N·C); of a decomposed kernel."""
        return v @ self._decomposition[1].numpy()

    def rotate_back(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Q q for rows q, (…, N·C); of a decomposed kernel."""
        return q @ self._decomposition[1].numpy().T

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

    @cached_property
    def _cholesky(self) -> Cholesky | None:
        """The factor of K; None where some eigenvalue counts as zero."""
        found = Cholesky.of(self.of)
        return found if found is not None and found.smallest > rank_cutoff(self.largest, self.resolution) else None

    def solve(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K⁺v for v (N·C,) or (N·C, k), with eigenvalues that count as zero left out.

        Raises:
            SingularKernelError: a kernel too large to be decomposed for which no solver converges.
        """
        if not self.is_large:
            values, Q = self._decomposition[0].numpy(), self._decomposition[1].numpy()
            return Q @ ((Q.T @ v).T / np.where(values > 0, values, np.inf)).T
        if self._cholesky is None:
            return self.decomposed().solve(v) if self.is_affordable else self._pseudo_inverse(v)
        x = self._cholesky.solve(v)
        x = x + self._cholesky.solve(v - self.apply(x))
        missed = np.linalg.norm(v - self.apply(x))
        if not missed <= 1e3 * self.missed * np.linalg.norm(v):
            raise self._stagnates(float(missed / np.linalg.norm(v)))
        return x

    def _pseudo_inverse(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K⁺v in a Lanczos space."""
        columns = v.reshape(len(v), -1)
        space = self.lanczos(columns.T, FIRST_SPACE * columns.shape[1])
        while True:
            values, parts = np.linalg.eigh(space.projected)
            self._check_positive(float(values[0]), float(values[-1]))
            inverse = np.where(values > rank_cutoff(float(values[-1]), self.resolution), 1.0 / values, 0.0)
            y = parts @ (inverse[:, None] * (parts.T @ (space.basis.T @ columns)))
            missed = float((np.linalg.norm(space.missed(y), axis=0) / np.linalg.norm(columns, axis=0)).max())
            if space.is_invariant or missed <= 1e3 * self.missed:
                return (space.basis @ y).reshape(v.shape)
            if space.size >= LARGEST_SPACE:
                raise self._stagnates(missed)
            space = self.more(space)

    def _stagnates(self, missed: float) -> SingularKernelError:
        precision = "" if self.eps < 1e-10 else " Compute the network in double precision: model.double()."
        return SingularKernelError(
            f"the kernel of {self.size} training outputs cannot be inverted: {missed:.1g} of the right-hand side is "
            f"left over. Its condition is beyond {1 / (CUTOFF * self.resolution):.0e}, where limits of infinitely "
            f"many steps mean nothing; ask for a number of steps.{precision}"
        )

    def project(self, v: Tensor) -> Tensor:
        """K K⁺v for v (N·C,) or (N·C, k): its part in the range of K."""
        if not self.is_large:
            values, Q = self._decomposition[:2]
            Q = Q[:, values > 0]
            return Q @ (Q.mT @ v)
        if self._cholesky is not None:
            return v.clone()
        return torch.from_numpy(self.apply(self.solve(v.numpy())))

    def outside(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """The part of v that no training reaches, v − K K⁺v, (N·C,)."""
        return v - self.project(torch.from_numpy(v)).numpy()

    def suppressed(
        self, change: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The coefficients c by which training suppresses a change of the residual: it moves the outputs by K c.

        In each mode the part 1 − |after|/|before| of the change goes, as it did of the residual itself.

        Args:
            change: of the residual, (N·C,).
            before: the residual before training, (N·C,).
            after: the residual after it, (N·C,).

        Returns:
            (N·C,).
        """
        if self.is_large:
            space = self.lanczos(np.stack([change, before]), 2 * FIRST_SPACE)
            while True:
                V, small = space.basis, Spectrum(torch.from_numpy(space.projected), self.gamma, self.resolution)
                y = small.suppressed(change @ V, before @ V, after @ V)
                is_small = space.defect(y) <= SUPPRESSED * np.linalg.norm(change)
                if is_small or space.is_invariant or space.size >= LARGEST_SPACE:
                    return V @ y
                space = self.more(space)
        was, remains = np.abs(self.rotate(before)), np.abs(self.rotate(after))
        gone = 1.0 - np.minimum(remains / np.maximum(was, 1e-300), 1.0)
        return -self.solve(self.rotate_back(gone * self.rotate(change)))

    @property
    def kernel(self) -> NDArray[np.float64]:
        """K without the modes that count as zero, (N·C, N·C); a large one as it was given."""
        if self.is_large:
            return self.matrix
        Q = self.vectors.numpy()
        return (Q * self.eigenvalues.numpy()) @ Q.T

    @property
    def rank(self) -> int:
        """How many eigenvalues do not count as zero; of a singular kernel that is not affordable, at least."""
        if self.is_large and not self.is_complete and self._cholesky is not None:
            return self.size
        values = self._all_values
        return int(((self._leading[0] if values is None else values) > 0).sum())

    @property
    def condition(self) -> float:
        """λ_max/λ_min; infinity where the kernel is singular."""
        return self.largest / self.smallest if self.rank == self.size else float("inf")

    @property
    def effective_rank(self) -> float:
        """Exp of the entropy of λ/Σλ (Roy and Vetterli 2007): how many modes carry the kernel.

        Where not :attr:`is_complete`, by stochastic Lanczos quadrature: see :attr:`effective_rank_error`.
        """
        return self._effective_rank[0]

    @property
    def effective_rank_error(self) -> float:
        """The standard error of :attr:`effective_rank` over random vectors; 0 where all eigenvalues are known."""
        return self._effective_rank[1]

    @cached_property
    def _effective_rank(self) -> tuple[float, float]:
        if self.is_complete:
            p = self.eigenvalues[self.eigenvalues > 0]
            p = p / p.sum()
            return float(torch.exp(-(p * p.log()).sum())), 0.0
        samples = [self._entropy(self.trace, seed) for seed in range(PROBES)]
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

    @property
    def max_lr(self) -> float:
        """2/(γ λ_max): gradient descent on the linearized network converges below it."""
        return 2.0 / (self.gamma * self.largest) if self.gamma else math.inf

    @property
    def best_lr(self) -> float:
        """2/(γ (λ_max + λ_min)), λ_min the smallest that is not zero: the slowest mode falls fastest."""
        return 2.0 / (self.gamma * (self.largest + self.smallest)) if self.gamma else math.inf


def bytes_per_entry(n: int, item: int) -> int:
    """What a kernel of n rows takes at its peak, in bytes an entry of so many bytes, with what it is solved with."""
    if n <= COMPLETE:  # the eigenvectors and what LAPACK works in
        return 40
    return 2 * item + (16 if n <= HELD else 8)  # K and its parts, a copy in double precision, Cholesky's factor


def spectrum(K: Tensor) -> Spectrum:
    """The eigendecomposition of a tangent kernel of the training inputs, with γ of ``torch.nn.MSELoss()``.

    Args:
        K: (N, N, C, C) as from :func:`whichmin.tangent_kernel`, or (N, N); a tensor or an array.

    Cost: O((N·C)³) in float64 up to 4,096 outputs; of larger kernels nothing before it is asked for, a few hundred
    products for the largest eigenvalues, a Cholesky factor for ``solve``, ``smallest`` and ``rank``.

    Raises:
        InputError: another shape, a kernel that is not finite, not symmetric, or zero.
    """
    return lazy_spectrum(K, COMPLETE).checked()


def lazy_spectrum(K: Tensor, most: int = DENSE) -> Spectrum:
    """As :func:`spectrum` where functions of K on a few vectors are needed: decomposed only up to so many outputs."""
    K = as_tensor(K, "K")
    if K.ndim not in (2, 4) or K.shape[0] != K.shape[1] or (K.ndim == 4 and K.shape[2] != K.shape[3]):
        raise InputError(f"a kernel of shape {tuple(K.shape)}; expected (N, N, C, C) or (N, N), of one set of inputs.")
    if not K.is_floating_point():
        raise InputError(f"the kernel is {K.dtype}; expected a floating-point type: K.double().")
    if not bool(torch.isfinite(K).all()):
        raise InputError("the kernel holds NaN or infinity: check the network's parameters and inputs.")
    size = K.shape[0] if K.ndim == 2 else K.shape[0] * K.shape[2]
    matrix = K if K.ndim == 2 else K.permute(0, 2, 1, 3).reshape(size, size)
    matrix = matrix if size > HELD else matrix.double()
    eps = rounding_unit(K.dtype)
    largest = float(matrix.abs().max())
    if float((matrix - matrix.T).abs().max()) > 1e4 * eps * largest:
        raise InputError("the kernel is not symmetric: pass K(X, X) of one set of inputs.")
    return undecomposed(matrix, MeanSquaredError().curvature(size), eps, most)


def decompose(matrix: Tensor, gamma: float, eps: float) -> Spectrum:
    """As :func:`spectrum`, for a matrix and with what follows from the loss and from the kernel's type given.

    Where all modes are cheap it is decomposed at once, and refused where it is not positive semidefinite.

    Args:
        matrix: K, (N·C, N·C).
        gamma: γ of the loss.
        eps: the rounding unit of the type that K was computed in.

    Raises:
        InputError: the matrix is zero or not positive semidefinite.
    """
    return undecomposed(matrix, gamma, eps, COMPLETE).checked()


def undecomposed(matrix: Tensor, gamma: float, eps: float, most: int = DENSE) -> Spectrum:
    """As :func:`decompose`, for those who need functions of K on a few vectors, or no more than products.

    Raises:
        InputError: the matrix is zero.
    """
    if not bool(matrix.any()):
        raise InputError("the kernel is zero: no trainable parameter moves the outputs on these inputs.")
    return Spectrum(matrix, gamma, eps, most)

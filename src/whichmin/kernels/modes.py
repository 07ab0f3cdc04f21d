"""A kernel decomposed into its modes, and the rule of which of them count as zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.errors import InputError
from whichmin.shown import Shown

#: Eigenvalues of at most this many rounding units ε of the largest count as zero: rounding moves them by about one.
CUTOFF = 10.0
#: The shares of a change that comes about at one time.
AT_ONCE = np.ones(1)


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
    """

    of: Tensor = field(repr=False)
    gamma: float
    eps: float

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
    def is_affordable(self) -> bool:
        """Whether all modes can be had where nothing else will do."""
        return True

    @property
    def resolution(self) -> float:
        """The rounding unit that decides which modes count as zero (:func:`rank_cutoff`)."""
        return self.eps

    def checked(self) -> Spectrum:
        """The same; decomposed now where that is cheap.

        Raises:
            InputError: the matrix is not positive semidefinite.
        """
        _ = self._decomposition
        return self

    def decomposed(self) -> Spectrum:
        """The same kernel with all its modes, whatever that costs."""
        return self

    @property
    def eigenvalues(self) -> Tensor:
        """Λ, (N·C,), descending, on the CPU; those that count as zero (:func:`rank_cutoff`) are exactly zero.

        Of a large kernel the largest of them.
        """
        return self._decomposition[0]

    @property
    def vectors(self) -> Tensor:
        """Q, on the CPU, a column per eigenvalue, rows ordered as ``outputs.reshape(-1)``."""
        return self._decomposition[1]

    @property
    def discarded(self) -> float:
        """The largest magnitude among the eigenvalues set to zero; 0 where there were none."""
        return self._decomposition[2]

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

    @property
    def diagonal(self) -> NDArray[np.float64]:
        """K's, (N·C,)."""
        return self.of.diagonal().double().cpu().numpy()

    def hidden(self, most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The modes that are left out because they count as zero; none of a large kernel, that functions take as it is.

        Args:
            most: no more modes than this have an eigenvalue.

        Returns:
            Their eigenvalues as computed, (k,), descending, and their vectors, (N·C, k).
        """
        Q = self.vectors[:, self.rank : max(most, self.rank)].numpy()
        return np.einsum("ik,ik->k", Q, self.matrix @ Q), Q

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

    @property
    def largest(self) -> float:
        """λ_max."""
        return float(self.eigenvalues[0])

    @property
    def top_vector(self) -> Tensor:
        """The eigenvector of λ_max, (N·C,), on the CPU."""
        return self.vectors[:, 0]

    @property
    def smallest(self) -> float:
        """The smallest eigenvalue that does not count as zero."""
        return float(self.extremes[-1])

    @property
    def extremes(self) -> NDArray[np.float64]:
        """All positive eigenvalues, descending, or of a large kernel the largest and the smallest of them."""
        return self.eigenvalues[self.eigenvalues > 0].numpy()

    def above(self, limit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The eigenvalues above a limit, descending, (k,), and their vectors, (N·C, k)."""
        kept = self.eigenvalues > limit
        return self.eigenvalues[kept].numpy(), self.vectors[:, kept].numpy()

    @cached_property
    def bound(self) -> float:
        """No less than λ_max, at the cost of reading K: the largest sum of a row's magnitudes."""
        return float(np.abs(self.matrix).sum(axis=1).max())

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
        """K v for v (N·C,) or (N·C, k)."""
        return self.matrix @ v

    def solve(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K⁺v for v (N·C,) or (N·C, k), with eigenvalues that count as zero left out.

        Raises:
            SingularKernelError: a kernel too large to be decomposed for which no solver converges.
        """
        values, Q = self.eigenvalues.numpy(), self.vectors.numpy()
        return Q @ ((Q.T @ v).T / np.where(values > 0, values, np.inf)).T

    def project(self, v: Tensor) -> Tensor:
        """K K⁺v for v (N·C,) or (N·C, k): its part in the range of K."""
        Q = self.vectors[:, self.eigenvalues > 0]
        return Q @ (Q.mT @ v)

    def outside(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """The part of v that no training reaches, v − K K⁺v, (N·C,)."""
        return v - self.project(torch.from_numpy(v)).numpy()

    def suppressed(
        self,
        change: NDArray[np.float64],
        before: NDArray[np.float64],
        after: NDArray[np.float64],
        shares: NDArray[np.float64] = AT_ONCE,
    ) -> NDArray[np.float64]:
        """The coefficients c by which training suppresses a change of the residual: it moves the outputs by K c.

        In each mode the part 1 − Σ_s share_s |after|/|before_s| of the change goes, as it does of the residual itself
        from the time s on at which that share of the change comes about.

        Args:
            change: of the residual, (N·C,).
            before: the residual at some times, (times, N·C); at one, (N·C,).
            after: the residual at the end, (N·C,).
            shares: what part of the change comes about at each of the times, (times,).

        Returns:
            (N·C,).
        """
        was, remains = np.abs(self.rotate(np.atleast_2d(before))), np.abs(self.rotate(after))
        left = np.minimum(remains / np.maximum(was, 1e-300), 1.0)
        return -self.solve(self.rotate_back((1.0 - shares @ left) * self.rotate(change)))

    @property
    def kernel(self) -> NDArray[np.float64]:
        """K without the modes that count as zero, (N·C, N·C); a large one as it was given."""
        Q = self.vectors.numpy()
        return (Q * self.eigenvalues.numpy()) @ Q.T

    @property
    def rank(self) -> int:
        """How many eigenvalues do not count as zero."""
        return len(self.extremes)

    @property
    def condition(self) -> float:
        """λ_max/λ_min; infinity where the kernel is singular."""
        return self.largest / self.smallest if self.rank == self.size else float("inf")

    @property
    def effective_rank(self) -> float:
        """Exp of the entropy of λ/Σλ (Roy and Vetterli 2007): how many modes carry the kernel."""
        p = self.extremes / self.extremes.sum()
        return math.exp(-float(np.dot(p, np.log(p))))

    @property
    def effective_rank_error(self) -> float:
        """The standard error of :attr:`effective_rank`; 0 where all eigenvalues are known."""
        return 0.0

    @property
    def max_lr(self) -> float:
        """2/(γ λ_max): gradient descent on the linearized network converges below it."""
        return 2.0 / (self.gamma * self.largest) if self.gamma else math.inf

    @property
    def best_lr(self) -> float:
        """2/(γ (λ_max + λ_min)), λ_min the smallest that is not zero: the slowest mode falls fastest."""
        return 2.0 / (self.gamma * (self.largest + self.smallest)) if self.gamma else math.inf

"""One float64 eigendecomposition of a kernel, reused for every time, optimizer and target."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.arrays import as_tensor
from whichmin.errors import InputError
from whichmin.losses import MeanSquaredError

#: Eigenvalues of at most this many rounding units ε of the largest count as zero: rounding moves them by about one.
CUTOFF = 10.0


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
class Spectrum:
    """K = Q Λ Qᵀ in float64, and what follows from it for gradient descent on a quadratic loss.

    The decomposition is made when it is first asked for; products with K need none.

    Attributes:
        of: K, (N·C, N·C), float64, symmetric up to rounding, not zero.
        gamma: γ of the loss, ∂L/∂f = γ (f − y): gradient descent multiplies a mode by 1 − lr·γ·λ a step. Of other
            losses the largest curvature.
        eps: the rounding unit of the type that K was computed in.
    """

    of: Tensor = field(repr=False)
    gamma: float
    eps: float

    @property
    def eigenvalues(self) -> Tensor:
        """Λ, (N·C,), descending, on the CPU; those that count as zero (:func:`rank_cutoff`) are exactly zero."""
        return self._decomposition[0]

    @property
    def vectors(self) -> Tensor:
        """Q, (N·C, N·C), on the CPU, a column per eigenvalue, rows ordered as ``outputs.reshape(-1)``."""
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
        values, vectors = torch.linalg.eigh((self.of + self.of.T) / 2)
        if float(values[0]) < -1e3 * self.eps * float(values[-1].abs()) or float(values[-1]) <= 0:
            raise InputError(
                f"the kernel is not positive semidefinite: its smallest eigenvalue is {float(values[0]):.3g}, its "
                f"largest {float(values[-1]):.3g}. Pass K(X, X) of one set of inputs."
            )
        values, vectors = values.flip(0).cpu(), vectors.flip(1).cpu()
        small = values <= rank_cutoff(float(values[0]), self.eps)
        discarded = float(values[small].abs().max()) if bool(small.any()) else 0.0
        return torch.where(small, torch.zeros_like(values), values), vectors, discarded

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """K as it was given, (N·C, N·C)."""
        return self.of.cpu().numpy()

    def rotate(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """Qᵀv for rows v, (…, N·C)."""
        return v @ self.vectors.numpy()

    def rotate_back(self, q: NDArray[np.float64]) -> NDArray[np.float64]:
        """Q q for rows q, (…, N·C)."""
        return q @ self.vectors.numpy().T

    def apply(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K v, (N·C,)."""
        return self.matrix @ v

    def solve(self, v: NDArray[np.float64]) -> NDArray[np.float64]:
        """K⁺v, (N·C,), with eigenvalues that are zero left out."""
        values = self.eigenvalues.numpy()
        return self.rotate_back(self.rotate(v) / np.where(values > 0, values, np.inf))

    def project(self, v: Tensor) -> Tensor:
        """K K⁺v for v (N·C,) or (N·C, k): its part in the range of K."""
        Q = self.vectors[:, self.eigenvalues > 0]
        return Q @ (Q.mT @ v)

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
        was, remains = np.abs(self.rotate(before)), np.abs(self.rotate(after))
        gone = 1.0 - np.minimum(remains / np.maximum(was, 1e-300), 1.0)
        return -self.solve(self.rotate_back(gone * self.rotate(change)))

    @property
    def kernel(self) -> NDArray[np.float64]:
        """K without the modes that count as zero, (N·C, N·C)."""
        Q = self.vectors.numpy()
        return (Q * self.eigenvalues.numpy()) @ Q.T

    @property
    def rank(self) -> int:
        """How many eigenvalues are not zero."""
        return int((self.eigenvalues > 0).sum())

    @property
    def condition(self) -> float:
        """λ_max/λ_min; infinity where the kernel is singular."""
        smallest = float(self.eigenvalues[-1])
        return float(self.eigenvalues[0]) / smallest if smallest > 0 else float("inf")

    @property
    def effective_rank(self) -> float:
        """Exp of the entropy of λ/Σλ (Roy and Vetterli 2007): how many modes carry the kernel."""
        p = self.eigenvalues[self.eigenvalues > 0]
        p = p / p.sum()
        return float(torch.exp(-(p * p.log()).sum()))

    @property
    def max_lr(self) -> float:
        """2/(γ λ_max): gradient descent on the linearized network converges below it."""
        return 2.0 / (self.gamma * float(self.eigenvalues[0])) if self.gamma else math.inf

    @property
    def best_lr(self) -> float:
        """2/(γ (λ_max + λ_min)), λ_min the smallest that is not zero: the slowest mode falls fastest."""
        positive = self.eigenvalues[self.eigenvalues > 0]
        return 2.0 / (self.gamma * float(positive[0] + positive[-1])) if self.gamma else math.inf


def spectrum(K: Tensor) -> Spectrum:
    """The eigendecomposition of a tangent kernel of the training inputs, with γ of ``torch.nn.MSELoss()``.

    Args:
        K: (N, N, C, C) as from :func:`whichmin.tangent_kernel`, or (N, N); a tensor or an array.

    Cost: O((N·C)³) in float64.

    Raises:
        InputError: another shape, a kernel that is not finite, not symmetric, or zero.
    """
    K = as_tensor(K, "K")
    if K.ndim not in (2, 4) or K.shape[0] != K.shape[1] or (K.ndim == 4 and K.shape[2] != K.shape[3]):
        raise InputError(f"a kernel of shape {tuple(K.shape)}; expected (N, N, C, C) or (N, N), of one set of inputs.")
    if not K.is_floating_point():
        raise InputError(f"the kernel is {K.dtype}; expected a floating-point type: K.double().")
    if not bool(torch.isfinite(K).all()):
        raise InputError("the kernel holds NaN or infinity: check the network's parameters and inputs.")
    size = K.shape[0] if K.ndim == 2 else K.shape[0] * K.shape[2]
    matrix = (K if K.ndim == 2 else K.permute(0, 2, 1, 3).reshape(size, size)).double()
    eps = rounding_unit(K.dtype)
    largest = float(matrix.abs().max())
    if float((matrix - matrix.T).abs().max()) > 1e4 * eps * largest:
        raise InputError("the kernel is not symmetric: pass K(X, X) of one set of inputs.")
    return decompose(matrix, MeanSquaredError().curvature(size), eps)


def decompose(matrix: Tensor, gamma: float, eps: float) -> Spectrum:
    """As :func:`spectrum`, for a matrix and with what follows from the loss and from the kernel's type given.

    It is decomposed at once, and refused where it is not positive semidefinite.

    Args:
        matrix: K, (N·C, N·C), float64.
        gamma: γ of the loss.
        eps: the rounding unit of the type that K was computed in.

    Raises:
        InputError: the matrix is zero or not positive semidefinite.
    """
    decomposed = undecomposed(matrix, gamma, eps)
    _ = decomposed.eigenvalues
    return decomposed


def undecomposed(matrix: Tensor, gamma: float, eps: float) -> Spectrum:
    """As :func:`decompose`, for those who may need no more than products with K.

    Raises:
        InputError: the matrix is zero.
    """
    if float(matrix.abs().max()) == 0:
        raise InputError("the kernel is zero: no trainable parameter moves the outputs on these inputs.")
    return Spectrum(matrix, gamma, eps)

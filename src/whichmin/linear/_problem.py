"""The problem in the data's singular vectors, and the hidden layer reduced to what moves.

X = W Σ Φ₁ᵀ (rank n). With U₁ = Φ₁ᵀU, A = WᵀY and E₁ = A − Σ U₁ Vᵀ the loss is ½‖E₁‖² + L*, U₂ (U off the row space of
X) never moves, and M = [U₁; V], (n + m) × h, obeys Ṁ = B M with B = [0, ΣE₁; E₁ᵀΣ, 0]. So M keeps its row space: with
M(0) = R Qᵀ, Q of at most n + m orthonormal columns, M(t) = R(t) Qᵀ, and any width costs what n + m costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from whichmin.errors import DataError
from whichmin.linear import _checks
from whichmin.linear._checks import Array, Data


@dataclass(frozen=True, eq=False)
class Problem:
    """Least squares, diagonalized.

    ``sigma`` (n,), ``row_space`` Φ₁ (d, n), ``targets`` A = WᵀY (n, m), ``floor`` L*.
    """

    sigma: Array
    row_space: Array
    targets: Array
    floor: float
    points: int

    @property
    def rank(self) -> int:
        """The rank n of X."""
        return len(self.sigma)

    @property
    def inputs(self) -> int:
        """The input dimension d."""
        return len(self.row_space)

    @property
    def outputs(self) -> int:
        """The output dimension m."""
        return self.targets.shape[1]

    @cached_property
    def solution(self) -> Array:
        """Σ⁻¹A, (n, m): the minimum-norm solution in the coordinates of the row space."""
        return self.targets / self.sigma[:, None]

    def residual(self, upper: Array, lower: Array) -> Array:
        """E₁ = A − Σ U₁ Vᵀ, (…, n, m)."""
        return self.targets - self.sigma[:, None] * (upper @ lower.swapaxes(-1, -2))

    def velocity(self, state: Array) -> Array:
        """Ṁ for M = [U₁; V], (…, n + m, k): minus the gradient of the loss."""
        n = self.rank
        upper, lower = state[..., :n, :], state[..., n:, :]
        weighted = self.sigma[:, None] * self.residual(upper, lower)
        return np.concatenate([weighted @ lower, weighted.swapaxes(-1, -2) @ upper], axis=-2)

    def gap(self, state: Array) -> Array:
        """L − L* = ½‖E₁‖², (…)."""
        n = self.rank
        return 0.5 * (self.residual(state[..., :n, :], state[..., n:, :]) ** 2).sum((-2, -1))


@dataclass(frozen=True, eq=False)
class Reduced:
    """A network's moving part M(0) = R Qᵀ and its still part.

    ``state`` R (n + m, k), ``basis`` Q (h, k), ``still`` Φ₂U₂ (d, h), ``shadow``: a square root of (U₂Q)ᵀ(U₂Q), so that
    ‖shadow Rᵥᵀ‖ = ‖U₂Vᵀ‖.
    """

    state: Array
    basis: Array
    still: Array
    shadow: Array

    def solution_distances(self, problem: Problem, state: Array) -> Array:
        """‖UVᵀ − Θ̂‖_F for states (…, n + m, k)."""
        n = problem.rank
        upper, lower = state[..., :n, :], state[..., n:, :]
        inside = ((upper @ lower.swapaxes(-1, -2) - problem.solution) ** 2).sum((-2, -1))
        outside = ((lower @ self.shadow.T) ** 2).sum((-2, -1))
        return np.sqrt(inside + outside)

    def invariants(self, problem: Problem) -> tuple[float, float]:
        """‖V U₂ᵀ‖_F and ‖U₁U₂ᵀ‖_F at the start."""
        cross = self.state @ self.shadow.T
        return float(np.linalg.norm(cross[problem.rank :])), float(np.linalg.norm(cross[: problem.rank]))

    def expand(self, problem: Problem, state: Array) -> tuple[Array, Array]:
        """The weights U (…, d, h) and V (…, m, h) of states (…, n + m, k)."""
        n = problem.rank
        upper, lower = state[..., :n, :], state[..., n:, :]
        return (problem.row_space @ upper) @ self.basis.T + self.still, lower @ self.basis.T


def pose(data: Data, rcond: float | None = None) -> Problem:
    """Decompose the data; singular values up to rcond·σ₁ count as zero (by default as in :func:`_checks.rank`)."""
    inputs, targets = data.inputs, data.targets
    left, sigma, right = np.linalg.svd(inputs, full_matrices=False)
    n = _checks.rank(sigma, data.eps) if rcond is None else int((sigma > rcond * sigma[0]).sum())
    if n == 0:
        raise DataError("X is zero everywhere: there is nothing to learn from; check how it was made.")
    rotated = left[:, :n].T @ targets
    floor = 0.5 * float(((targets - left[:, :n] @ rotated) ** 2).sum()) if n < len(inputs) else 0.0
    return Problem(sigma[:n], right[:n].T.copy(), rotated, floor, len(inputs))


def reduce(problem: Problem, u: Array, v: Array) -> Reduced:
    """Split weights into what moves and what does not; O(h(n + m)² + dhn)."""
    upper = problem.row_space.T @ u
    still = u - problem.row_space @ upper if problem.rank < problem.inputs else np.zeros_like(u)
    moving = np.concatenate([upper, v])
    if moving.shape[1] > moving.shape[0]:
        basis, triangle = np.linalg.qr(moving.T)
        state = np.ascontiguousarray(triangle.T)
    else:
        basis, state = np.eye(moving.shape[1]), moving
    shadow = still @ basis
    if shadow.shape[0] > shadow.shape[1]:
        shadow = np.asarray(np.linalg.qr(shadow, mode="r"))
    return Reduced(state, basis, still, shadow)

"""The imbalance Λ = U₁ᵀU₁ − VᵀV that gradient flow conserves, and what it says about the factors at every time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whichmin.linear._checks import Array
from whichmin.linear._problem import Problem


@dataclass(frozen=True)
class Levels:
    """The four eigenvalues of Λ that the rates need, each positive or zero.

    Attributes:
        upper: [λ_n(Λ)]₊, a lower bound on λ_n(U₁U₁ᵀ) at every time.
        lower: [λ_m(−Λ)]₊, a lower bound on λ_m(VVᵀ) at every time.
        top: [λ_1(Λ)]₊.
        bottom: [λ_1(−Λ)]₊.
    """

    upper: float
    lower: float
    top: float
    bottom: float

    @property
    def total(self) -> float:
        """The level of imbalance c = [λ_n(Λ)]₊ + [λ_m(−Λ)]₊."""
        return self.upper + self.lower

    def factors(self, product_n: Array | float, product_m: Array | float) -> Array:
        """A lower bound on λ_n(U₁U₁ᵀ) + λ_m(VVᵀ) from Λ and the singular values σ_n, σ_m of the product W = U₁Vᵀ.

        p = λ_n(U₁U₁ᵀ) satisfies (p − λ₊)(p + μ) ≥ σ_n(W)², with λ₊ = [λ_n(Λ)]₊ and μ = [λ_1(−Λ)]₊, hence
        p ≥ ½(λ₊ − μ + √((λ₊ + μ)² + 4σ_n²)); likewise λ_m(VVᵀ) with −Λ. For one input, one unit, one output the sum is
        √(Λ² + 4W²), an equality (Tarmoun et al. 2021; the form of Min et al. 2022).

        Proof. Let z be a unit eigenvector of U₁U₁ᵀ for p and u = U₁ᵀz/√p. From WWᵀ = (U₁U₁ᵀ)² − U₁ΛU₁ᵀ,
        σ_n(W)² ≤ ‖Wᵀz‖² = p² − p·uᵀΛu. If λ₊ = 0, Λ ⪰ −μ gives p² + μp. Otherwise let P project on the first n
        eigenvectors of Λ and κ = λ₊ + μ: Λ ⪰ κP − μ, so σ_n(W)² ≤ p² + μp − κp‖Pu‖², and it remains to see that
        κp‖Pu‖² ≥ λ₊(p + μ). Since U₁ᵀU₁ ⪰ Λ ⪰ κP − μ, the matrix (U₁ᵀU₁ + μ)⁻¹ restricted to the range of P is at most
        1/κ. Written in the eigenvectors u_i of U₁ᵀU₁ (eigenvalues p_i > 0 on an n-dimensional range, T_ij = u_iᵀq_j
        with q_j a basis of the range of P) that is Tᵀ diag(p_i/(p_i + μ)) T ⪰ λ₊/κ. T is square and invertible, so
        TTᵀ ⪰ (λ₊/κ) diag((p_i + μ)/p_i), whose last diagonal entry says ‖Pu‖² ≥ (λ₊/κ)(p + μ)/p. (μ = 0 by limit.) ∎
        """
        return _root(self.upper, self.bottom, product_n) + _root(self.lower, self.top, product_m)


def _root(level: float, opposite: float, product: Array | float) -> Array:
    """The positive root of (p − level)(p + opposite) = product², without cancellation."""
    total = level + opposite
    square = np.asarray(product, dtype=np.float64) ** 2
    denominator = np.sqrt(total**2 + 4.0 * square) + total
    return level + np.divide(2.0 * square, denominator, out=np.zeros_like(square), where=denominator > 0)


def spectrum(problem: Problem, state: Array, width: int) -> Array:
    """All h eigenvalues of Λ, descending; at least h − n − m of them are zero."""
    values = np.zeros(width)
    values[: state.shape[1]] = np.linalg.eigvalsh(gram(problem, state))
    return np.sort(values)[::-1].copy()


def gram(problem: Problem, state: Array) -> Array:
    """QᵀΛQ, (…, k, k): the imbalance in the coordinates of the reduced hidden layer."""
    n = problem.rank
    upper, lower = state[..., :n, :], state[..., n:, :]
    return upper.swapaxes(-1, -2) @ upper - lower.swapaxes(-1, -2) @ lower


def levels(problem: Problem, state: Array, eigenvalues: Array) -> Levels:
    """The four eigenvalues; what is below the rounding of Λ counts as zero."""
    n, m, h = problem.rank, problem.outputs, len(eigenvalues)
    dust = 8 * np.finfo(np.float64).eps * np.sqrt(state.shape[1]) * float((state**2).sum())

    def positive(value: float) -> float:
        return float(value) if value > dust else 0.0

    return Levels(
        upper=positive(eigenvalues[n - 1]) if n <= h else 0.0,
        lower=positive(-eigenvalues[h - m]) if m <= h else 0.0,
        top=positive(eigenvalues[0]),
        bottom=positive(-eigenvalues[-1]),
    )

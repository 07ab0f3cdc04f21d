"""How fast the loss must fall and how far from the minimum-norm solution training can end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from whichmin.linear._checks import Array
from whichmin.linear._problem import Problem
from whichmin.linear.imbalance import Levels

#: Losses at which the guaranteed rate is evaluated, evenly spaced in their logarithm from L(0) − L* down by 1e-30: each
#: is 3.4 per cent below the one before.
_RUNGS = 2000


@dataclass(frozen=True, eq=False)
class LossBounds:
    """What gradient flow guarantees from a loss ``gap`` = L(0) − L* above the optimum on.

    The gradient satisfies ‖∇L‖² = ‖ΣE₁V‖² + ‖U₁ᵀΣE₁‖² ≥ (λ_n(U₁U₁ᵀ) + λ_m(VVᵀ)) ‖ΣE₁‖². With s a lower bound on the
    sum of the two eigenvalues and ‖ΣE₁‖² ≥ σ_n²‖E₁‖² = 2σ_n²(L − L*):

    - d/dt (L − L*) = −‖∇L‖² ≤ −2σ_n² s (L − L*). By the imbalance alone s = c at all times.
    - While L − L* ≤ y, ‖E₁‖ ≤ √(2y), so the k-th singular value of W = U₁Vᵀ = Σ⁻¹(A − E₁) is at least
      (σ_k(A) − √(2y))/σ_1 and at least σ_k(Σ⁻¹A) − √(2y)/σ_n; with Levels.factors this gives s(y), at least c and
      larger the smaller y: the tight rate holds from the start on with s(L(0) − L*), and s(y) from L − L* = y on.
    - Z = [VU₂ᵀ; U₁U₂ᵀ] obeys Ż = [0, E₁ᵀΣ; ΣE₁, 0] Z, so with κ = ∫‖ΣE₁‖dt the end satisfies
      ‖V(∞)U₂ᵀ‖ ≤ cosh κ ‖V(0)U₂ᵀ‖ + sinh κ ‖U₁(0)U₂ᵀ‖ ≤ e^κ δ. The paper bounds κ by σ_1√(2L(0))/(σ_n² c). Tighter, as
      dt = dL/‖∇L‖² and ‖ΣE₁‖/‖∇L‖² ≤ 1/(s‖ΣE₁‖) ≤ 1/(s σ_n √(2y)):  κ ≤ ∫ dy/(s(y) σ_n √(2y)), at most
      √(2(L(0) − L*))/(σ_n c): the condition number of the data is gone.
    """

    problem: Problem
    levels: Levels
    gap: float

    def factors(self, gap: Array | float) -> Array:
        """s(y): a lower bound on λ_n(U₁U₁ᵀ) + λ_m(VVᵀ) at all times after the loss has come down to L* + y."""
        problem, residual = self.problem, np.sqrt(2.0 * np.asarray(gap, dtype=np.float64))
        k = min(problem.rank, problem.outputs) - 1
        by_targets = (self._targets[k] - residual) / problem.sigma[0]
        by_solution = self._solution[k] - residual / problem.sigma[-1]
        product = np.maximum(np.maximum(by_targets, by_solution), 0.0)
        zero = np.zeros_like(product)
        wide, tall = problem.rank <= problem.outputs, problem.outputs <= problem.rank
        return self.levels.factors(product if wide else zero, product if tall else zero)

    def rate_from(self, gap: Array | float) -> Array:
        """The exponential rate that is guaranteed once L − L* ≤ ``gap``: 2σ_n² s(gap)."""
        return 2.0 * float(self.problem.sigma[-1]) ** 2 * self.factors(gap)

    @property
    def rate(self) -> float:
        """2σ_n² c, by the imbalance alone."""
        return 2.0 * float(self.problem.sigma[-1]) ** 2 * self.levels.total

    def gap_bound(self, times: Array) -> Array:
        """An upper bound on L(t) − L*, (T,), by a rate that grows as the loss falls; never above that by ``rate``."""
        gaps, rates, clock = self._ladder
        rung = np.clip(np.searchsorted(clock, times, side="right") - 1, 0, len(gaps) - 1)
        return np.asarray(gaps[rung] * np.exp(-rates[rung] * (times - clock[rung])))

    def travel(self) -> float:
        """The tighter upper bound on κ = ∫‖ΣE₁‖dt; infinite where nothing is guaranteed."""
        if self.gap <= 0:
            return 0.0
        gaps, rates, _ = self._ladder
        if rates[0] <= 0:
            return float("inf")
        steps = np.sqrt(2.0 * gaps) - np.sqrt(2.0 * np.append(gaps[1:], 0.0))
        return float((2.0 * self.problem.sigma[-1] * steps / rates).sum())

    @cached_property
    def _ladder(self) -> tuple[Array, Array, Array]:
        """Losses, the rate guaranteed from each on, and the latest time at which each is reached."""
        gaps = self.gap * np.logspace(0, -30, _RUNGS)
        rates = self.rate_from(gaps)
        if self.gap <= 0 or rates[0] <= 0:
            return gaps[:1], rates[:1], np.zeros(1)
        steps = np.log(gaps[:-1] / gaps[1:]) / rates[:-1]
        return gaps, rates, np.concatenate([[0.0], np.cumsum(steps)])

    @cached_property
    def _targets(self) -> Array:
        return np.linalg.svd(self.problem.targets, compute_uv=False).astype(np.float64)

    @cached_property
    def _solution(self) -> Array:
        return np.linalg.svd(self.problem.solution, compute_uv=False).astype(np.float64)


def grown(level: float, exponent: float) -> float:
    """``level`` · e^exponent, with 0 · ∞ = 0 and no overflow."""
    if level == 0:
        return 0.0
    return float(level * np.exp(exponent)) if exponent < 700 else float("inf")

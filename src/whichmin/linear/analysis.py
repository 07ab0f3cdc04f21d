"""What is known about a linear network's training before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from whichmin.devices import default_device_aside
from whichmin.linear import _checks, assumptions, imbalance
from whichmin.linear._checks import tensor
from whichmin.linear._problem import Problem, Reduced, pose, reduce
from whichmin.linear.assumptions import Assumption
from whichmin.linear.loss_bounds import LossBounds, grown
from whichmin.linear.modules import factors
from whichmin.results import Result
from whichmin.task import Task


@dataclass(frozen=True, eq=False)
class LinearAnalysis(Result):
    """Guarantees for gradient flow on L = ½‖Y − XUVᵀ‖²_F, and where the network stands now.

    Times are those of U̇ = −∂L/∂U: after k small steps of size lr on L, t = lr·k; with ``torch.nn.MSELoss`` over
    N points and m outputs, t = 2·lr·k/(N·m).

    ``to_frame`` has one row per quantity: ``quantity`` and ``value``.

    Attributes:
        imbalance_spectrum: the eigenvalues of Λ = U₁ᵀU₁ − VᵀV, (h,), descending.
        imbalance_level: c = [λ_n(Λ)]₊ + [λ_m(−Λ)]₊.
        singular_values: σ_1 … σ_n of X, (n,).
        rank: n, the rank of X.
        rate: 2σ_n²c: L(t) − L* ≤ e^{−rate·t}(L(0) − L*).
        tight_rate: the same from imbalance and product together, never below ``rate``.
        final_rate: the rate guaranteed once the loss is near the optimum.
        current_rate: −d log(L − L*)/dt now, measured; nothing guarantees that it lasts.
        invariant_distances: (‖V U₂ᵀ‖_F, ‖U₁U₂ᵀ‖_F); both are zero on the invariant set.
        invariant_distance: δ, the root of the sum of their squares.
        on_invariant_set: whether δ is zero up to rounding.
        least_squares: Θ̂ = X⁺Y, (d, m).
        solution_distance: ‖UVᵀ − Θ̂‖_F now.
        bound: on the distance at the end: δ·exp(σ_1√(2L(0))/(σ_n²c)); infinite where c = 0.
        tight_bound: cosh κ‖VU₂ᵀ‖ + sinh κ‖U₁U₂ᵀ‖ with a smaller κ (see ``LossBounds``), never above ``bound``.
        loss: L now.
        optimum: L*.
        assumptions: what the theorems need, which of it holds, and what still holds where it does not.
    """

    kind: ClassVar[str] = "linear_analysis"

    imbalance_spectrum: Tensor
    imbalance_level: float
    singular_values: Tensor
    rank: int
    rate: float
    tight_rate: float
    final_rate: float
    current_rate: float
    invariant_distances: tuple[float, float]
    invariant_distance: float
    on_invariant_set: bool
    least_squares: Tensor
    solution_distance: float
    bound: float
    tight_bound: float
    loss: float
    optimum: float
    assumptions: tuple[Assumption, ...]
    _loss_bounds: LossBounds = field(repr=False)
    _reduced: Reduced = field(repr=False)

    @property
    def imbalance(self) -> Tensor:
        """Λ = U₁ᵀU₁ − VᵀV, (h, h), formed when asked for."""
        basis = self._reduced.basis
        return tensor(basis @ imbalance.gram(self._loss_bounds.problem, self._reduced.state) @ basis.T)

    @property
    def notes(self) -> tuple[str, ...]:
        """What fails of the assumptions and what still holds, one sentence each."""
        return tuple(a.detail for a in self.assumptions if not a.holds)

    def loss_bound(self, times: Any) -> Tensor:
        """L* + e^{−rate·t}(L(0) − L*), (T,)."""
        t = _checks.time_grid(times)
        return tensor(self.optimum + (self.loss - self.optimum) * np.exp(-self.rate * t))

    def tight_loss_bound(self, times: Any) -> Tensor:
        """The upper bound on L(t) whose rate rises from ``tight_rate`` to ``final_rate`` as the loss falls, (T,)."""
        return self.optimum + self.tight_gap_bound(times)

    def tight_gap_bound(self, times: Any) -> Tensor:
        """The same bound, on L(t) − L*: it keeps its digits where that is small, (T,)."""
        return tensor(self._loss_bounds.gap_bound(_checks.time_grid(times)))

    def _columns(self) -> Mapping[str, Any]:
        return {"quantity": _NUMBERS, "value": [float(getattr(self, name)) for name in _NUMBERS]}


#: The distance to the invariant set, relative to the size of the weights' products, up to which it is rounding.
_ON_SET = 1e-12
#: The attributes of an analysis that are one number, in the order of its table.
_NUMBERS = [
    *("loss", "optimum", "rank", "imbalance_level", "rate", "tight_rate", "final_rate", "current_rate"),
    *("invariant_distance", "solution_distance", "bound", "tight_bound"),
]


@default_device_aside()
def analyze(model: nn.Module, task: Task, *, rcond: float | None = None) -> LinearAnalysis:
    """What gradient flow on a linear network with one hidden layer is sure to do: :func:`analyze_weights` of a module.

    Args:
        model: two linear layers without biases.
        task: the data; the loss is ½‖Y − XUVᵀ‖²_F, in whose units the times are.
        rcond: see :func:`analyze_weights`.

    Raises:
        ModelError: a module that is not linear, has biases or another depth, or does not fit the data.
        DataError: what is not a task, or X zero.
    """
    return analyze_weights(*factors(model, task), rcond=rcond)


@default_device_aside()
def analyze_weights(U: Any, V: Any, X: Any, Y: Any, *, rcond: float | None = None) -> LinearAnalysis:
    """What gradient flow on a single-hidden-layer linear network f(x) = V Uᵀ x is sure to do.

    The loss converges exponentially at a rate that depends on the level of imbalance of the initialization; on the
    invariant set {VU₂ᵀ = 0, U₁U₂ᵀ = 0} it ends at the minimum-norm solution; off it, no further away than ``bound``.

    Args:
        U: first layer, (d, h).
        V: second layer, (m, h).
        X: inputs, (N, d), of any rank.
        Y: targets, (N, m) or (N,).
        rcond: singular values of X up to rcond·σ_1 count as zero; ten rounding units of X's type by default.

    Returns:
        A :class:`LinearAnalysis`, in float64 on the CPU. Costs one thin SVD of X and O(h(n + m)² + dhn).

    Raises:
        ModelError: weights that do not chain or are not finite.
        DataError: X or Y not finite, of different lengths, or X zero.

    Min, Tarmoun, Vidal, Mallada, *On the Explicit Role of Initialization on the Convergence and Implicit Bias of
    Overparametrized Linear Networks*, ICML 2021, arXiv 2105.06351.
    """
    data = _checks.data(X, Y)
    problem = pose(data, rcond)
    reduced = reduce(problem, *_checks.network(U, V, data))
    return _package(problem, reduced, len(reduced.basis))


def _package(problem: Problem, reduced: Reduced, width: int) -> LinearAnalysis:
    state = reduced.state
    eigenvalues = imbalance.spectrum(problem, state, width)
    levels = imbalance.levels(problem, state, eigenvalues)
    gap = float(problem.gap(state))
    bounds = LossBounds(problem, levels, gap)
    invariants = reduced.invariants(problem)
    delta = float(np.hypot(*invariants))
    size = float(np.linalg.norm(state))
    on_set = delta <= _ON_SET * size * float(np.hypot(size, np.linalg.norm(reduced.still)))
    lower, upper = (0.0, 0.0) if on_set else invariants
    bound = tight = float("inf")
    if levels.total > 0:
        exponent = problem.sigma[0] * np.sqrt(2 * (gap + problem.floor)) / (problem.sigma[-1] ** 2 * levels.total)
        bound = grown(float(np.hypot(lower, upper)), float(exponent))
    travel = bounds.travel()
    if np.isfinite(travel):
        tight = 0.5 * (grown(lower + upper, travel) + (lower - upper) * float(np.exp(-travel)))
    speed = float((problem.velocity(state) ** 2).sum())
    return LinearAnalysis(
        imbalance_spectrum=tensor(eigenvalues),
        imbalance_level=levels.total,
        singular_values=tensor(problem.sigma),
        rank=problem.rank,
        rate=bounds.rate,
        tight_rate=float(bounds.rate_from(gap)),
        final_rate=float(bounds.rate_from(0.0)),
        current_rate=speed / gap if gap > 0 else float("nan"),
        invariant_distances=invariants,
        invariant_distance=delta,
        on_invariant_set=on_set,
        least_squares=tensor(problem.row_space @ problem.solution),
        solution_distance=float(reduced.solution_distances(problem, state)),
        bound=bound,
        tight_bound=tight,
        loss=gap + problem.floor,
        optimum=problem.floor,
        assumptions=assumptions.check(problem, levels, width, on_set, float(bounds.rate_from(gap))),
        _loss_bounds=bounds,
        _reduced=reduced,
    )

"""Linear networks of any depth: f(x) = W_L ⋯ W_1 x, their conserved imbalances and where gradient flow takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce as fold
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from whichmin.devices import default_device_aside
from whichmin.linear import _checks
from whichmin.linear._checks import Array, tensor
from whichmin.linear._problem import Problem, pose
from whichmin.linear.flow import TRAJECTORY, Method, integrate
from whichmin.results import Result


@dataclass(frozen=True, eq=False)
class DeepFlow(Result):
    """A trajectory of gradient flow on a linear network of depth L.

    ``to_frame`` has one row per time: ``time``, ``loss``, ``gap``, ``solution_distance``, ``imbalance_drift``.

    Attributes:
        times: (T,).
        losses: ½‖Y − X(W_L⋯W_1)ᵀ‖²_F, (T,).
        gaps: L − L*, (T,).
        solution_distances: ‖(W_L⋯W_1)ᵀ − X⁺Y‖_F, (T,).
        imbalance_drift: the largest over layers of ‖Λ_l(t) − Λ_l(0)‖_F, (T,): the integrator's error.
        still_drift: how far W_1 moved off the row space of X, (T,): the integrator's error, too.
        initial: the weights at time 0, (out, in) each.
        final: the weights at the last time.
        product: (W_L⋯W_1)ᵀ at the last time, (d, m), to be compared with ``least_squares``.
        least_squares: X⁺Y, (d, m).
        optimum: L*.
        evaluations: of the gradient.
    """

    kind: ClassVar[str] = "deep_flow"

    times: Tensor
    losses: Tensor
    gaps: Tensor
    solution_distances: Tensor
    imbalance_drift: Tensor
    still_drift: Tensor
    initial: tuple[Tensor, ...]
    final: tuple[Tensor, ...]
    product: Tensor
    least_squares: Tensor
    optimum: float
    evaluations: int

    def _columns(self) -> Mapping[str, Any]:
        return {column: getattr(self, name) for column, name in TRAJECTORY.items()}


@default_device_aside()
def deep_imbalances(weights: Sequence[Any]) -> tuple[Tensor, ...]:
    """Λ_l = W_{l+1}ᵀW_{l+1} − W_l W_lᵀ, one (h_l, h_l) matrix per hidden layer; gradient flow conserves each.

    For two layers, W_1 = Uᵀ and W_2 = V, it is VᵀV − UᵀU: minus the imbalance of
    :func:`whichmin.linear.analyze_weights`, with U₂ᵀU₂ (conserved as well) added to the first layer's part.

    Args:
        weights: W_1 … W_L, first layer first, (out, in) each as ``nn.Linear`` stores them, L at least 2.

    Raises:
        ModelError: fewer than two weights, shapes that do not chain, not finite.

    Arora, Cohen, Hazan, *On the Optimization of Deep Networks*, ICML 2018.
    """
    chain = _checks.chain(weights)
    return tuple(tensor(b.T @ b - a @ a.T) for a, b in pairwise(chain))


@default_device_aside()
def deep_flow(
    weights: Sequence[Any],
    X: Any,
    Y: Any,
    times: Any,
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Method = "DOP853",
    progress: bool = False,
) -> DeepFlow:
    """Gradient flow Ẇ_l = (W_L⋯W_{l+1})ᵀ Eᵀ X (W_{l−1}⋯W_1)ᵀ with E = Y − X(W_L⋯W_1)ᵀ, on ½‖E‖²_F.

    Args:
        weights: W_1 … W_L, (out, in) each, L at least 2; of a module ``linear.layers(model, X)``.
        X: inputs, (N, d).
        Y: targets, (N, m) or (N,).
        times: where to report, increasing, (T,).
        rtol: relative tolerance of the integrator.
        atol: its absolute tolerance, times the size of the weights.
        method: of ``scipy.integrate.solve_ivp``.
        progress: whether to show a progress bar on stderr.

    Returns:
        A :class:`DeepFlow`. Each evaluation costs what one pass through the network costs on rank(X) inputs; widths are
        not reduced.

    Raises:
        ModelError: fewer than two weights, or shapes that do not chain.
        DataError: X or Y that cannot be used, or times that do not increase from 0.
        WhichminError: the integrator gave up.
    """
    data = _checks.data(X, Y)
    chain, grid = _checks.chain(weights, data), _checks.time_grid(times)
    problem = pose(data)
    states, evaluations = _integrate(
        problem,
        chain,
        grid,
        rtol=_checks.positive(rtol, "rtol"),
        atol=_checks.positive(atol, "atol"),
        method=method,
        progress=progress,
    )
    return _package(problem, grid, states, evaluations)


def _integrate(problem: Problem, chain: list[Array], grid: Array, **options: Any) -> tuple[list[Array], int]:
    """The weights at all times, (T, out, in) per layer."""
    shapes = [w.shape for w in chain]
    cuts = np.cumsum([w.size for w in chain])[:-1]

    def velocity(flat: Array) -> Array:
        parts = [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]
        return np.concatenate([g.ravel() for g in _gradient(problem, parts)])

    start = np.concatenate([w.ravel() for w in chain])
    flat, evaluations = integrate(velocity, start, grid, **options)
    pieces = np.split(flat, cuts, axis=1)
    return [p.reshape(len(grid), *shape) for p, shape in zip(pieces, shapes, strict=True)], evaluations


def _gradient(problem: Problem, chain: list[Array]) -> list[Array]:
    """Minus the gradient of the loss with respect to each layer, by one pass forward and one back."""
    forward = [problem.row_space * problem.sigma]  # the data as n weighted directions, (d, n)
    for weight in chain:
        forward.append(weight @ forward[-1])
    back = problem.targets.T - forward.pop()
    result = []
    for weight in reversed(chain):
        result.append(back @ forward.pop().T)
        back = weight.T @ back
    return result[::-1]


def _package(problem: Problem, grid: Array, states: list[Array], evaluations: int) -> DeepFlow:
    product = fold(lambda below, above: above @ below, states)
    solution = problem.row_space @ problem.solution
    inside = (product @ problem.row_space).swapaxes(-1, -2)
    gaps = 0.5 * ((problem.targets - problem.sigma[:, None] * inside) ** 2).sum((-2, -1))
    moved = states[0] - states[0][0]
    off = moved - (moved @ problem.row_space) @ problem.row_space.T
    drift = np.zeros(len(grid))
    for below, above in pairwise(states):
        level = above.swapaxes(-1, -2) @ above - below @ below.swapaxes(-1, -2)
        drift = np.maximum(drift, np.sqrt(((level - level[0]) ** 2).sum((-2, -1))))
    return DeepFlow(
        times=tensor(grid),
        losses=tensor(gaps + problem.floor),
        gaps=tensor(gaps),
        solution_distances=tensor(np.sqrt(((product.swapaxes(-1, -2) - solution) ** 2).sum((-2, -1)))),
        imbalance_drift=tensor(drift),
        still_drift=tensor(np.sqrt((off**2).sum((-2, -1)))),
        initial=tuple(tensor(s[0]) for s in states),
        final=tuple(tensor(s[-1]) for s in states),
        product=tensor(product[-1].T),
        least_squares=tensor(solution),
        optimum=problem.floor,
        evaluations=evaluations,
    )

"""Gradient flow on a single-hidden-layer linear network, integrated with error control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from whichmin.devices import default_device_aside
from whichmin.errors import WhichminError
from whichmin.linear import _checks, imbalance
from whichmin.linear._checks import Array, Data, tensor
from whichmin.linear._problem import Problem, Reduced, pose, reduce
from whichmin.linear.loss_bounds import LossBounds
from whichmin.results import Result

Method = Literal["DOP853", "RK45", "Radau", "BDF", "LSODA"]
Velocity = Callable[[Array], Array]


#: The columns of a trajectory's table, with the attributes that they hold.
TRAJECTORY = {
    "time": "times",
    "loss": "losses",
    "gap": "gaps",
    "solution_distance": "solution_distances",
    "imbalance_drift": "imbalance_drift",
}
#: The part of L − L* that is left at the end of a flow without times, by the guaranteed rate.
SETTLED = 1e-12
#: Length of a flow without times and without a guaranteed rate, in slowest time constants of its end.
TIME_CONSTANTS = 40.0
#: Length of a flow without times at most, in time constants of its fastest mode: about the steps of an integrator.
STEPS = 2e5


@dataclass(frozen=True, eq=False)
class LinearFlow(Result):
    """A trajectory of gradient flow, or of gradient descent (times are then lr·steps).

    ``to_frame`` has one row per time: ``time``, ``loss``, ``gap``, ``solution_distance``, ``imbalance_drift``.

    Attributes:
        times: (T,).
        losses: L = ½‖Y − XUVᵀ‖²_F, (T,).
        gaps: L − L*, (T,), without the cancellation of ``losses`` − ``optimum``.
        solution_distances: ‖UVᵀ − X⁺Y‖_F, (T,).
        imbalance_drift: ‖Λ(t) − Λ(0)‖_F, (T,): zero for the exact flow, so it measures the integrator; for gradient
            descent it measures the step.
        still_drift: ‖U₂(t) − U₂(0)‖_F, (T,); identically zero where only the moving part was integrated.
        optimum: L*.
        evaluations: of the gradient.
    """

    kind: ClassVar[str] = "linear_flow"

    times: Tensor
    losses: Tensor
    gaps: Tensor
    solution_distances: Tensor
    imbalance_drift: Tensor
    still_drift: Tensor
    optimum: float
    evaluations: int
    _states: Array = field(repr=False)
    _problem: Problem = field(repr=False)
    _reduced: Reduced = field(repr=False)

    def at(self, index: int) -> tuple[Tensor, Tensor]:
        """The weights U (d, h) and V (m, h) at ``times[index]``."""
        u, v = self._reduced.expand(self._problem, self._states[index])
        return tensor(u), tensor(v)

    @property
    def U(self) -> Tensor:
        """The first layer at all times, (T, d, h)."""
        return tensor(self._reduced.expand(self._problem, self._states)[0])

    @property
    def V(self) -> Tensor:
        """The second layer at all times, (T, m, h)."""
        return tensor(self._reduced.expand(self._problem, self._states)[1])

    def _columns(self) -> Mapping[str, Any]:
        return {column: getattr(self, name) for column, name in TRAJECTORY.items()}


@default_device_aside()
def flow(
    U: Any,
    V: Any,
    X: Any,
    Y: Any,
    times: Any = None,
    *,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    method: Method | None = None,
    reduced: bool = True,
    progress: bool = False,
) -> LinearFlow:
    """Gradient flow U̇ = XᵀE V, V̇ = Eᵀ X U, E = Y − XUVᵀ.

    The moving part keeps its row space, so that it is integrated in n + m coordinates at most instead of h, exactly:
    each evaluation costs O(nm·min(h, n + m)) at any width.

    Args:
        U: first layer, (d, h). For a module and a task: ``flow(*linear.factors(model, task), times)``.
        V: second layer, (m, h).
        X: inputs, (N, d).
        Y: targets, (N, m) or (N,).
        times: where to report, increasing, (T,); 201 of them up to :func:`horizon` by default: look at the last gap.
        rtol: relative tolerance of the integrator.
        atol: its absolute tolerance, times the size of the weights.
        method: of ``scipy.integrate.solve_ivp``; by default DOP853, and LSODA where σ_1 > 10σ_n.
        reduced: with False all weights are integrated as they are, which checks that U₂ stays still.
        progress: whether to show a progress bar on stderr.

    Returns:
        A :class:`LinearFlow`, float64 on the CPU.

    Raises:
        ModelError: see :func:`whichmin.linear.analyze_weights`.
        DataError: see there; or times that do not increase from 0, or tolerances that are not positive.
        WhichminError: the integrator gave up; the message says when and why.
    """
    data = _checks.data(X, Y)
    u, v = _checks.network(U, V, data)
    problem = pose(data)
    network = reduce(problem, u, v)
    grid = np.linspace(0.0, horizon(problem, network), 201) if times is None else _checks.time_grid(times)
    tolerances = {"rtol": _checks.positive(rtol, "rtol"), "atol": _checks.positive(atol, "atol"), "progress": progress}
    tolerances["method"] = _method(problem) if method is None else method
    if reduced:
        states, evaluations = integrate(problem.velocity, network.state, grid, **tolerances)
        return package(problem, network, grid, states, evaluations)
    return _whole(problem, network, u, v, data, grid, tolerances)


def _method(problem: Problem) -> Method:
    """DOP853 conserves best; LSODA where it would take many steps, σ_1 > 10σ_n."""
    return "DOP853" if problem.sigma[0] <= 10 * problem.sigma[-1] else "LSODA"


def _whole(
    problem: Problem,
    network: Reduced,
    u: Array,
    v: Array,
    data: Data,
    grid: Array,
    tolerances: dict[str, Any],
) -> LinearFlow:
    """The flow of all weights in their own coordinates."""
    inputs, targets, d = data.inputs, data.targets, len(u)

    def velocity(state: Array) -> Array:
        back = inputs.T @ (targets - inputs @ (state[:d] @ state[d:].T))
        return np.concatenate([back @ state[d:], back.T @ state[:d]])

    states, evaluations = integrate(velocity, np.concatenate([u, v]), grid, **tolerances)
    upper = problem.row_space.T @ states[:, :d]
    still = states[:, :d] - problem.row_space @ upper
    drift = np.sqrt(((still - network.still) ** 2).sum((-2, -1)))
    moving = np.concatenate([upper, states[:, d:]], axis=1)
    whole = Reduced(moving[0], np.eye(u.shape[1]), network.still, network.still)
    return package(problem, whole, grid, moving, evaluations, drift)


def package(
    problem: Problem, network: Reduced, times: Array, states: Array, evaluations: int, drift: Array | None = None
) -> LinearFlow:
    """A trajectory of states (T, n + m, k) with what is measured on it."""
    gaps = problem.gap(states)
    turned = imbalance.gram(problem, states) - imbalance.gram(problem, network.state)
    return LinearFlow(
        times=tensor(times),
        losses=tensor(gaps + problem.floor),
        gaps=tensor(gaps),
        solution_distances=tensor(network.solution_distances(problem, states)),
        imbalance_drift=tensor(np.sqrt((turned**2).sum((-2, -1)))),
        still_drift=tensor(np.zeros(len(times)) if drift is None else drift),
        optimum=problem.floor,
        evaluations=evaluations,
        _states=states,
        _problem=problem,
        _reduced=network,
    )


def integrate(
    velocity: Velocity, start: Array, times: Array, *, rtol: float, atol: float, method: Method, progress: bool
) -> tuple[Array, int]:
    """States (T, …) of ẏ = velocity(y) at the times, from ``start`` at time 0, and the number of evaluations."""
    from scipy.integrate import solve_ivp

    if times[-1] == 0:
        return start[None].copy(), 0
    size = float(np.sqrt((start**2).mean())) or 1.0
    with _bar(times[-1], progress) as tick:

        def rate(t: float, y: Array) -> Array:
            tick(t)
            return velocity(y.reshape(start.shape)).ravel()

        with np.errstate(over="ignore", invalid="ignore"):
            run = solve_ivp(
                rate,
                (0.0, times[-1]),
                start.ravel(),
                method=method,
                t_eval=times,
                rtol=max(rtol, 3e-14),
                atol=atol * size,
            )
    if not run.success or not np.isfinite(run.y).all():
        reached = run.t[-1] if len(run.t) else 0.0
        raise WhichminError(
            f"the integrator {method} stopped at time {reached:.4g} of {times[-1]:.4g}: {run.message} "
            "Loosen rtol, shorten times, or try method='Radau' on a badly conditioned problem."
        )
    return run.y.T.reshape(len(times), *start.shape), int(run.nfev)


@contextmanager
def _bar(end: float, show: bool) -> Iterator[Callable[[float], None]]:
    """A progress bar in per cent of the time to integrate over."""
    if not show:
        yield lambda t: None
        return
    from whichmin._bars import tqdm

    with tqdm(total=100, desc="gradient flow", unit="%") as bar:

        def tick(t: float) -> None:
            done = int(100 * t / end)
            if done > bar.n:
                bar.update(done - bar.n)

        yield tick


def horizon(problem: Problem, network: Reduced) -> float:
    """A time by which the loss has settled as far as is known, and which is not too far to integrate to.

    Where a rate is guaranteed, it has brought the loss down by ``SETTLED``; else ``TIME_CONSTANTS`` are over. Never
    beyond ``STEPS``/(σ_1²(‖U₁‖² + ‖V‖²)).
    """
    eigenvalues = imbalance.spectrum(problem, network.state, len(network.basis))
    gap = float(problem.gap(network.state))
    bounds = LossBounds(problem, imbalance.levels(problem, network.state, eigenvalues), gap)
    guaranteed, final = float(bounds.rate_from(gap)), float(bounds.rate_from(0.0))
    slowest = final or float(problem.sigma[-1]) ** 2
    end = -np.log(SETTLED) / guaranteed if guaranteed > 0 else TIME_CONSTANTS / slowest
    size = float((network.state**2).sum()) or 1.0
    return float(min(end, STEPS / (float(problem.sigma[0]) ** 2 * size)))

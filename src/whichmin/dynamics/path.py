"""Following the path: the finite network's own minimizer from a few linearizations.

Over an interval the tangent features J are frozen and the rule runs exactly in function space; then the parameters
move, θ ← θ − JᵀΣc, the real network is evaluated there and linearized again. Interval ends are set by how far the
parameters moved, for that is what turns J: the intervals of one path are of equal ‖Δθ‖.

Gradient descent whose kernel outgrows the learning rate neither diverges nor follows the flow: it oscillates at the
edge of stability, and its average follows the flow projected onto ηγλ_max ≤ 2 (Cohen et al. 2021, Damian et al. 2023,
Cohen et al. 2025). After each interval the parameters are moved back along ∇λ_max by just what that takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from whichmin.dynamics.linearized import displacement, drawn_times, flat, mean_square
from whichmin.dynamics.network import Network
from whichmin.dynamics.rules import Array, Modes, Rule
from whichmin.dynamics.search import first_time
from whichmin.eigen import Spectrum
from whichmin.tangent.layerwise import Factors

#: A path with a stride is given up when it takes this many times the intervals that were expected.
PATIENCE = 6
#: To what part of the limit of stability the largest eigenvalue is brought back.
BELOW_EDGE = 0.99
#: Newton steps back to the edge of stability after an interval.
EDGE_STEPS = 3


@dataclass(eq=False)
class Path:
    """A followed path, while it is made and afterwards.

    Attributes:
        factors: of the training set at the end.
        spectrum: of the last interval.
        steps: how far it came.
        intervals: how many linearizations it took.
        train: f(X) at the requested times, as far as they are passed.
        test: f(x') at the requested times.
        curve: (step, training mean square error) pairs.
        edge: the step at which the kernel had outgrown the learning rate's limit of stability; None if it never did.
        arrived: whether it ended where it was meant to.
    """

    factors: Factors
    spectrum: Spectrum
    steps: float = 0.0
    intervals: int = 0
    train: list[Tensor] = field(default_factory=list)
    test: list[Tensor] = field(default_factory=list)
    curve: list[tuple[float, float]] = field(default_factory=list)
    edge: float | None = None
    arrived: bool = False

    @property
    def mse(self) -> float:
        """The training mean square error where the path stands."""
        return self.curve[-1][1]


@dataclass(frozen=True)
class Goal:
    """Where a path ends.

    Attributes:
        steps: after so many steps (``math.inf``: at the limit),
        until: or where the training mean square error falls below this.
        times: ascending step counts at which outputs are wanted on the way, the last being the end.
    """

    steps: float
    until: float | None
    times: tuple[float, ...] = ()


def follow(
    network: Network,
    rule: Rule,
    factors: Factors,
    spectrum: Spectrum,
    goal: Goal,
    count: int,
    *,
    stride: float | None = None,
    project: bool = True,
) -> Path:
    """Follow the path from where the network stands, moving it.

    Args:
        network: a private copy, at θ₀; ends at θ_T.
        rule: what happens over an interval.
        factors: of the training set at θ₀.
        spectrum: at θ₀.
        goal: where to end.
        count: how many intervals, each an equal share of what is left of ‖Δθ‖ by the present linearization; with a
            stride, how many are expected.
        stride: ‖Δθ‖ of an interval: then there are as many as the real network needs to reach the goal.
        project: whether to keep to the edge of stability.
    """
    y = flat(network.task.y)
    path = Path(factors, spectrum)
    first = before = _mse(factors, y)
    path.curve.append((0.0, first))
    while path.intervals < (count if stride is None else PATIENCE * count + 24):
        if path.intervals:
            _linearize(network, rule, path, project)
        residual = flat(path.factors.outputs) - y
        modes = rule.modes(path.spectrum.eigenvalues.numpy(), path.spectrum.gamma)
        q = path.spectrum.project(residual)
        t = _interval(rule, modes, path, q, goal, count - path.intervals, stride)
        _snapshots(network, path, modes, q, goal, t)
        _advance(network, path, modes, q, t)
        now = _mse(path.factors, y)
        path.curve.append((path.steps, now))
        if not math.isfinite(now) or now > 1e3 * (first + 1e-30):
            return path
        if _arrived(path, goal, first, before):
            path.arrived = True
            return path
        before = now
    path.arrived = stride is None
    return path


def _mse(factors: Factors, y: Tensor) -> float:
    return float((flat(factors.outputs) - y).square().mean())


def _linearize(network: Network, rule: Rule, path: Path, project: bool) -> None:
    """The kernel where the path stands; where it has outgrown the learning rate, back to the edge of stability."""
    path.spectrum = network.spectrum(network.kernel(path.factors, path.factors))
    for _ in range(EDGE_STEPS):
        largest = float(path.spectrum.eigenvalues[0])
        limit = rule.limit(1.0, path.spectrum.gamma) / rule.lr  # the λ at which this learning rate is at its limit
        if largest <= limit * (1 + 1e-4):
            return
        path.edge = path.steps if path.edge is None else path.edge
        if not project:
            return
        gradient = network.eigenvalue_gradient(path.factors, path.spectrum.vectors[:, 0])
        square = sum(float(g.double().square().sum()) for g in gradient)
        if square == 0:
            return
        network.shift(gradient, -(largest - BELOW_EDGE * limit) / square)
        path.factors = network.factors()
        path.spectrum = network.spectrum(network.kernel(path.factors, path.factors))


def _interval(rule: Rule, modes: Modes, path: Path, q: Array, goal: Goal, left: int, stride: float | None) -> float:
    """How long to keep J: for a stride, or an equal share of the way that is left; at most to the goal."""
    end = goal.steps if math.isinf(goal.steps) else goal.steps - path.steps
    if goal.until is not None:
        below = goal.until
        end = min(end, first_time(lambda s: mean_square(modes.residual(s) * q) < below, rule.flow))
    whole = displacement(path.spectrum, modes, q, end)
    share = whole / max(left, 1) if stride is None else stride
    if share >= whole:
        return end
    return min(end, first_time(lambda s: displacement(path.spectrum, modes, q, s) >= share, rule.flow))


def _advance(network: Network, path: Path, modes: Modes, q: Array, t: float) -> None:
    c = path.spectrum.combine(modes.coefficient(t) * q)
    for s in drawn_times(t, 8)[1:-1]:
        path.curve.append((path.steps + s, mean_square(modes.residual(s) * q)))
    network.descend(path.factors, c)
    path.factors = network.factors()
    path.intervals += 1
    path.steps += t


def _snapshots(network: Network, path: Path, modes: Modes, q: Array, goal: Goal, t: float) -> None:
    """Outputs at the requested times inside this interval, from the real network at the parameters then."""
    here = None
    for s in goal.times:
        if not path.steps <= s < min(path.steps + t, goal.steps):
            continue
        here = network.place() if here is None else here
        c = path.spectrum.combine(modes.coefficient(s - path.steps) * q)
        network.shift(network.pull_back(path.factors, c), -1.0)
        path.train.append(network.outputs(network.task.X))
        path.test.append(network.outputs(network.X))
        network.put(here)


def _arrived(path: Path, goal: Goal, first: float, before: float) -> bool:
    if goal.until is not None and path.mse < goal.until:
        return True
    if math.isinf(path.steps):  # at the limit of a linearization: again, until that changes nothing
        return path.mse <= 1e-12 * first or path.mse > 0.25 * before
    return path.steps >= goal.steps

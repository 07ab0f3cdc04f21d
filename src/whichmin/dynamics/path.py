"""Following the path: the finite network's own minimizer from a few linearizations.

Over an interval the tangent features J are frozen and the rule runs exactly in function space; then the parameters
move, θ ← θ − JᵀΣc, the real network is evaluated there and linearized again. Interval ends are set by how far the
parameters moved, for that is what turns J: the intervals of one path are of equal ‖Δθ‖.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from whichmin.dynamics.linearized import displacement, drawn_times
from whichmin.dynamics.network import Network
from whichmin.dynamics.rules import Modes, Rule
from whichmin.dynamics.search import first_time
from whichmin.eigen import Spectrum
from whichmin.tangent.layerwise import Factors

#: A path is given up when it has taken this many times the intervals it was meant to have.
PATIENCE = 6


@dataclass(eq=False)
class Path:
    """A followed path, while it is made and afterwards.

    Attributes:
        steps: how far it came.
        intervals: how many linearizations it took.
        turned: ½Σ(J_{i+1} − J_i)ᵀc_i: the parameters' first-order error, a list like the parameters.
        factors: of the training set at the end.
        spectrum: of the last interval.
        outputs: f(X) at the requested times, and f(x').
        curve: (step, training mean square error) pairs.
        edge: the step at which the kernel had outgrown the learning rate's limit of stability; None if it never did.
        arrived: whether it ended where it was meant to.
    """

    turned: list[Tensor]
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
    network: Network, rule: Rule, factors: Factors, spectrum: Spectrum, goal: Goal, stride: float, limit: int
) -> Path:
    """Follow the path from where the network stands, moving it.

    Args:
        network: a private copy, at θ₀; ends at θ_T.
        rule: what happens over an interval.
        factors: of the training set at θ₀.
        spectrum: at θ₀.
        goal: where to end.
        stride: ‖Δθ‖ of an interval.
        limit: at most so many intervals; a path that needs more has not ``arrived``.
    """
    y = network.task.y.double().reshape(-1)
    path = Path([torch.zeros_like(p) for p in network.place()], factors, spectrum)
    first = start = _mse(factors, y)
    path.curve.append((0.0, start))
    while path.intervals < limit:
        residual = path.factors.outputs.detach().double().reshape(-1) - y
        if path.intervals:
            path.spectrum = network.spectrum(network.kernel(path.factors, path.factors))
        modes = rule.modes(path.spectrum.eigenvalues, path.spectrum.gamma)
        if path.edge is None and rule.lr >= rule.limit(float(path.spectrum.eigenvalues[0]), path.spectrum.gamma):
            path.edge = path.steps
        q = path.spectrum.vectors.T @ residual
        t = _interval(rule, modes, path, q, goal, stride)
        _snapshots(network, path, modes, q, goal, t)
        _advance(network, path, modes, q, t, rule.flow)
        before, now = start, _mse(path.factors, y)
        path.curve.append((path.steps, now))
        if not math.isfinite(now) or now > 1e3 * (first + 1e-30):
            return path
        start = now
        if _arrived(path, goal, first, before):
            path.arrived = True
            return path
    return path


def _mse(factors: Factors, y: Tensor) -> float:
    return float((factors.outputs.detach().double().reshape(-1) - y).square().mean())


def _interval(rule: Rule, modes: Modes, path: Path, q: Tensor, goal: Goal, stride: float) -> float:
    """How long to keep J: until the parameters have moved by the stride, or the goal is reached."""
    t = first_time(lambda s: displacement(path.spectrum, modes, q, s) >= stride, rule.flow)
    if goal.until is not None:
        below = goal.until
        t = min(t, first_time(lambda s: float((modes.residual(s) * q).square().mean()) < below, rule.flow))
    return t if math.isinf(goal.steps) else min(t, goal.steps - path.steps)


def _advance(network: Network, path: Path, modes: Modes, q: Tensor, t: float, flow: bool) -> None:
    c = path.spectrum.vectors @ (modes.coefficient(t) * q)
    step = network.pull_back(path.factors, c)
    for s in drawn_times(t, 8)[1:-1]:
        path.curve.append((path.steps + s, float((modes.residual(s) * q).square().mean())))
    network.shift(step, -1.0)
    path.factors = network.factors()
    path.intervals += 1
    path.steps += t
    share = 0.5 if flow or math.isinf(t) else 0.5 * (t - 1) / t  # one step of one linearization is exact
    if share:
        after = network.pull_back(path.factors, c)
        torch._foreach_add_(path.turned, after, alpha=share)
        torch._foreach_add_(path.turned, step, alpha=-share)


def _snapshots(network: Network, path: Path, modes: Modes, q: Tensor, goal: Goal, t: float) -> None:
    """Outputs at the requested times inside this interval, from the real network at the parameters then."""
    here = None
    for s in goal.times:
        if not path.steps <= s < min(path.steps + t, goal.steps):
            continue
        here = network.place() if here is None else here
        c = path.spectrum.vectors @ (modes.coefficient(s - path.steps) * q)
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


def estimate_error(
    network: Network,
    rule: Rule,
    factors: Factors,
    spectrum: Spectrum,
    turned: Sequence[Tensor],
    steps: float,
    train: Tensor,
    test: Tensor,
) -> float:
    """The root mean square distance, at the points looked at, to a prediction that is right to the next order.

    With frozen features the parameters are off by δ = ½Σ(J_{i+1} − J_i)ᵀc_i to first order in the length of the
    intervals. The network is evaluated at θ − δ, what that changes on the training set is trained away again, and what
    remains at the test points is the estimate.

    Args:
        network: at θ, where it is left.
        rule: the rule.
        factors: of the training set at θ.
        spectrum: of the last interval.
        turned: δ.
        steps: how long training was.
        train: the predicted f(X), (N·C,).
        test: the predicted f(x'), (n·C,).

    Cost: three forward passes and one backward pass.
    """
    here = network.place()
    network.shift(turned, -1.0)
    changed = network.outputs(network.task.X).double().reshape(-1) - train.double()
    modes = rule.modes(spectrum.eigenvalues, spectrum.gamma)
    c = spectrum.vectors @ (modes.coefficient(steps) * (spectrum.vectors.T @ changed))
    network.put(here)
    back = network.pull_back(factors, c)
    network.shift(turned, -1.0)
    network.shift(back, -1.0)
    difference = network.outputs(network.X).double().reshape(-1) - test.double()
    network.put(here)
    error = float(difference.square().mean().sqrt())
    return error if math.isfinite(error) else math.inf

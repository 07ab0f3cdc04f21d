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

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.paths.linearized import drawn_times, flat, metric_of
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.kernels.spectrum import Spectrum
from whichmin.tangent.direction import Direction
from whichmin.tangent.features import Features

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
        features: J of the training set at the end.
        spectrum: of the last interval.
        slots: what the optimizer remembers, directions in parameter space.
        steps: how far it came.
        intervals: how many linearizations it took.
        train: f(X) at the requested times, as far as they are passed.
        test: f(x') at the requested times.
        curve: (step, training mean square error) pairs.
        edge: the step at which the kernel had outgrown the learning rate's limit of stability; None if it never did.
        arrived: whether it ended where it was meant to.
        metric: D where the parameters move by D Jᵀ in place of Jᵀ; else None.
    """

    features: Features
    spectrum: Spectrum
    slots: list[Direction] = field(default_factory=list)
    steps: float = 0.0
    intervals: int = 0
    train: list[Tensor] = field(default_factory=list)
    test: list[Tensor] = field(default_factory=list)
    curve: list[tuple[float, float]] = field(default_factory=list)
    edge: float | None = None
    arrived: bool = False
    metric: dict[str, Tensor] | None = None

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
    network: MovingNetwork,
    rule: LinearRule,
    features: Features,
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
        features: J of the training set at θ₀.
        spectrum: at θ₀.
        goal: where to end.
        count: how many intervals, each an equal share of what is left of ‖Δθ‖ by the present linearization; with a
            stride, how many are expected.
        stride: ‖Δθ‖ of an interval: then there are as many as the real network needs to reach the goal.
        project: whether to keep to the edge of stability.
    """
    y = flat(network.task.y)
    path = Path(features, spectrum, metric=metric_of(rule, network))
    first = before = _mse(features, y)
    path.curve.append((0.0, first))
    while path.intervals < (count if stride is None else PATIENCE * count + 24):
        if path.intervals:
            _linearize(network, rule, path, project)
        motion = rule.motion(_start(network, rule, path, y))
        t = _interval(rule, motion, path, goal, count - path.intervals, stride)
        _snapshots(network, path, motion, goal, t)
        _advance(network, path, motion, t)
        now = _mse(path.features, y)
        path.curve.append((path.steps, now))
        if not math.isfinite(now) or now > 1e3 * (first + 1e-30):
            return path
        if _arrived(path, goal, first, before):
            path.arrived = True
            return path
        before = now
    path.arrived = stride is None
    return path


def _start(network: MovingNetwork, rule: LinearRule, path: Path, y: Tensor) -> Start:
    """The state of training, as it acts on the training outputs where the path stands."""
    residual = (flat(path.features.outputs) - y).numpy()
    theta = None
    if rule.weight_decay:
        theta = flat(path.features.push(network.values())).numpy()
    start = Start.at_rest(path.spectrum, residual, rule.slots, theta)
    if not path.slots:
        return Start(start.spectrum, residual, path.steps, start.pushed, start.gram)
    pushed = np.stack([start.pushed[0], *(flat(path.features.push(s)).numpy() for s in path.slots)])
    gram = np.array([[path.features.inner(a, b) for b in path.slots] for a in path.slots])
    return Start(path.spectrum, residual, path.steps, pushed, gram)


def _mse(features: Features, y: Tensor) -> float:
    return float((flat(features.outputs) - y).square().mean())


def _linearize(network: MovingNetwork, rule: LinearRule, path: Path, project: bool) -> None:
    """The kernel where the path stands; where it has outgrown the learning rate, back to the edge of stability."""
    path.spectrum = network.spectrum(path.features.gram(metric=path.metric))
    for _ in range(EDGE_STEPS):
        largest = float(path.spectrum.eigenvalues[0])
        limit = rule.limit(1.0, path.spectrum.gamma) / rule.rate(
            path.steps
        )  # the λ at which this learning rate is at its limit
        if largest <= limit * (1 + 1e-4):
            return
        path.edge = path.steps if path.edge is None else path.edge
        if not project:
            return
        gradient = network.eigenvalue_gradient(path.spectrum.vectors[:, 0])
        square = gradient.square()
        if square == 0:
            return
        network.shift(gradient, -(largest - BELOW_EDGE * limit) / square)
        path.features = network.features()
        path.spectrum = network.spectrum(path.features.gram(metric=path.metric))


def _interval(rule: LinearRule, motion: Motion, path: Path, goal: Goal, left: int, stride: float | None) -> float:
    """How long to keep J: for a stride, or an equal share of the way that is left; at most to the goal."""
    end = goal.steps if math.isinf(goal.steps) else goal.steps - path.steps
    if goal.until is not None:
        end = min(end, motion.first_below(goal.until))
    if rule.slots and end > 1:
        times, lengths = motion.travelled(end)
        share = lengths[-1] / max(left, 1) if stride is None else stride
        return end if share >= lengths[-1] else float(times[np.searchsorted(lengths, share)])
    whole = motion.displacement(end)
    share = whole / max(left, 1) if stride is None else stride
    return end if share >= whole else motion.first_moved(share, end, rule.flow)


def _move(network: MovingNetwork, path: Path, motion: Motion, t: float) -> list[Direction]:
    """Move the network to time t of an interval; returns what the optimizer remembers there."""
    C, phi = motion.coefficients(t), motion.weights(t)
    pulled = [path.features.pull(torch.from_numpy(c), metric=path.metric) for c in C]
    slots = list(path.slots)
    if not slots and len(C) > 1:
        slots = [Direction.combined([(0.0, pulled[0])]) for _ in C[1:]]
    theta = Direction(network.values()) if len(C) > 1 and phi[1:, 0].any() else None
    after = []
    for i in range(1, len(C)):
        parts = [(1.0, pulled[i]), *((float(phi[i, j + 1]), s) for j, s in enumerate(slots))]
        if theta is not None:
            parts.append((float(phi[i, 0]), theta))
        after.append(Direction.combined(parts))
    if phi[0, 0] != 1.0:
        network.decay(float(phi[0, 0]))
    network.shift(
        Direction.combined([(1.0, pulled[0]), *((float(phi[0, j + 1]), s) for j, s in enumerate(slots))]), 1.0
    )
    return after


def _advance(network: MovingNetwork, path: Path, motion: Motion, t: float) -> None:
    for s in drawn_times(t, 8)[1:-1]:
        path.curve.append((path.steps + s, motion.mse(s)))
    path.slots = _move(network, path, motion, t)
    path.features = network.features()
    path.intervals += 1
    path.steps += t


def _snapshots(network: MovingNetwork, path: Path, motion: Motion, goal: Goal, t: float) -> None:
    """Outputs at the requested times inside this interval, from the real network at the parameters then."""
    here = None
    for s in goal.times:
        if not path.steps <= s < min(path.steps + t, goal.steps):
            continue
        here = network.position() if here is None else here
        _move(network, path, motion, s - path.steps)
        path.train.append(network.outputs(network.task.X))
        path.test.append(network.outputs(network.X))
        network.put(here)


def _arrived(path: Path, goal: Goal, first: float, before: float) -> bool:
    if goal.until is not None and path.mse < goal.until:
        return True
    if math.isinf(path.steps):  # at the limit of a linearization: again, until that changes nothing
        return path.mse <= 1e-12 * first or path.mse > 0.25 * before
    return path.steps >= goal.steps

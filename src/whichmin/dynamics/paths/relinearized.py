"""The path of a linear rule: the finite network's own minimizer from a few linearizations.

Over an interval the tangent features J are frozen and the rule runs exactly in function space; then the parameters
move, θ ← θ − JᵀΣc, the real network is evaluated there and linearized again. Interval ends are set by how far the
parameters moved, for that is what turns J: the intervals of one path are of equal ‖Δθ‖.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.motion.motion import FAR, Motion
from whichmin.dynamics.paths.edge import CLOSE, FAR_FROM_EDGE, back_to_the_edge, is_close, largest_eigenvalue, steepness
from whichmin.dynamics.paths.leaps import Leaps
from whichmin.dynamics.paths.linearized import Linearization, drawn_times, flat
from whichmin.dynamics.paths.outcome import Goal
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.paths.problem import Problem
from whichmin.dynamics.paths.real import Patience
from whichmin.dynamics.paths.start import start_at
from whichmin.dynamics.rules.linear_rule import LinearRule
from whichmin.kernels.large import LargeSpectrum
from whichmin.kernels.modes import AT_ONCE, Spectrum
from whichmin.losses import Array, Objective, root_mean_square
from whichmin.tangent.direction import Direction
from whichmin.tangent.features import Features

#: A path of a given stride is given up after this many times the intervals that were expected, and some more.
PATIENCE = 6
#: Intervals that a path of a given stride may take beyond ``PATIENCE`` times those expected.
EXTRA_INTERVALS = 24
#: A training loss of more than this many times the first one counts as divergence.
DIVERGED = 1e3
#: At the limit of a linearization a loss below this part of the first one counts as zero.
FITTED = 1e-12
#: Steps to the limit end where one leaves more than this part of the loss before it.
STALLED = 0.25
#: Where an interval meant to end at a training loss ends above this many times it, another one follows.
AT_LOSS = 1.01
#: No other one follows where it left more than this part of the loss before it.
STUCK = 0.98
#: A path ends where many steps, fewer than a stride, left the loss but for this part of it.
STILL = 1e-6
#: Losses are kept of so many of the last epochs of an interval.
EPOCHS = 8
#: What an interval misses is told from so many of its times.
TIMES_OF_MISSES = 12


@dataclass(eq=False)
class Path:
    """A path, while it is made and afterwards.

    Attributes:
        features: of the training set at the end; None where nobody needed them there.
        spectrum: of the last interval.
        leaps: of the training outputs.
        remembered: what the optimizer remembers, directions in parameter space.
        steps: how far it came.
        intervals: how many linearizations it took.
        train: f(X) at the requested times, as far as they are passed.
        test: f(x') at the requested times.
        curve: (step, training loss) pairs.
        epochs: of batches, training losses that are compared with ``until``, by the step: the last of each interval.
        edge: the step at which the kernel had outgrown the learning rate's limit of stability; None if it never did.
        at_loss: whether the last interval went to the training loss that training is to reach.
        outgrown: the largest eigenvalue over the limit of stability that any interval ended with.
        lasted: the steps of the last interval.
        swing: how far θ swings along D Jᵀv/√λ, v the unit eigenvector of the largest eigenvalue λ; 0 off the edge.
        swing_of_outputs: the root mean square by which outputs swing at the end where errors are looked at.
        lingers: whether the last interval took as many steps as one is looked for in.
        is_close: whether the kernel at the end is close to that limit.
        arrived: whether it ended where it was meant to.
        ends: the step at which each interval ended.
        pending: c of a move D Jᵀc that is still to be made, (N·C,); None for none. The loss counts it as made.
    """

    features: Features | None
    spectrum: Spectrum
    leaps: Leaps
    remembered: list[Direction] = field(default_factory=list)
    steps: float = 0.0
    intervals: int = 0
    train: list[Tensor] = field(default_factory=list)
    test: list[Tensor] = field(default_factory=list)
    curve: list[tuple[float, float]] = field(default_factory=list)
    epochs: dict[float, float] = field(default_factory=dict)
    edge: float | None = None
    outgrown: float = 0.0
    lasted: float = 0.0
    swing: float = 0.0
    swing_of_outputs: float = 0.0
    is_close: bool = False
    at_loss: bool = False
    lingers: bool = False
    arrived: bool = False
    ends: list[float] = field(default_factory=list)
    pending: Array | None = None

    @property
    def loss(self) -> float:
        """The training loss where the path stands."""
        return self.curve[-1][1]


def follow(
    problem: Problem,
    rule: LinearRule,
    linearization: Linearization,
    count: int,
    *,
    stride: float | None = None,
    ends: Sequence[float] = (),
    project: bool = True,
    patience: Patience | None = None,
) -> Path:
    """Follow the path from θ₀, where the network stands, moving it to θ_T.

    Args:
        problem: what is predicted.
        rule: what happens over an interval.
        linearization: at θ₀.
        count: how many intervals, each an equal share of what is left of ‖Δθ‖ by the present linearization; with a
            stride, how many are expected.
        stride: ‖Δθ‖ of an interval: then there are as many as the real network needs to reach the goal.
        ends: the steps at which the intervals but the last one end, where these are given: those of another path, which
            this one is to be compared with.
        project: whether to keep to the edge of stability.
        patience: how long it may take; None for any time.

    Raises:
        PatienceError, BudgetError: it took too long.
    """
    follower = _Follower(problem.network, rule, linearization.metric, problem.objective, problem.goal, tuple(ends))
    features = problem.network.features()
    outputs = flat(features.outputs).numpy()
    leaps = Leaps(outputs, outputs - problem.objective.origin, problem.network.eps)
    path = Path(features, linearization.spectrum, leaps, list(linearization.remembered), linearization.first)
    first = before = follower.loss(features.outputs)
    path.curve.append((path.steps, first))
    most = count if stride is None else PATIENCE * count + EXTRA_INTERVALS
    while path.intervals < most:
        if path.intervals:
            follower.linearize(path, project)
        follower.interval(path, count - path.intervals, stride)
        if path.intervals == most or follower.may_end(path):
            follower.settle(path)
        now = path.loss
        if patience is not None:
            patience.check(path.steps, now, first)
        excess = problem.objective.excess
        if not excess(now) <= DIVERGED * (abs(excess(first)) + 1e-30):
            return path
        if follower.has_arrived(path, first, before):
            path.arrived, path.is_close = True, follower.is_close(path)
            path.swing_of_outputs = follower.swing_of_outputs(path) if path.is_close else 0.0
            return path
        before = now
    path.arrived = stride is None
    return path


@dataclass(frozen=True, eq=False)
class _Follower:
    """What all intervals of a path share."""

    network: MovingNetwork
    rule: LinearRule
    metric: dict[str, Tensor] | None
    objective: Objective
    goal: Goal
    ends: tuple[float, ...] = ()

    def loss(self, outputs: Tensor) -> float:
        return self.objective.value(self._residual(outputs))

    def _residual(self, outputs: Tensor) -> Array:
        return flat(outputs).numpy() - self.objective.origin

    def linearize(self, path: Path, project: bool) -> None:
        """The kernel where the path stands, and back to the edge of stability where it has outgrown the rate."""
        found = back_to_the_edge(
            self.network, self.rule, self.objective, path.steps, self._features(path), metric=self.metric,
            project=project, near=self._near(path),
        )  # fmt: skip
        path.features, path.spectrum = found.features, found.spectrum
        if found.taken_back:
            path.swing = self._swing(path, found.taken_back)
        elif path.swing and found.spectrum.largest <= CLOSE * self._limit(path):
            path.swing = 0.0
        path.outgrown = max(path.outgrown, found.outgrown)
        if found.is_beyond and path.edge is None:
            path.edge = path.steps

    def _limit(self, path: Path) -> float:
        """The eigenvalue at the limit of stability of the step that comes next."""
        return self.rule.largest_stable(path.steps, self.objective.gamma)

    def _swing(self, path: Path, taken_back: float) -> float:
        """How far θ swings at the edge to either side along D Jᵀv/√λ, v the unit eigenvector of λ_max.

        Where it swings by x, the loss ½γλx² there pushes θ along −½γx² D ∇λ_max. That is what keeps λ_max at the limit,
        so that it tells x (Damian et al. 2023).

        Args:
            path: stands at the end of an interval.
            taken_back: how far that interval would have had to move along −D ∇λ_max.
        """
        if math.isinf(path.lasted):  # by then it has died out
            return 0.0
        pushed = 0.5 * self.objective.gamma * self.rule.drift(int(path.steps)) * path.lasted
        return math.sqrt(taken_back / pushed) if pushed > 0 else math.inf

    def swing_of_outputs(self, path: Path) -> float:
        """The root mean square by which outputs swing where errors are looked at, and the path stands."""
        if not path.swing:
            return 0.0
        features = self._features(path)
        v = path.spectrum.top_vector
        along = features.pull(v, metric=self.metric)
        size = float(flat(features.push(along)) @ v.double())
        if not size > 0:  # the network died in the last interval
            return math.inf
        return path.swing * root_mean_square(flat(self.network.features(self.network.X).push(along))) / math.sqrt(size)

    def is_close(self, path: Path) -> bool:
        """Whether the kernel where the path stands is close to the limit of stability; far from it is not looked."""
        if not math.isfinite(path.steps):
            return False
        limit = self._limit(path)
        if not self.objective.loss.is_quadratic:
            features = self._features(path)
            at_end = self.network.spectrum(features, self.metric)
            return is_close(limit, math.inf, lambda: steepness(at_end, self.objective, features, FAR_FROM_EDGE * limit))
        before = path.spectrum.largest
        near = self._near(path)
        beside = None if near is None else near.numpy()
        return is_close(limit, before, lambda: largest_eigenvalue(self._features(path), self.metric, beside))

    def _near(self, path: Path) -> Tensor | None:
        """The eigenvector of the largest eigenvalue of the last interval's kernel, where that is known for nothing."""
        is_large = isinstance(path.spectrum, LargeSpectrum) and self.objective.loss.is_quadratic
        return path.spectrum.top_vector if is_large else None

    def may_end(self, path: Path) -> bool:
        """Whether a path may end where it stands."""
        return path.at_loss or path.steps >= self.goal.steps or self.goal.is_reached(path.loss, path.steps)

    def settle(self, path: Path) -> None:
        """Make the move that is still to be made."""
        if path.pending is None:
            return
        self.network.shift(self._features(path).pull(torch.from_numpy(path.pending), metric=self.metric), 1.0)
        path.pending = path.features = None
        path.curve[-1] = (path.steps, self.loss(self.network.outputs(self.network.task.X)))
        self._look(path)

    def _features(self, path: Path) -> Features:
        """Of the training set where the path stands."""
        if path.features is None:
            path.features = self.network.features()
        return path.features

    def has_arrived(self, path: Path, first: float, before: float) -> bool:
        """Whether a path ends here, where training began and the last interval began at these losses."""
        goal = self.goal
        if goal.is_reached(path.loss, path.steps):
            return True
        first, before, now = map(self.objective.excess, (first, before, path.loss))
        if path.at_loss:
            assert goal.until is not None
            return not self.takes_back or now <= AT_LOSS * self.objective.excess(goal.until) or now > STUCK * before
        if path.lingers and now >= (1.0 - STILL) * before:
            return True
        if math.isinf(path.steps):  # at the limit of a linearization: again, until that changes nothing
            return now <= FITTED * first or now > STALLED * before
        return path.steps >= goal.steps

    @property
    def takes_back(self) -> bool:
        """Whether what an interval missed is taken back at its end."""
        return self.goal.until is not None and self.objective.loss.is_quadratic

    def interval(self, path: Path, left: int, stride: float | None) -> None:
        """Make one interval: as long as is planned, through the requested times."""
        start = start_at(
            self.network, self.rule, self.objective, self._features(path), path.spectrum, path.steps, path.remembered,
            path.pending,
        )  # fmt: skip
        motion = self.rule.motion(start)
        t = self._length(motion, path, left, stride)
        self._snapshots(path, motion, t)
        path.epochs |= {
            s: motion.loss(s - path.steps) for s in self.goal.epochs_before(path.steps + t, path.steps, EPOCHS)
        }
        path.curve.extend((path.steps + s, motion.loss(s)) for s in drawn_times(t, 8)[1:-1])
        began, before = path.steps, self._residual(self._features(path).outputs)
        direction, path.remembered = self._move(path, motion, t)
        path.intervals += 1
        path.steps, path.lasted = path.steps + t, t
        path.ends.append(path.steps)
        path.lingers = t >= FAR
        is_training = t == 1 and not self.rule.flow
        if self.goal.until is not None:  # after a step as training makes it the network's own loss tells
            path.at_loss = not is_training and self.goal.is_reached(motion.loss(t), path.steps)
        path.features, path.pending = self.network.features(), None
        residual = self._residual(path.features.outputs)
        expected = motion.residual(t)
        if path.leaps.may_be(before, expected, residual):
            moved = flat(path.features.push(direction)).numpy()
            path.leaps.look(began, before, expected, residual, moved, is_training=is_training)
        if self.takes_back and t > 1:  # a single step is training itself
            path.pending = (1.0 - 1.0 / t) * self._taken_back(path.spectrum, motion, t, residual)
            residual = residual + path.spectrum.apply(path.pending)
        path.curve.append((path.steps, self.objective.value(residual)))
        self._look(path)

    def _look(self, path: Path) -> None:
        """Keep the loss where the path stands, if an epoch ends there."""
        if self.goal.looks_by_epoch and self.goal.is_evaluated(path.steps):
            path.epochs[path.steps] = path.loss

    def _taken_back(self, spectrum: Spectrum, motion: Motion, t: float, residual: Array) -> Array:
        """The coefficients that take back a part of what an interval missed, as training does all the while, (N·C,).

        Else a path to a loss would take some steps more than training, until later intervals had taken it back. What
        is missed comes about as the parameters move, like ‖θ(s) − θ(0)‖²: J turns with them and meets their velocity.
        """
        expected = motion.residual(t)
        before, shares = motion.residual(0.0), AT_ONCE
        if math.isfinite(t):
            times = np.array(drawn_times(t, TIMES_OF_MISSES))
            missed = np.maximum.accumulate([motion.displacement(s) ** 2 for s in times.tolist()])
            shares = np.diff(missed) / max(missed[-1], 1e-300)
            between = (times[1:] + times[:-1]) / 2
            before = np.stack([motion.residual(s if self.rule.flow else s // 1) for s in between.tolist()])
        return spectrum.suppressed(residual - expected, before, expected, shares)

    def _length(self, motion: Motion, path: Path, left: int, stride: float | None) -> float:
        """How long to keep J: for a stride, or an equal share of what is left; at most to the goal."""
        goal = self.goal
        end = goal.steps if math.isinf(goal.steps) else goal.steps - path.steps
        if self.ends:
            return self._given_length(motion, path, left, end)
        has_end = goal.until is not None or math.isfinite(end)
        if stride is not None and has_end and not self.objective.loss.is_quadratic:
            return motion.first_travelled(stride, end, goal.until)
        if goal.until is not None:
            end = min(end, motion.first_below(goal.until, end))
        if self.rule.state_vectors and end > 1:
            times, lengths = motion.travelled(end)
            share = lengths[-1] / max(left, 1) if stride is None else stride
            return end if share >= lengths[-1] else float(times[np.searchsorted(lengths, share)])
        whole = motion.displacement(end)
        share = whole / max(left, 1) if stride is None else stride
        return end if share >= whole else motion.first_moved(share, end, self.rule.flow)

    def _given_length(self, motion: Motion, path: Path, left: int, end: float) -> float:
        """As long as the interval of that number is to be; the last one, of what is left, goes to the goal."""
        if left > 1 and path.intervals < len(self.ends):
            end = min(end, self.ends[path.intervals] - path.steps)
        return end if self.goal.until is None else min(end, motion.first_below(self.goal.until, end))

    def _move(self, path: Path, motion: Motion, t: float) -> tuple[Direction, list[Direction]]:
        """Move the network to time t of an interval.

        Returns:
            What it moved by; what the optimizer remembers there.
        """
        network, C, phi = self.network, motion.coefficients(t), motion.weights(t)
        if path.pending is not None:
            C = np.concatenate([C[:1] + phi[0, 0] * path.pending, C[1:]])
        features = self._features(path)
        pulled = [features.pull(torch.from_numpy(c), metric=self.metric) for c in C]
        remembered = list(path.remembered)
        if not remembered and len(C) > 1:
            remembered = [Direction.combined([(0.0, pulled[0])]) for _ in C[1:]]
        decays = phi[0, 0] != 1.0 or phi[1:, 0].any()
        theta = [Direction(network.values())] if decays else []

        def carried(i: int) -> Direction:
            moved = [(1.0, pulled[i]), *((float(phi[i, j + 1]), s) for j, s in enumerate(remembered))]
            kept = float(phi[i, 0] - (i == 0))
            return Direction.combined([*moved, *((kept, values) for values in theta)])

        direction, *after = (carried(i) for i in range(len(C)))
        network.shift(direction, 1.0)
        return direction, after

    def _snapshots(self, path: Path, motion: Motion, t: float) -> None:
        """Outputs at the requested times inside this interval, from the real network at the parameters then."""
        network, here = self.network, None
        for s in self.goal.times:
            if not path.steps <= s < min(path.steps + t, self.goal.steps):
                continue
            here = network.position() if here is None else here
            self._move(path, motion, s - path.steps)
            path.train.append(network.outputs(network.task.X))
            path.test.append(network.outputs(network.X))
            network.put(here)

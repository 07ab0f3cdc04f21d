"""AdaGrad, RMSprop, Adam and AdamW in full batches, followed through a finite network by a few linearizations.

Over an interval the tangent features J are frozen, and so is the shape of the preconditioner D, taken where it is
expected in the middle of the interval; its size goes on with the gradients. The outputs then move in a small space of
K_D = J D Jᵀ, whose products K_D v are one vector-Jacobian and one Jacobian-vector product each: K_D is never formed.
The second moments gain their Σ g² by Gauss rules of few nodes. The preconditioner changes by a bounded factor while the
number of steps doubles, so that intervals grow with the steps interval.

What holding J and D misses is known to first order once an interval is made, for a product with Jᵀ or two: it bounds
the next interval, and added up along the path it is the estimated error. Intervals of one step are training itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.paths.krylov import KrylovSpace, Moving, Space, Trajectory, gradient_space, lanczos_basis
from whichmin.dynamics.paths.leaps import Leaps
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.outcome import Goal
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.paths.real import Patience
from whichmin.dynamics.paths.warm_start import WarmStart
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.losses import Array, Objective, mean_square
from whichmin.tangent.coordinates import Coordinates

#: An interval is at most this many times as long as all steps before it.
FASTEST = 4.0
#: Where the network is linearized again, the training outputs may jump by this many times the error aimed at.
JUMP = 1.0
#: The change of the preconditioner within an interval may move the training outputs by this many times that error.
TURN = 2.0
#: An interval whose preconditioner moves them this many times further is made again, shorter.
TOO_FAR = 8.0
#: The kinks of rectifiers turn features at random times of an interval, which adds this factor to the error.
KINKS = 1.8
#: The Gauss rule for the Σ g² of half an interval has this many nodes.
NODES = 2
#: The space that the outputs move in may leave this error, in units of the jump that is allowed.
NEGLIGIBLE = 0.05
#: A training loss of more than this many times the first one counts as divergence.
DIVERGED = 1e3
#: From one interval to the next the length changes by this factor at most, and by its inverse at least.
LENGTH_CHANGE = 4.0
#: An interval that is made again is shorter by this factor at most.
SHORTENED = 0.1
#: An eigenvalue of up to this many times the limit of stability counts as within it.
SLACK = 1 + 1e-3


@dataclass(frozen=True, eq=False)
class Interval:
    """An interval, before the network is moved.

    Attributes:
        trajectory: the residual's.
        D: the preconditioner that is held.
        v: the second moments at the end.
        second: what they are divided by.
        scale: how much larger they are there than where D was taken, a square root.
        moved: Jᵀ Σ c, by parameter: D times this is how the parameters move, but for the momentum at the start.
        missed: what the change of D over the interval would have added to the parameters, by parameter.
        turn: how far that moves the training outputs.
    """

    trajectory: Trajectory
    D: dict[str, Tensor]
    v: dict[str, Tensor]
    second: float
    scale: float
    moved: dict[str, Tensor]
    missed: dict[str, Tensor]
    turn: float


class AdaptivePath:
    """One path, while it is made and afterwards.

    Attributes:
        steps: how far it came.
        intervals: linearizations, the exact steps not counted.
        products: how many products with K_D were interval.
        curve: (step, training loss).
        edge: the step from which an eigenvalue of K_D is beyond the limit of stability; None if none ever was.
        closest: the largest eigenvalue of K_D in an interval of several steps, over that limit.
        swelling: the logarithm of what a mode beyond the limit has grown by; 0 where none has.
        leaps: of the training outputs.

    Args:
        network: a private copy, which is moved.
        rule: the rule.
        start: where the path begins.
        objective: the loss on the training set.
        growth: an interval is at most this many times the steps made before.
        aim: the error of the outputs (root mean square) that intervals are kept short for.
    """

    def __init__(
        self,
        network: MovingNetwork,
        rule: AdaptiveRule,
        start: WarmStart,
        objective: Objective,
        *,
        growth: float = FASTEST,
        aim: float = math.inf,
    ) -> None:
        network.put(start.position)
        self.network, self.rule = network, rule
        self._growth, self._jump, self._turn = growth, JUMP * aim, TURN * aim
        self._objective = objective
        self.steps, self.intervals, self.products = start.steps, 0, 0
        self.curve = list(start.curve)
        features = network.features()
        self._coordinates = Coordinates(features)
        self._features = self._coordinates.restrict(features).formed()
        self._patience: Patience | None = None
        self._m = None if start.m is None else _copy(self._coordinates.take(start.m))
        self._v = _copy(self._coordinates.take(start.v))
        self._missed = {name: torch.zeros_like(v) for name, v in self._v.items()}
        self._before = _copy(self._missed)
        self._lag = {name: torch.zeros_like(v) for name, v in self._v.items()}
        self._first = self._residual()
        self._last: Trajectory | None = None
        self.edge: float | None = None
        self.closest, self.swelling, self._share = 0.0, 0.0, 0.0
        self.leaps = Leaps(self._first + objective.origin, self._first, network.eps)

    @property
    def loss(self) -> float:
        """The training loss where the path stands."""
        return self.curve[-1][1]

    def follow(self, goal: Goal, most: int, patience: Patience | None = None) -> bool:
        """To the goal; whether it arrived in at most ``most`` intervals.

        Raises:
            PatienceError, BudgetError: it took too long.
        """
        longest, self._patience = math.inf, patience
        while not (self.steps >= goal.steps or goal.is_reached(self.loss, self.steps)):
            first, now = self._objective.excess(self.curve[0][1]), self._objective.excess(self.loss)
            if self.intervals >= most or not now <= DIVERGED * (abs(first) + 1e-30):
                return False
            n = max(1, math.ceil(min(goal.steps - self.steps, self._growth * self.steps, longest)))
            interval = self._next_interval(n, goal.until)
            self._advance(interval)
            if patience is not None:
                patience.check(self.steps, self.loss, self.curve[0][1])
            jump = _rms(self._residual() - interval.trajectory.after)
            room = min(_ratio(self._jump, jump), _ratio(self._turn, interval.turn))
            longest = interval.trajectory.steps * min(max(math.sqrt(room), 1 / LENGTH_CHANGE), LENGTH_CHANGE)
        return True

    def error(self) -> Tensor:
        """What the outputs are off by, (n·C,), as estimated from how J and D changed within the intervals.

        Later intervals undo what that does to the training outputs, as far as they go: in each mode of K the part of
        the residual that is gone. Nothing undoes what the last one does. Where the loss is not quadratic, as much goes
        of what an interval missed as goes of the root of the gradient from its end on: a change of the outputs obeys
        the equation of the gradient, whose large modes go first.
        """
        network = self.network
        features_test = network.features(network.X)
        moved = flat(features_test.push(self._coordinates.whole(self._missed, network.parameters)))
        spectrum = network.spectrum(self._features)
        if self._objective.loss.is_quadratic:
            back = spectrum.suppressed(self._push(self._before), self._first, self._residual())
        else:
            gone = {name: missed - self._before[name] for name, missed in self._missed.items()}
            back = -spectrum.solve(self._push(gone))
        cross = features_test.gram(self._features).double().cpu()
        return moved + cross @ torch.from_numpy(back)

    def _residual(self) -> Array:
        return flat(self._features.outputs).numpy() - self._objective.origin

    def _pull(self, c: Array) -> dict[str, Tensor]:
        """Jᵀc, in the coordinates that move."""
        if self._patience is not None:
            self._patience.check_within()
        return self._features.pull(torch.from_numpy(c)).tensors

    def _push(self, direction: Mapping[str, Tensor]) -> Array:
        """J v for a direction in these coordinates, (N·C,)."""
        return flat(self._features.push(direction)).numpy()

    def _next_interval(self, n: int, until: float | None) -> Interval:
        """An interval of at most n steps, short enough for D to be held."""
        rule, r = self.rule, self._residual()
        while True:
            D, v_mid = self._middle(r, n)
            moving = self._moving(D, r)
            run = partial(
                Space.run, rule=rule, done=self.steps, n=n, moving=moving, v=_total(self._v), v_mid=v_mid, until=until
            )
            trajectory = run(self._space(D, moving, n, run))
            interval = self._with_misses(trajectory, D, v_mid)
            if interval.turn <= TOO_FAR * self._turn or trajectory.steps <= 1 or not math.isfinite(interval.turn):
                return interval
            n = max(1, int(trajectory.steps * max(math.sqrt(self._turn / interval.turn), SHORTENED)))

    def _with_misses(self, trajectory: Trajectory, D: dict[str, Tensor], v_mid: float) -> Interval:
        """What holding D over an interval misses, to first order in its change.

        With D in the middle as it turned out, D(s) goes through that and through D at the end on a line.
        """
        rule, n, middle_step = self.rule, trajectory.steps, (trajectory.steps + 1) / 2
        half = self._moments(self._v, trajectory, 0.0, middle_step)
        end = self._moments(half, trajectory, middle_step, n - middle_step)
        seconds = [self._second(self.steps + part) for part in (middle_step, n)]
        scales = [
            math.sqrt(_total(v) / by / v_mid) if v_mid > 0 else 1.0 for v, by in zip((half, end), seconds, strict=True)
        ]
        moved, missed = (
            self._pull(trajectory.c @ trajectory.space.basis),
            self._pull(trajectory.late @ trajectory.space.basis),
        )
        for name, late in missed.items():
            all_moved = moved[name]
            if self._m is not None:
                all_moved = all_moved.add(self._m[name], alpha=trajectory.momentum)
                late.add_(self._m[name], alpha=trajectory.late_momentum)
            middle = _inverse_root(half[name], seconds[0], rule.eps).mul_(scales[0])
            late.mul_(_inverse_root(end[name], seconds[1], rule.eps).mul_(scales[1]).sub_(middle))
            late.addcmul_(middle.sub_(D[name]), all_moved)
        return Interval(trajectory, D, end, seconds[1], scales[1], moved, missed, _rms(self._push(missed)))

    def _advance(self, interval: Interval) -> None:
        """Move the network over an interval and linearize there."""
        trajectory, rule = interval.trajectory, self.rule
        direction = _copy(interval.moved)
        self._v = interval.v
        if self._m is not None:
            gained = self._pull(trajectory.a @ trajectory.space.basis)
            for name, m in self._m.items():
                direction[name].add_(m, alpha=trajectory.momentum)
                m.mul_(trajectory.kept).add_(gained[name])
        for name, moved in direction.items():
            moved.mul_(interval.D[name])
        kept = (1.0 - rule.lr * rule.decay) ** trajectory.steps
        decayed = self._coordinates.take(self.network.values()) if rule.decay else {}
        if rule.decay:
            self.network.decay(kept)
        self._coordinates.add(direction, self.network.parameters)
        for k in sorted({int(trajectory.steps * part) for part in (0.25, 0.5, 0.75)} - {0}):
            self.curve.append((float(self.steps + k), float(trajectory.losses[k])))
        self.steps += trajectory.steps
        growth = math.log(max(rule.growth(self._share), 1e-300))
        self.swelling = max(0.0, self.swelling + trajectory.steps * growth)
        self.intervals += 1
        self._last = trajectory
        began, before = self.steps - trajectory.steps, self._residual()
        self._features = self._coordinates.restrict(self.network.features()).formed()
        self.curve.append((float(self.steps), self._objective.value(self._residual())))
        for name, theta in decayed.items():
            direction[name].add_(theta, alpha=kept - 1.0)
        self.leaps.look(
            began, before, trajectory.after, self._residual(), self._push(direction), is_training=trajectory.steps == 1
        )
        self._miss(interval, self._pull(trajectory.c @ trajectory.space.basis))

    def _miss(self, interval: Interval, after: Mapping[str, Tensor]) -> None:
        """Add to what the path missed what an interval did.

        With J as it turned from its start to its end, on a line: D (J − J₀)ᵀ c/2, D with the squares of the new
        features in it, for where J only begins D of the old ones is without bound; and what is lacking in the second
        moments, ``lag``, makes the D of all that follows too large or too small.
        """
        if self._objective.loss.is_quadratic:
            self._before = _copy(self._missed)
        trajectory, rule = interval.trajectory, self.rule
        gained = trajectory.steps if rule.beta2 is None else 1.0 - rule.beta2**trajectory.steps
        kept = 1.0 if rule.beta2 is None else rule.beta2**trajectory.steps
        turned = 0.5 * KINKS * (trajectory.steps - 1) / trajectory.steps  # the first step is right
        square = gained / trajectory.rates**2
        sizes = [float(np.linalg.norm(trajectory.gradients[k])) for k in (0, -1)]
        left = math.sqrt(min(sizes[1] / max(sizes[0], 1e-300), 1.0))
        for name, missed in self._missed.items():
            was = missed.clone()
            v, new, old, lag = interval.v[name], after[name], interval.moved[name], self._lag[name]
            right = _inverse_root((v + lag).clamp_(min=0), interval.second, rule.eps)
            used = _inverse_root(v, interval.second, rule.eps)
            missed.add_(torch.minimum(right, 2 * used).sub_(used).mul_(old), alpha=interval.scale)
            D = _inverse_root(v.addcmul(new, new, value=square), interval.second, rule.eps)
            missed.add_(D.mul_(new - old), alpha=turned * interval.scale).add_(interval.missed[name])
            if not self._objective.loss.is_quadratic:
                self._before[name].mul_(left).add_(missed).sub_(was)
            lag.mul_(kept).addcmul_(new, new, value=turned * square).addcmul_(old, old, value=-turned * square)

    def _middle(self, r: Array, n: int) -> tuple[dict[str, Tensor], float]:
        """D where it is expected in the middle step of the interval, and the corrected sum of the second moments there.

        The outputs are expected to go on as in the space of the last interval.
        """
        rule, half, g = self.rule, (n + 1) / 2, self._objective.gradient(r)
        times, weights, kept = rule.nodes(half, NODES)
        gradients = [g] * len(times)
        if self._last is not None:
            space = self._last.space
            mu = space.image(g) if rule.beta1 else np.zeros_like(r)
            total = _total(self._v)
            now = total / self._second(self.steps)
            moving = Moving(r, mu, np.zeros_like(r))
            trajectory = space.run(rule, self.steps, math.ceil(half), moving, total, now, None)
            first, last = (self._objective.excess(float(trajectory.losses[k])) for k in (0, -1))
            if np.isfinite(last) and last <= 4 * first:
                rest = g - (space.basis @ g) @ space.basis
                gradients = [trajectory.during(t) + rest for t in times]
        middle = {name: v * kept for name, v in self._v.items()}
        self._add_squares(middle, gradients, weights)
        second = self._second(self.steps + half)
        return {name: _inverse_root(v, second, rule.eps) for name, v in middle.items()}, _total(middle) / second

    def _second(self, steps: float) -> float:
        """What the second moments are divided by after so many steps."""
        return float(self.rule.correction(np.array(float(steps)))[1])

    def _moments(self, v: Mapping[str, Tensor], trajectory: Trajectory, begin: float, n: float) -> dict[str, Tensor]:
        """The second moments n steps after they were v, at a time of the trajectory."""
        times, weights, kept = self.rule.nodes(n, NODES)
        after = {name: old * kept for name, old in v.items()}
        self._add_squares(after, [trajectory.during(begin + t) for t in times], weights)
        return after

    def _add_squares(self, moments: dict[str, Tensor], gradients: Sequence[Array], weights: Array) -> None:
        """Moments += Σ w (Jᵀ g)²."""
        same = all(g is gradients[0] for g in gradients)
        pairs = [(gradients[0], float(weights.sum()))] if same else zip(gradients, weights.tolist(), strict=True)
        for gradient, w in pairs:
            for name, g in self._pull(gradient).items():
                moments[name].addcmul_(g, g, value=w)

    def _moving(self, D: Mapping[str, Tensor], r: Array) -> Moving:
        mu = pull = np.zeros_like(r)
        if self._m is not None:
            mu = self._push({k: D[k] * m for k, m in self._m.items()})
        if self.rule.decay:
            pull = self._push(self._coordinates.take(self.network.values()))
        return Moving(r, mu, pull)

    def _space(self, D: Mapping[str, Tensor], moving: Moving, n: int, run: Callable[[Space], Trajectory]) -> Space:
        """What the outputs move in for n steps."""
        rule, objective, r = self.rule, self._objective, moving.r

        def apply(v: Array) -> Array:
            pulled = self._pull(v)
            for name, g in pulled.items():
                g.mul_(D[name])
            self.products += 1
            return self._push(pulled)

        negligible = NEGLIGIBLE * min(self._jump, 1.0) * math.sqrt(len(r)) if math.isfinite(self._jump) else 0.0
        K = self._features.gram().double().cpu().numpy()
        space: Space
        if objective.loss.is_quadratic:
            starts = (r, moving.mu, moving.pull)
            B, H = lanczos_basis(apply, starts, rule.lr * objective.gamma * n, negligible)
            space = KrylovSpace(B, H, B @ K @ B.T, objective)
        else:
            space = gradient_space(apply, objective, moving, K, run, negligible)
        self._share = rule.lr * space.steepness(r) / rule.largest_product
        if self.edge is None and self._share > SLACK:
            self.edge = float(self.steps)
        if n > 1:
            self.closest = max(self.closest, self._share)
        return space


def _inverse_root(v: Tensor, second: float, eps: float) -> Tensor:
    return (v / second).sqrt_().add_(eps).reciprocal_()


def _rms(r: Array) -> float:
    return math.sqrt(mean_square(r))


def _ratio(allowed: float, measured: float) -> float:
    return allowed / max(measured, 1e-300)


def _total(moments: Mapping[str, Tensor]) -> float:
    return sum(float(v.sum(dtype=torch.float64)) for v in moments.values())


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}

"""AdaGrad, RMSprop, Adam and AdamW in full batches, followed through a finite network by a few linearizations.

Over an interval the tangent features J are frozen, and so is the shape of the preconditioner D, taken where it is
expected in the middle of the interval; its size goes on with the gradients. The residual then moves in the Krylov space
of K_D = J D Jᵀ, whose products K_D v are one vector-Jacobian and one Jacobian-vector product each: K_D is never formed.
The second moments gain their Σ g² by Gauss rules of few nodes. The preconditioner changes by a bounded factor while the
number of steps doubles, so that intervals grow with the steps made.

What holding J and D misses is known to first order once an interval is made, for a product with Jᵀ or two: it bounds
the next interval, and added up along the path it is the estimated error. Intervals of one step are training itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.motion.motion import Array, mean_square
from whichmin.dynamics.paths.krylov import Reduced, Way, krylov
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.position import Network
from whichmin.dynamics.paths.warm_start import Begun
from whichmin.dynamics.rules.adaptive_rule import AdaptiveRule
from whichmin.tangent.features import Coordinates

#: By how many times the steps made before an interval grows at most.
FASTEST = 4.0
#: What the training outputs may jump by where the network is linearized again, in units of the error aimed at,
JUMP = 1.0
#: what the change of the preconditioner within an interval may move them by,
TURN = 2.0
#: and how many times more than that makes an interval be made again, shorter.
TOO_FAR = 8.0
#: The kinks of rectifiers turn features at random times of an interval: how much that adds to the error.
KINKS = 1.8
#: Nodes of the rule for the Σ g² of half an interval.
NODES = 2
#: The error that the Krylov space may leave, in units of the jump that is allowed.
NEGLIGIBLE = 0.05


@dataclass(frozen=True, eq=False)
class Interval:
    """An interval, before the network is moved.

    Attributes:
        way: the residual's way.
        D: the preconditioner that is held.
        v: the second moments at the end.
        second: what they are divided by.
        scale: how much larger they are there than where D was taken, a square root.
        moved: Jᵀ Σ c, by parameter: D times this is the way of the parameters, but for the momentum at the start.
        missed: what the change of D over the interval would have added to the parameters, by parameter.
        turn: how far that moves the training outputs.
    """

    way: Way
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
        products: how many products with K_D were made.
        curve: (step, training mean square error).

    Args:
        network: a private copy, which is moved.
        rule: the rule.
        begun: where the path begins.
        growth: an interval is at most this many times the steps made before.
        aim: the error of the outputs (root mean square) that intervals are kept short for.
    """

    def __init__(
        self, network: Network, rule: AdaptiveRule, begun: Begun, *, growth: float = FASTEST, aim: float = math.inf
    ) -> None:
        network.put(begun.place)
        self.network, self.rule = network, rule
        self._growth, self._jump, self._turn = growth, JUMP * aim, TURN * aim
        self._y = flat(network.task.y).numpy()
        self.gamma = 2.0 / len(self._y)
        self.steps, self.intervals, self.products = begun.steps, 0, 0
        self.curve = list(begun.curve)
        self._coordinates = Coordinates(network, network.factors())
        self._m = None if begun.m is None else _copy(self._coordinates.take(begun.m))
        self._v = _copy(self._coordinates.take(begun.v))
        self._missed = {name: torch.zeros_like(v) for name, v in self._v.items()}
        self._lag = {name: torch.zeros_like(v) for name, v in self._v.items()}
        self._first = self._residual()
        self._last: Way | None = None

    @property
    def mse(self) -> float:
        """The training mean square error where the path stands."""
        return self.curve[-1][1]

    def follow(self, steps: float, until: float | None, most: int) -> bool:
        """To a number of steps or a training error; whether it arrived in at most ``most`` intervals."""
        longest = math.inf
        while not (self.steps >= steps or (until is not None and self.mse < until)):
            if self.intervals >= most or not math.isfinite(self.mse) or self.mse > 1e3 * (self.curve[0][1] + 1e-30):
                return False
            n = max(1, math.ceil(min(steps - self.steps, self._growth * self.steps, longest)))
            made = self._interval(n, until)
            self._advance(made)
            jump = _rms(self._residual() - made.way.after)
            room = min(_ratio(self._jump, jump), _ratio(self._turn, made.turn))
            longest = made.way.steps * min(max(math.sqrt(room), 0.25), 4.0)
        return True

    def error(self) -> Tensor:
        """What the outputs are off by, (n·C,), as estimated from how J and D changed within the intervals.

        Later training undoes what that does to the training outputs, as far as it goes: in each mode of K the part of
        the residual that is gone.
        """
        network, at = self.network, self._coordinates
        looked = network.factors(network.X)
        moved = flat(network.push_forward(looked, network.X, at.whole(self._missed))).double()
        spectrum = network.spectrum(network.kernel(at.factors, at.factors))
        back = spectrum.suppressed(at.push(self._missed), self._first, self._residual())
        cross = network.kernel(looked, at.factors).double().cpu()
        return moved + cross @ torch.from_numpy(back)

    def _residual(self) -> Array:
        return flat(self._coordinates.factors.outputs).numpy() - self._y

    def _interval(self, n: int, until: float | None) -> Interval:
        """An interval of at most n steps, short enough for D to be held."""
        rule, r = self.rule, self._residual()
        while True:
            D, v_mid = self._middle(r, n)
            space, starts = self._space(D, r, n)
            way = space.run(rule, self.steps, n, *starts, _total(self._v), v_mid, until)
            made = self._held(way, D, v_mid)
            if made.turn <= TOO_FAR * self._turn or way.steps <= 1 or not math.isfinite(made.turn):
                return made
            n = max(1, int(way.steps * max(math.sqrt(self._turn / made.turn), 0.1)))

    def _held(self, way: Way, D: dict[str, Tensor], v_mid: float) -> Interval:
        """What holding D over an interval misses, to first order in its change.

        With D in the middle as it turned out, D(s) goes through that and through D at the end on a line.
        """
        rule, at, n, middle_step = self.rule, self._coordinates, way.steps, (way.steps + 1) / 2
        half = self._moments(self._v, way, 0.0, middle_step)
        end = self._moments(half, way, middle_step, n - middle_step)
        seconds = [self._second(self.steps + part) for part in (middle_step, n)]
        scales = [math.sqrt(_total(v) / by / v_mid) for v, by in zip((half, end), seconds, strict=True)]
        moved, missed = at.pull(way.c @ way.space.basis), at.pull(way.late @ way.space.basis)
        for name, late in missed.items():
            all_moved = moved[name]
            if self._m is not None:
                all_moved = all_moved.add(self._m[name], alpha=way.momentum)
                late.add_(self._m[name], alpha=way.late_momentum)
            middle = _inverse_root(half[name], seconds[0], rule.eps).mul_(scales[0])
            late.mul_(_inverse_root(end[name], seconds[1], rule.eps).mul_(scales[1]).sub_(middle))
            late.addcmul_(middle.sub_(D[name]), all_moved)
        return Interval(way, D, end, seconds[1], scales[1], moved, missed, _rms(at.push(missed)))

    def _advance(self, made: Interval) -> None:
        """Move the network over an interval and linearize there."""
        way, rule, at = made.way, self.rule, self._coordinates
        direction = _copy(made.moved)
        self._v = made.v
        if self._m is not None:
            gained = at.pull(way.a @ way.space.basis)
            for name, m in self._m.items():
                direction[name].add_(m, alpha=way.momentum)
                m.mul_(way.kept).add_(gained[name])
        if rule.decay:
            self.network.decay((1.0 - rule.lr * rule.decay) ** way.steps)
        for name, moved in direction.items():
            moved.mul_(made.D[name])
        at.add(direction)
        for k in sorted({int(way.steps * part) for part in (0.25, 0.5, 0.75)} - {0}):
            self.curve.append((float(self.steps + k), float(way.mse[k])))
        self.steps += way.steps
        self.intervals += 1
        self._last = way
        at.bind(self.network.factors())
        self.curve.append((float(self.steps), mean_square(self._residual())))
        self._miss(made, at.pull(way.c @ way.space.basis))

    def _miss(self, made: Interval, after: Mapping[str, Tensor]) -> None:
        """Add to what the path missed what an interval did.

        With J as it turned from its start to its end, on a line: D (J − J₀)ᵀ c/2, D with the squares of the new
        features in it, for where J only begins D of the old ones is without bound; and what is lacking in the second
        moments, ``lag``, makes the D of all that follows too large or too small.
        """
        way, rule = made.way, self.rule
        gained = way.steps if rule.beta2 is None else 1.0 - rule.beta2**way.steps
        kept = 1.0 if rule.beta2 is None else rule.beta2**way.steps
        turned = 0.5 * KINKS * (way.steps - 1) / way.steps  # the first step is right
        square = gained / way.rates**2
        for name, missed in self._missed.items():
            v, new, old, lag = made.v[name], after[name], made.moved[name], self._lag[name]
            right = _inverse_root((v + lag).clamp_(min=0), made.second, rule.eps)
            held = _inverse_root(v, made.second, rule.eps)
            missed.add_(torch.minimum(right, 2 * held).sub_(held).mul_(old), alpha=made.scale)
            D = _inverse_root(v.addcmul(new, new, value=square), made.second, rule.eps)
            missed.add_(D.mul_(new - old), alpha=turned * made.scale).add_(made.missed[name])
            lag.mul_(kept).addcmul_(new, new, value=turned * square).addcmul_(old, old, value=-turned * square)

    def _middle(self, r: Array, n: int) -> tuple[dict[str, Tensor], float]:
        """D where it is expected in the middle step of the interval, and the corrected sum of the second moments there.

        The residual is expected to go on as in the Krylov space of the last interval.
        """
        rule, half = self.rule, (n + 1) / 2
        times, weights, kept = rule.nodes(half, NODES)
        residuals = [r] * len(times)
        if self._last is not None:
            space = self._last.space
            rho = space.basis @ r
            mu = space.gamma * space.matrix @ rho if rule.beta1 else np.zeros_like(rho)
            total = _total(self._v)
            now = total / self._second(self.steps)
            way = space.run(rule, self.steps, math.ceil(half), rho, mu, np.zeros_like(rho), total, now, None)
            if np.isfinite(way.mse[-1]) and way.mse[-1] <= 4 * way.mse[0]:
                rest = r - rho @ space.basis
                residuals = [way.during(t) + rest for t in times]
        middle = {name: v * kept for name, v in self._v.items()}
        self._add_squares(middle, residuals, weights)
        second = self._second(self.steps + half)
        return {name: _inverse_root(v, second, rule.eps) for name, v in middle.items()}, _total(middle) / second

    def _second(self, steps: float) -> float:
        """What the second moments are divided by after so many steps."""
        return float(self.rule.correction(np.array(float(steps)))[1])

    def _moments(self, v: Mapping[str, Tensor], way: Way, begun: float, n: float) -> dict[str, Tensor]:
        """The second moments n steps after they were v, at a time of the way."""
        times, weights, kept = self.rule.nodes(n, NODES)
        after = {name: old * kept for name, old in v.items()}
        self._add_squares(after, [way.during(begun + t) for t in times], weights)
        return after

    def _add_squares(self, moments: dict[str, Tensor], residuals: Sequence[Array], weights: Array) -> None:
        """Moments += Σ w (γ Jᵀ r)²."""
        same = all(r is residuals[0] for r in residuals)
        pairs = [(residuals[0], float(weights.sum()))] if same else zip(residuals, weights.tolist(), strict=True)
        for r, w in pairs:
            for name, g in self._coordinates.pull(self.gamma * r).items():
                moments[name].addcmul_(g, g, value=w)

    def _space(self, D: Mapping[str, Tensor], r: Array, n: int) -> tuple[Reduced, tuple[Array, Array, Array]]:
        """The Krylov space of K_D that the residual moves in, and r, J D m and Jθ in it."""
        at, rule = self._coordinates, self.rule
        mu = pull = np.zeros_like(r)
        if self._m is not None:
            mu = at.push({k: D[k] * m for k, m in self._m.items()})
        if rule.decay:
            pull = at.push(at.take(self.network.values()))

        def apply(v: Array) -> Array:
            pulled = at.pull(v)
            for name, g in pulled.items():
                g.mul_(D[name])
            self.products += 1
            return at.push(pulled)

        negligible = NEGLIGIBLE * min(self._jump, 1.0) * math.sqrt(len(r))
        B, H = krylov(apply, (r, mu, pull), rule.lr * self.gamma * n, negligible if math.isfinite(self._jump) else 0.0)
        K = self.network.kernel(at.factors, at.factors).double().cpu().numpy()
        space = Reduced(B, H, self.gamma**2 * (B @ K @ B.T), self.gamma)
        return space, (B @ r, B @ mu, B @ pull)


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

"""AdaGrad, RMSprop, Adam and AdamW in full batches, followed through a finite network by a few linearizations.

Over an interval the tangent features J are frozen, and so is the shape of the preconditioner D, taken where it is
expected in the middle of the interval; its size goes on with the gradients. The residual then moves in the Krylov space
of K_D = J D Jᵀ, whose products K_D v are one vector-Jacobian and one Jacobian-vector product each: K_D is never formed.
The second moments gain their Σ g² by a Gauss rule of few nodes. The preconditioner changes by a bounded factor while
the number of steps doubles, so that intervals grow with the steps made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whichmin.dynamics.adaptive_rule import AdaptiveRule
from whichmin.dynamics.coordinates import Coordinates
from whichmin.dynamics.linearized import flat
from whichmin.dynamics.motion import Array
from whichmin.dynamics.network import Network, Place
from whichmin.dynamics.reduced import Reduced, Way, krylov

#: Steps that are made for real before the first interval.
EXACT = 12
#: Nodes of the rule for the Σ g² of an interval; one less is enough up to its middle.
NODES = 3
#: The error that the Krylov space may leave, in units of the jump that is allowed.
NEGLIGIBLE = 0.05


@dataclass(frozen=True, eq=False)
class Begun:
    """Where the exact steps end.

    Attributes:
        place: the network's parameters.
        steps: how many were made.
        m: the momentum, by parameter; None without.
        v: the second moments.
        curve: (step, training mean square error).
    """

    place: Place
    steps: int
    m: dict[str, Tensor] | None
    v: dict[str, Tensor]
    curve: tuple[tuple[float, float], ...]


def begin(
    network: Network, rule: AdaptiveRule, optimizer: torch.optim.Optimizer, steps: float, until: float | None
) -> Begun:
    """At most ``EXACT`` steps of the optimizer itself, which holds the network's parameters, on the network itself."""
    y = network.task.y
    curve: list[tuple[float, float]] = []
    while True:
        with torch.enable_grad():
            loss = (network.model(network.task.X).reshape(y.shape) - y).square().mean()
        curve.append((float(len(curve)), float(loss.detach())))
        if len(curve) > min(steps, EXACT) or (until is not None and curve[-1][1] < until):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    m: dict[str, Tensor] = {}
    v: dict[str, Tensor] = {}
    for name, p in network.named.items():
        state = optimizer.state.get(p)
        first, second = rule.moments(state) if state else (None, torch.zeros_like(p))
        v[name] = second.detach().clone()
        m[name] = torch.zeros_like(p) if first is None else first.detach().clone()
    return Begun(network.place(), len(curve) - 1, m if rule.beta1 else None, v, tuple(curve))


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
        jump: an interval is no longer than lets the real outputs differ by so much (root mean square) from those of its
            linearization at its end, as far as the interval before it tells.
    """

    def __init__(
        self, network: Network, rule: AdaptiveRule, begun: Begun, *, growth: float = 1.0, jump: float = math.inf
    ) -> None:
        network.put(begun.place)
        self.network, self.rule = network, rule
        self._growth, self._jump = growth, jump
        self._y = flat(network.task.y).numpy()
        self.gamma = 2.0 / len(self._y)
        self.steps, self.intervals, self.products = begun.steps, 0, 0
        self.curve = list(begun.curve)
        self._coordinates = Coordinates(network, network.factors())
        self._m = None if begun.m is None else _copy(self._coordinates.take(begun.m))
        self._v = _copy(self._coordinates.take(begun.v))
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
            way = self._interval(n, until)
            self._coordinates.bind(self.network.factors())
            r = self._residual()
            self.curve.append((float(self.steps), float(np.mean(r**2))))
            jump = float(np.sqrt(np.mean((r - way.at(way.steps)) ** 2)))
            longest = way.steps * min(max(math.sqrt(self._jump / max(jump, 1e-300)), 0.25), 4.0)
        return True

    def _residual(self) -> Array:
        return flat(self._coordinates.factors.outputs).numpy() - self._y

    def _interval(self, n: int, until: float | None) -> Way:
        rule, at = self.rule, self._coordinates
        r = self._residual()
        D, v_mid = self._middle(r, n)
        space, starts = self._space(D, r, n)
        way = space.run(rule, self.steps, n, *starts, _total(self._v), v_mid, until)
        direction = at.pull(way.c @ space.basis)
        self._gain(way)
        if self._m is not None:
            gained = at.pull(way.a @ space.basis)
            for name, m in self._m.items():
                direction[name].add_(m, alpha=way.momentum)
                m.mul_(way.kept).add_(gained[name])
        if rule.decay:
            self.network.decay((1.0 - rule.lr * rule.decay) ** way.steps)
        for name, moved in direction.items():
            moved.mul_(D[name])
        at.add(direction)
        for k in sorted({int(way.steps * part) for part in (0.25, 0.5, 0.75)} - {0}):
            self.curve.append((float(self.steps + k), float(way.mse[k])))
        self.steps += way.steps
        self.intervals += 1
        self._last = way
        return way

    def _middle(self, r: Array, n: int) -> tuple[dict[str, Tensor], float]:
        """D where it is expected in the middle of the interval, and the corrected sum of the second moments there.

        The residual is expected to go on as in the Krylov space of the last interval.
        """
        rule, half = self.rule, n / 2
        times, weights, kept = rule.nodes(half, NODES - 1)
        residuals = [r] * len(times)
        if self._last is not None:
            space = self._last.space
            rho = space.basis @ r
            mu = space.gamma * space.matrix @ rho if rule.beta1 else np.zeros_like(rho)
            total = _total(self._v)
            now = total / float(rule.correction(np.array(float(self.steps)))[1])
            way = space.run(rule, self.steps, math.ceil(half), rho, mu, np.zeros_like(rho), total, now, None)
            if np.isfinite(way.mse[-1]) and way.mse[-1] <= 4 * way.mse[0]:
                rest = r - rho @ space.basis
                residuals = [way.at(min(t, way.steps)) + rest for t in times]
        middle = {name: v * kept for name, v in self._v.items()}
        self._add_squares(middle, residuals, weights)
        second = float(rule.correction(np.array(self.steps + half))[1])
        total = _total(middle) / second
        for v in middle.values():
            v.div_(second).sqrt_().add_(rule.eps).reciprocal_()
        return middle, total

    def _gain(self, way: Way) -> None:
        """The second moments over the interval."""
        times, weights, kept = self.rule.nodes(way.steps, NODES)
        for v in self._v.values():
            v.mul_(kept)
        self._add_squares(self._v, [way.at(t) for t in times], weights)

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


def _total(moments: Mapping[str, Tensor]) -> float:
    return sum(float(v.sum(dtype=torch.float64)) for v in moments.values())


def _copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n: t.clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}

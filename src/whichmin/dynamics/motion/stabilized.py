"""Gradient descent of a loss without a closed form, many steps at a time.

Full batches at one rate are Euler steps of dC/dt = −η g(r₀ + K C), t in steps. After some of them the modes of large
eigenvalues follow the others, whose motion is slow: it is integrated by the Runge-Kutta-Chebyshev method of second
order (Verwer, Hundsdorfer and Sommeijer 1990), of which s products with K reach .65 s² steps at the limit of stability.
What Euler steps do is, to second order, the flow of F − ½ F'F, F = −η g (backward error analysis): −½ η² H K g, H the
loss's second derivative.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from whichmin.dynamics.motion.motion import FAR, Motion, Start
from whichmin.dynamics.motion.recursion import LONGEST
from whichmin.kernels.lanczos import probe
from whichmin.kernels.symmetric import symmetric_product
from whichmin.losses import Array

#: So many steps are made one by one.
EXACT = 32
#: Up to this lr·γ·λ the modes of large eigenvalues have come to rest after these steps.
SETTLED = 1.5
#: Within a step, kernels of so many outputs are multiplied in single precision, with what moved since its beginning.
SINGLE = 512
#: The power method begins with so many products, and what it finds counts as so many times as much.
POWERS, MARGIN = 4, 1.3
#: Damping of the method, and what it gives of the limit of stability: s stages reach REACH (s² − 1) of it.
DAMPING, REACH = 2.0 / 13.0, 0.65
#: Bounds of the factor by which steps grow, and the part of the tolerance that the next is aimed at.
SMALLEST_FACTOR, LARGEST_FACTOR, AIM = 0.2, 3.0, 0.8


@dataclass(frozen=True, eq=False)
class _Node:
    """Where training stands at a time: C, K C, −η g, and the training loss; and how it moves on."""

    t: float
    c: Array
    kc: Array
    slope: Array
    loss: float
    motion: StabilizedMotion

    @cached_property
    def turn(self) -> Array:
        """−½ F'F: by what Euler steps are apart from the flow of F."""
        return self.motion.turn(self)

    @cached_property
    def stiffness(self) -> float:
        """lr·λ_max of K H, H the loss's second derivative here, as the power method tells it, with a margin."""
        return self.motion.stiffness(self)

    @cached_property
    def speed(self) -> Array:
        """How fast K C changes."""
        return self.motion.rate(self)


class StabilizedMotion(Motion):
    """See the module; the coefficients are right to about twice ``rtol`` of themselves, in the norm of K.

    A stage costs one product with K, (N·C)².

    Args:
        start: where it starts, at rest.
        exact: the same motion step by step, which knows the limit of many steps.
        lr: η.
        stiffness: lr·γ·λ_max, or more.
        rtol: the error of one step of the integration, relative to ‖θ(t) − θ(0)‖.
    """

    def __init__(self, start: Start, exact: Motion, lr: float, stiffness: float, rtol: float) -> None:
        super().__init__(start)
        self._exact, self._lr, self._stiffness, self._rtol = exact, lr, stiffness, rtol
        self._K = np.ascontiguousarray(start.spectrum.matrix)
        self._coarse = self._K.astype(np.float32) if len(self._K) >= SINGLE else self._K
        self._stride, self._h = 0.0, 0.1 * EXACT
        self._top: Array | None = None
        self._nodes = [self._node(0.0, np.zeros(len(start.residual)))]

    def product(self, v: Array) -> Array:
        """K v."""
        return symmetric_product(self._K, v)

    def rate(self, node: _Node) -> Array:
        """How fast K C changes at a node."""
        return symmetric_product(self._coarse, node.slope + node.turn)

    def turn(self, node: _Node) -> Array:
        """−½ F'F at a node."""
        slope = symmetric_product(self._coarse, node.slope)
        bent = self.start.objective.curve(self.start.residual + node.kc, slope)
        return 0.5 * self._lr * bent

    def stiffness(self, node: _Node) -> float:
        """lr·λ_max(K H) at a node, by the power method from the vector that it had at the node before."""
        here, largest = self.start.residual + node.kc, math.inf
        for _ in range(POWERS if self._top is None else 1):
            v = probe(len(here)) if self._top is None else self._top
            u = self.start.objective.curve(here, v)
            w = symmetric_product(self._coarse, u)
            along, size = float(u @ v), math.sqrt(float(w @ w))
            if not (along > 0 and size > 0):
                return self._stiffness
            largest, self._top = float(u @ w) / along, w / size
        return min(MARGIN * self._lr * largest, self._stiffness)

    def _node(self, t: float, c: Array) -> _Node:
        kc = self.product(c)
        loss, g = self.start.objective.value_and_gradient(self.start.residual + kc)
        return _Node(t, c, kc, -self._lr * g, loss, self)

    def _after(self, node: _Node, h: float) -> tuple[_Node, float]:
        """After h more steps, and the error of that relative to what is tolerated."""
        turn, gradient = node.turn, self.start.objective.gradient
        first, here = node.slope + turn, self.start.residual + node.kc

        def slope(c: Array) -> Array:
            return turn - self._lr * gradient(here + symmetric_product(self._coarse, c - node.c))

        end = self._node(node.t + h, chebyshev_step(slope, node.c, first, h, stages_for(node.stiffness * h)))
        moved = node.c - end.c
        error = 0.8 * moved + 0.4 * h * (first + end.slope + turn)
        size = max(self._stride, _length(self._nodes[0], end))
        missed = math.sqrt(max(float(error @ symmetric_product(self._coarse, error)), 0.0))
        return end, missed / max(self._rtol * size, 1e-300)

    def _advance(self, most: float) -> None:
        """Make another node, at ``most`` at furthest: of one step, or after the first ones of an integrated stretch."""
        node = self._nodes[-1]
        if node.t < EXACT:
            self._nodes.append(self._node(node.t + 1.0, node.c + node.slope))
            return
        while True:
            h = min(max(math.floor(self._h), 1.0), most - node.t)
            end, error = self._after(node, h)
            factor = SMALLEST_FACTOR
            if math.isfinite(error):
                factor = min(LARGEST_FACTOR, max(factor, AIM * max(error, 1e-9) ** (-1 / 3)))
            # A stretch that was cut short by what was asked for says only that longer ones may do.
            self._h = max(self._h, factor * h) if error <= 1 and h < self._h else factor * h
            if error <= 1 or h <= 1:
                self._nodes.append(end)
                return

    def _reach(self, t: float) -> tuple[_Node, _Node]:
        """The nodes around t, the second one later, where t is no node's; at a node, that one twice."""
        while self._nodes[-1].t < t:
            self._advance(t)
        at = bisect.bisect_left(self._nodes, t, key=lambda node: node.t)
        return self._nodes[at if self._nodes[at].t == t else at - 1], self._nodes[at]

    def _at(self, t: float) -> _Node:
        """Where training stands after ⌊t⌋ steps."""
        t = math.floor(t)
        before, after = self._reach(t)
        return after if after.t == t else self._after(before, t - before.t)[0]

    def residual(self, t: float) -> Array:
        """By integration."""
        return self._exact.residual(t) if t > LONGEST else self.start.residual + self._at(t).kc

    def coefficients(self, t: float) -> Array:
        """By integration."""
        return self._exact.coefficients(t) if t > LONGEST else self._at(t).c[None].copy()

    def loss(self, t: float) -> float:
        """By integration; between nodes of cubic polynomials for the outputs."""
        if t > LONGEST:
            return self._exact.loss(t)
        t = math.floor(t)
        before, after = self._reach(t)
        return after.loss if after.t == t else self._loss_between(before, after, t)

    def _loss_between(self, before: _Node, after: _Node, t: float) -> float:
        h, x = after.t - before.t, (t - before.t) / (after.t - before.t)
        kc = (1 - x) ** 2 * ((1 + 2 * x) * before.kc + (x * h) * before.speed)
        kc += x**2 * ((3 - 2 * x) * after.kc - ((1 - x) * h) * after.speed)
        return self.start.objective.value(self.start.residual + kc)

    def displacement(self, t: float) -> float:
        """Without another product."""
        return super().displacement(t) if t > LONGEST else _length(self._nodes[0], self._at(t))

    def first_below(self, until: float, most: float = math.inf) -> float:
        """By integration until a stretch ends below, and by bisection of that."""
        at, most = 1, min(most, LONGEST)
        while True:
            if at == len(self._nodes):
                if self._nodes[-1].t >= most:
                    return math.inf
                self._advance(most)
            if self._nodes[at].loss < until:
                break
            at += 1
        before, after = self._nodes[at - 1 : at + 1]
        lo, hi = before.t, after.t
        while hi - lo > 1:
            mid = math.floor((lo + hi) / 2)
            lo, hi = (lo, mid) if self._loss_between(before, after, mid) < until else (mid, hi)
        return hi

    def first_travelled(self, length: float, end: float, until: float | None) -> float:
        """From the nodes, in proportion between them; what is tolerated is relative to that length from now on."""
        self._stride = length
        travelled, at, end = 0.0, 1, min(end, FAR)
        while self._nodes[at - 1].t < end:
            if at == len(self._nodes):
                self._advance(end)
            before, after = self._nodes[at - 1], self._nodes[at]
            if until is not None and after.loss < until:
                end = min(end, self.first_below(until, after.t))
            step = _length(before, after)
            if travelled + step >= length:
                part = (length - travelled) / step
                return min(end, math.ceil(before.t + part * (after.t - before.t)))
            travelled += step
            at += 1
        return end


def _length(before: _Node, after: _Node) -> float:
    """‖θ − θ'‖ of two nodes."""
    return math.sqrt(max(float((after.c - before.c) @ (after.kc - before.kc)), 0.0))


def largest_product(start: Start, lr: float) -> float | None:
    """An upper bound of lr·γ·λ_max where a motion can be integrated, else None.

    The modes of large eigenvalues must come to rest within the first steps, with whatever curvature the loss has.
    """
    if not start.objective.has_largest_curvature or start.pushed.any() or len(start.pushed) > 1:
        return None
    gamma = start.objective.gamma
    product = lr * gamma * start.spectrum.bound
    if product > SETTLED:
        product = lr * gamma * start.spectrum.largest
    return product if product <= SETTLED else None


def stages_for(stiffness: float) -> int:
    """How many stages a step needs whose length times the largest rate is this."""
    return max(2, math.ceil(math.sqrt(1.0 + stiffness / REACH)))


def chebyshev_step(slope: Callable[[Array], Array], y: Array, first: Array, h: float, stages: int) -> Array:
    """A step of length h of the Runge-Kutta-Chebyshev method of second order, from y.

    Args:
        slope: F(y), (n,).
        y: (n,).
        first: F there.
        h: the length.
        stages: at least 2; there are as many calls of ``slope`` less one.
    """
    start, rows = _coefficients(stages)
    before, now = y, y + (start * h) * first
    for mu, nu, mu_h, gamma_h in rows:
        after = mu * now
        after += nu * before
        after += (1.0 - mu - nu) * y
        after += (mu_h * h) * slope(now)
        after += (gamma_h * h) * first
        before, now = now, after
    return now


@cache
def _coefficients(stages: int) -> tuple[float, list[tuple[float, float, float, float]]]:
    """The first stage's μ̃, and μ, ν, μ̃, γ̃ of each later one."""
    w0 = 1.0 + DAMPING / stages**2
    T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]  # Chebyshev's polynomials at w0, and their derivatives
    for j in range(2, stages + 1):
        T.append(2 * w0 * T[-1] - T[-2])
        dT.append(2 * T[j - 1] + 2 * w0 * dT[-1] - dT[-2])
        ddT.append(4 * dT[j - 1] + 2 * w0 * ddT[-1] - ddT[-2])
    w1 = dT[stages] / ddT[stages]
    b = [ddT[2] / dT[2] ** 2] * 2 + [ddT[j] / dT[j] ** 2 for j in range(2, stages + 1)]
    a = [1.0 - b[j] * T[j] for j in range(stages + 1)]
    rows = []
    for j in range(2, stages + 1):
        mu_h = 2 * b[j] * w1 / b[j - 1]
        rows.append((2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], mu_h, -a[j - 1] * mu_h))
    return b[1] * w1, rows

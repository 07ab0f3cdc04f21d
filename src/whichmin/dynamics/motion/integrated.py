"""Flows of losses without a closed form: the coefficients as an ordinary differential equation in function space."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.motion.search import bisected
from whichmin.losses import Array

#: The integrator's tolerances: relative, and absolute in units of the gradient at the start.
RELATIVE, ABSOLUTE = 1e-10, 1e-12
#: The first stretch of time that is integrated; the next ones are twice as long as all before.
FIRST = 1.0
#: The search for the first time below a training loss gives up after so long.
LONGEST = 2.0**22


class IntegratedFlow(Motion):
    """dC/dt = A(t) C + B(t) g, dΦ/dt = A(t) Φ, by scipy's Runge-Kutta method of order 8; g = ∂L/∂f at f(X).

    Args:
        start: where it starts.
        generator: gives A and B at a time, counted from the start of training.
    """

    def __init__(self, start: Start, generator: Callable[[float], tuple[Array, Array]]) -> None:
        super().__init__(start)
        self._generator = generator
        self._K = np.ascontiguousarray(start.spectrum.matrix)
        self._m, self._n = start.pushed.shape
        self._base = start.residual - start.pushed[0]
        self._now = np.concatenate([np.zeros(self._m * self._n), np.eye(self._m).reshape(-1)])
        self._done = 0.0
        self._pieces: list[tuple[float, Any]] = []  # the end of each stretch, and what it gives at a time
        scale = float(np.abs(start.objective.gradient(start.residual)).max())
        self._absolute = ABSOLUTE * max(scale, 1e-300)

    def _split(self, y: Array) -> tuple[Array, Array]:
        size = self._m * self._n
        return y[:size].reshape(self._m, self._n), y[size:].reshape(self._m, self._m)

    def _residual(self, C: Array, phi: Array) -> Array:
        return self._base + self._K @ C[0] + phi[0] @ self.start.pushed

    def _slope(self, t: float, y: Array) -> Array:
        A, B = self._generator(self.start.steps + t)
        C, phi = self._split(y)
        g = self.start.objective.gradient(self._residual(C, phi))
        return np.concatenate([(A @ C + np.multiply.outer(B, g)).reshape(-1), (A @ phi).reshape(-1)])

    def _reach(self, t: float) -> None:
        from scipy.integrate import solve_ivp  # is slow to import, and only flows need it

        while self._done < t:
            end = self._done + max(FIRST, self._done)
            found = solve_ivp(
                self._slope, (self._done, end), self._now, method="DOP853", rtol=RELATIVE, atol=self._absolute,
                dense_output=True,
            )  # fmt: skip
            self._pieces.append((end, found.sol))
            self._done, self._now = end, found.y[:, -1]

    def _state(self, t: float) -> tuple[Array, Array]:
        if math.isinf(t):
            c = self.start.objective.limit(self._base, self._K)
            if c is None:
                raise AssertionError("a loss without a minimizer has no limit")
            C, phi = np.zeros((self._m, self._n)), np.eye(self._m)
            C[0] = c
            return C, phi
        if t == 0:
            return np.zeros((self._m, self._n)), np.eye(self._m)
        self._reach(t)
        return self._split(next(piece for end, piece in self._pieces if t <= end)(t))

    def residual(self, t: float) -> Array:
        """By integration."""
        return self._residual(*self._state(t))

    def coefficients(self, t: float) -> Array:
        """By integration."""
        return self._state(t)[0]

    def weights(self, t: float) -> Array:
        """By integration."""
        return self._state(t)[1]

    def first_below(self, until: float, most: float = math.inf) -> float:
        """Stretch by stretch, then by bisection of the first one that ends below."""
        before = 0.0
        while before < min(most, LONGEST):
            end = before + max(FIRST, before)
            for t in np.linspace(before, end, 65)[1:].tolist():
                if self.loss(t) < until:
                    return bisected(lambda s: self.loss(s) < until, before, t)
                before = t
        return math.inf

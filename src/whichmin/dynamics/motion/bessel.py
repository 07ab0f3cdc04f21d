"""The flow of Nesterov's accelerated gradient: Bessel functions, mode by mode."""

from __future__ import annotations

import math

import numpy as np

from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.motion.search import FOREVER, bisected
from whichmin.losses import Array

#: The search for the first time below a training loss gives up after this many small steps of time.
LONGEST = 200_000


class BesselMotion(Motion):
    """ẍ + (r/τ) ẋ + λγ x = 0 mode by mode: x = τ^{−ν}(a J_ν(ωτ) + b Y_ν(ωτ)), ν = (r − 1)/2, ω² = λγ.

    From rest at τ = 0, x = x(0) Γ(ν + 1)(2/(ωτ))^ν J_ν(ωτ), of amplitude τ^{−r/2}.

    Args:
        start: where it starts.
        lr: the learning rate; τ = √lr·t.
        r: the constant of the schedule.
    """

    def __init__(self, start: Start, lr: float, r: float) -> None:
        super().__init__(start)
        values = start.spectrum.eigenvalues.numpy()
        self._values, self._positive = values, values > 0
        self._omega = np.sqrt(np.where(self._positive, values, 1.0) * start.objective.gamma)
        self._root, self._r, self._nu = math.sqrt(lr), r, (r - 1.0) / 2.0
        self._x = start.spectrum.rotate(start.residual)
        self._v = -start.spectrum.rotate(start.pushed[1])  # ẋ = J θ̇ = −J s
        self._start_time = self._root * start.steps
        self._a, self._b = self._constants()

    def _pair(self, tau: float) -> tuple[Array, Array, Array, Array]:
        """Both solutions and their derivatives at τ > 0."""
        from scipy.special import jv, jvp, yv, yvp  # is slow to import, and only flows need it

        w, nu = self._omega * tau, self._nu
        power = tau**-nu
        solutions = []
        for f, df in ((jv, jvp), (yv, yvp)):
            value = f(nu, w)
            solutions += [power * value, power * (self._omega * df(nu, w) - nu / tau * value)]
        return solutions[0], solutions[1], solutions[2], solutions[3]

    def _constants(self) -> tuple[Array, Array]:
        if self._start_time == 0:
            return self._x * math.gamma(self._nu + 1) * (2.0 / self._omega) ** self._nu, np.zeros_like(self._x)
        j, dj, y, dy = self._pair(self._start_time)
        wronskian = j * dy - y * dj
        return (self._x * dy - self._v * y) / wronskian, (self._v * j - self._x * dj) / wronskian

    def _modes(self, t: float) -> tuple[Array, Array]:
        """The residual and its derivative in τ, in the eigenbasis, where the kernel is positive."""
        tau = self._start_time + self._root * t
        if math.isinf(t):
            return np.zeros_like(self._x), np.zeros_like(self._x)
        if tau == 0 or t == 0:
            return self._x, self._v
        j, dj, y, dy = self._pair(tau)
        if self._start_time == 0:
            x, v = self._a * j, self._a * dj
            small = self._omega * tau < 1e-3  # the series, where J_ν underflows or cancels
            w = (self._omega * tau) ** 2 / (4 * (self._nu + 1))
            x = np.where(small, self._x * (1 - w), x)
            v = np.where(small, -2 * self._x * w / tau, v)
        else:
            x, v = self._a * j + self._b * y, self._a * dj + self._b * dy
        return x, v

    def residual(self, t: float) -> Array:
        """From the modes."""
        x = np.where(self._positive, self._modes(t)[0], self._x)
        return self.start.spectrum.rotate_back(x)

    def loss(self, t: float) -> float:
        """Mode by mode."""
        return self.start.objective.value(np.where(self._positive, self._modes(t)[0], self._x))

    def weights(self, t: float) -> Array:
        """What the state vector s does without forces: s τ^{−r}, which moves θ on."""
        if self._start_time == 0:
            return np.eye(2)  # nothing is remembered yet
        tau, r = self._start_time + self._root * min(t, FOREVER), self._r
        ratio = self._start_time / tau
        moved = self._start_time * (math.log(1 / ratio) if r == 1 else (1 - ratio ** (r - 1)) / (r - 1))
        return np.array([[1.0, -moved], [0.0, ratio**r]])

    def coefficients(self, t: float) -> Array:
        """(x − x(0) − what s does alone)/λ, and the same of −ẋ."""
        x, v = self._modes(t)
        phi = self.weights(t)
        inverse = np.where(self._positive, 1.0 / np.where(self._positive, self._values, 1.0), 0.0)
        s = -self._v
        moved = (x - self._x) - phi[0, 1] * s
        if self._start_time == 0 and not math.isinf(t):
            tau = self._root * t
            w = (self._omega * tau) ** 2 / (4 * (self._nu + 1))
            moved = np.where(self._omega * tau < 1e-3, -self._x * w, moved)
        return self.start.spectrum.rotate_back(np.stack([moved * inverse, (-v - phi[1, 1] * s) * inverse]))

    def first_below(self, until: float, most: float = math.inf) -> float:
        """In small steps of time, then by bisection: the loss oscillates."""
        if self.start.objective.value(np.where(self._positive, 0.0, self._x)) >= until:
            return math.inf
        step = 0.2 / (self._root * float(self._omega[self._positive].max()))
        t = 0.0
        for _ in range(LONGEST):
            if self.loss(t + step) < until:
                return bisected(lambda s: self.loss(s) < until, t, t + step)
            t += step
        return math.inf

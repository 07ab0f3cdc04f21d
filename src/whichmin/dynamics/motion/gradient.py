"""Gradient descent, full batch: m(t) = (1 − lr·γ·λ)^t, and gradient flow: m(t) = exp(−lr·γ·λ·t)."""

from __future__ import annotations

import math

import numpy as np

from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.motion.search import first_time
from whichmin.losses import Array


class GradientMotion(Motion):
    """Gradient descent or flow in the eigenbasis of the kernel, in closed form.

    Args:
        start: where it starts.
        lr: the learning rate.
        flow: gradient flow at time lr·t in place of t steps.
        share: by what each mode's gradient is multiplied beyond the limit of stability (``edge.driven_share``).
    """

    def __init__(self, start: Start, lr: float, flow: bool, share: Array | None = None) -> None:
        super().__init__(start)
        eigenvalues = start.spectrum.eigenvalues.numpy()
        z = lr * start.objective.gamma * eigenvalues
        self._modes = GradientModes(eigenvalues, z if share is None else z * share, flow)
        self._q = start.spectrum.rotate(start.residual)
        self._eigenvalues, self._flow = eigenvalues, flow

    def residual(self, t: float) -> Array:
        """Q m(t)∘q."""
        return self.start.spectrum.rotate_back(self._modes.residual(t) * self._q)

    def coefficients(self, t: float) -> Array:
        """−Q (1 − m(t))/λ∘q."""
        return -self.start.spectrum.rotate_back(self._modes.coefficient(t) * self._q)[None]

    def loss(self, t: float) -> float:
        """That of m(t)∘q."""
        return self.start.objective.value(self._modes.residual(t) * self._q)

    def displacement(self, t: float) -> float:
        """(cᵀKc)^{1/2}."""
        c = self._modes.coefficient(t) * self._q
        return math.sqrt(float(np.dot(c * c, self._eigenvalues)))

    def first_below(self, until: float, most: float = math.inf) -> float:
        """By bisection: the loss falls all the time."""
        return first_time(lambda t: self.loss(t) < until, self._flow)


class GradientModes:
    """The closed form, mode by mode, for z = lr·γ·λ < 2."""

    def __init__(self, eigenvalues: Array, z: Array, flow: bool) -> None:
        self._positive = eigenvalues > 0
        self._inverse = 1.0 / np.where(self._positive, eigenvalues, np.inf)
        if flow:
            self._log, self._sign = -z, np.ones_like(z)
            return
        with np.errstate(divide="ignore"):
            factor = 1 - z
            self._log = np.where(z < 0.5, np.log1p(-np.minimum(z, 0.5)), np.log(np.abs(factor)))
        self._sign = np.sign(factor)

    def residual(self, t: float) -> Array:
        """m(t)."""
        if t == 0:
            return np.ones_like(self._log)
        if math.isinf(t):
            return np.where(self._positive, 0.0, 1.0)
        size = np.exp(t * self._log)
        return size * self._sign if t % 2 == 1 else size

    def coefficient(self, t: float) -> Array:
        """(1 − m(t))/λ, by expm1 where it cancels."""
        if t == 0:
            return np.zeros_like(self._log)
        if math.isinf(t):
            return self._inverse
        even_or_positive = (self._sign >= 0) | (t % 2 != 1)
        bracket = np.where(even_or_positive, -np.expm1(t * self._log), 1 + np.exp(t * self._log))
        return bracket * self._inverse

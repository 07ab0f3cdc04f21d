"""What a rule does to the residual while the tangent features J are frozen.

The state of training is S = (θ, s₁, …): the parameters and what the optimizer remembers, each a vector in parameter
space. While J is frozen every described rule moves it by S(t) = Φ(t) S(0) + C(t) J(X), Φ(t) a small matrix and C(t) a
row of N·C coefficients for each of the vectors, so that nothing but N·C numbers a vector has to be followed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from whichmin.dynamics.motion.search import first_time
from whichmin.kernels.modes import Spectrum
from whichmin.losses import Array, Objective

#: The length of a trajectory is summed over this many times.
SAMPLES = 96
#: The length of a trajectory without an end is summed over at most this many steps.
FAR = 20_000.0


@dataclass(frozen=True, eq=False)
class Start:
    """Where an interval starts.

    Attributes:
        spectrum: of the kernel K(X, X).
        objective: the loss on the training outputs.
        residual: r = f(θ, X) − origin of the objective, (N·C,): the residual f − Y of the mean square error.
        steps: the steps made before.
        pushed: J S_k, (1 + state vectors, N·C): how the vectors of the state act on the training outputs. The first
            row, Jθ, matters only to weight decay and is zero otherwise.
        gram: the inner products of s₁, … in parameter space, (state vectors, state vectors).
    """

    spectrum: Spectrum
    objective: Objective
    residual: Array
    steps: float
    pushed: Array
    gram: Array

    @classmethod
    def at_rest(
        cls,
        spectrum: Spectrum,
        objective: Objective,
        residual: Array,
        state_vectors: int = 0,
        theta: Array | None = None,
    ) -> Start:
        """Before the first step: nothing is remembered; ``theta`` is Jθ₀ for rules that decay the weights."""
        pushed = np.zeros((1 + state_vectors, len(residual)))
        if theta is not None:
            pushed[0] = theta
        return cls(spectrum, objective, residual, 0.0, pushed, np.zeros((state_vectors, state_vectors)))


class Motion(ABC):
    """Training from a :class:`Start` with J frozen. Times are steps from there."""

    def __init__(self, start: Start) -> None:
        self.start = start

    @abstractmethod
    def residual(self, t: float) -> Array:
        """f(X) − origin at time t, (N·C,)."""

    @abstractmethod
    def coefficients(self, t: float) -> Array:
        """C(t), (1 + state vectors, N·C)."""

    def hidden(self, most: int) -> tuple[Array, Array]:
        """The modes of K whose eigenvalues count as zero.

        Args:
            most: no more modes than this have an eigenvalue.

        Returns:
            Their eigenvalues as computed, (k,), and their vectors, (N·C, k).
        """
        return self.start.spectrum.hidden(most)

    def weights(self, t: float) -> Array:
        """Φ(t), (1 + state vectors, 1 + state vectors); the identity for rules without memory."""
        return np.eye(1)

    def loss(self, t: float) -> float:
        """The training loss at time t."""
        return self.start.objective.value(self.residual(t))

    @abstractmethod
    def first_below(self, until: float, most: float = math.inf) -> float:
        """The first time > 0 at which training that stops below ``until`` would stop; infinity if never.

        Args:
            until: a training loss.
            most: later times may be infinity.
        """

    def displacement(self, t: float) -> float:
        """‖θ(t) − θ(0)‖, without what weight decay takes off θ(0)."""
        return self._size(self.coefficients(t)[0], self.weights(t)[0, 1:])

    def _size(self, c: Array, phi: Array) -> float:
        """‖Jᵀc + Σ φ_k s_k‖."""
        kc = self.start.spectrum.apply(c)
        square = c @ kc + 2 * phi @ (self.start.pushed[1:] @ c) + phi @ self.start.gram @ phi
        return math.sqrt(max(float(square), 0.0))

    def travelled(self, end: float) -> tuple[Array, Array]:
        """Times up to ``end``, spaced by a factor, and the length of the parameters' trajectory until then.

        With momentum the parameters swing back: the trajectory is longer than the displacement.
        """
        last = end
        if math.isinf(end):
            last = min(self.first_below(1e-6 * self.loss(0), FAR), FAR)
        times = np.unique(np.round(np.geomspace(1.0, max(last, 1.0), SAMPLES))) if last >= SAMPLES else np.array([])
        if not len(times):
            times = np.arange(1.0, last + 1.0) if last == int(last) else np.linspace(last / SAMPLES, last, SAMPLES)
        length, lengths = 0.0, []
        before, swung = np.zeros(len(self.start.residual)), np.zeros(len(self.start.gram))
        for t in times.tolist():
            c, phi = self.coefficients(t)[0], self.weights(t)[0, 1:]
            length += self._size(c - before, phi - swung)
            lengths.append(length)
            before, swung = c, phi
        return times, np.array(lengths)

    def first_travelled(self, length: float, end: float, until: float | None) -> float:
        """The first time, up to ``end``, at which the trajectory is so long or the loss below ``until``, about.

        Times grow by a tenth from one look to the next, so that no later steps than twice as many are made.
        """
        t, travelled = 0.0, 0.0
        before, swung = np.zeros(len(self.start.residual)), np.zeros(len(self.start.gram))
        while t < min(end, FAR):
            t = min(end, t + max(1.0, math.floor(0.1 * t)))
            c, phi = self.coefficients(t)[0], self.weights(t)[0, 1:]
            travelled += self._size(c - before, phi - swung)
            before, swung = c, phi
            if until is not None and self.loss(t) < until:
                return min(t, self.first_below(until, t))
            if travelled >= length:
                return t
        return t

    def first_moved(self, distance: float, end: float, flow: bool) -> float:
        """The first time, up to ``end``, at which the parameters have moved so far."""
        return min(end, first_time(lambda t: self.displacement(min(t, end)) >= distance or t >= end, flow))

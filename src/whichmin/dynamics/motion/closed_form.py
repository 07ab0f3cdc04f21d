"""Rules whose every step is the same linear map: any number of steps by repeated squaring, mode by mode."""

from __future__ import annotations

import math

import numpy as np

from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.dynamics.motion.search import FOREVER, bisected
from whichmin.losses import Array

#: The search for the first step below a training loss looks at this many steps together.
BLOCK = 128
#: The search for the first step below a training loss gives up after this many steps.
LONGEST = 2**22


def expm(a: Array) -> Array:
    """The exponential of a matrix, or of each of a stack of them."""
    from scipy.linalg import expm  # is slow to import, and only flows need it

    return np.asarray(expm(a), dtype=np.float64)


class ClosedFormMotion(Motion):
    """S ← A S + B γ Jᵀr in every step; with J frozen a map of a few numbers for each mode of the kernel.

    A mode's numbers are x = (C, u, 1): its coefficients, u = Φ J S(0), and one for what is constant; its residual is
    r = r(0) − u₀(0) + u₀ + λ C₀. A step is x ← x + E x, and two are x + (2E + E²) x, which keeps what is small.

    Args:
        start: where it starts.
        A: (1 + state vectors, 1 + state vectors).
        B: (1 + state vectors,).
        first: A and B of the very first step, where they differ and it has not been made yet.
        share: by what each mode's gradient is multiplied beyond the limit of stability (``edge.driven_share``).
        flow: A and B are those of a flow, dS/dt = A S + B γ Jᵀr, in place of those of a step.
    """

    def __init__(
        self,
        start: Start,
        A: Array,
        B: Array,
        *,
        first: tuple[Array, Array] | None = None,
        share: Array | None = None,
        flow: bool = False,
    ) -> None:
        super().__init__(start)
        self._values = start.spectrum.eigenvalues.numpy()
        self._pushed = start.spectrum.rotate(start.pushed)  # (1 + state vectors, modes)
        self._constant = start.spectrum.rotate(start.residual) - self._pushed[0]
        self._m, self._flow = len(B), flow
        self._A = A
        share = np.ones_like(self._values) if share is None else share
        build = self._generator if flow else self._step
        self._powers = [] if flow else [build(A, B, share)]
        self._G = build(A, B, share) if flow else None
        x = np.zeros((len(self._values), 2 * self._m + 1))
        x[:, self._m : -1], x[:, -1] = self._pushed.T, 1.0
        self._x0, self._offset, self._first_phi = x, 0, np.eye(self._m)
        if first is not None:
            E = build(*first, share)
            self._before, self._x0, self._offset = x, x + np.einsum("nij,nj->ni", E, x), 1
            self._first_phi = first[0]

    def _generator(self, A: Array, B: Array, share: Array) -> Array:
        """G of dx/dt = G x, (modes, 2m + 1, 2m + 1); a mode is driven by the part ``share`` of its residual."""
        m, values = self._m, self._values
        n = len(values)
        G = np.zeros((n, 2 * m + 1, 2 * m + 1))
        moved = np.where(values > 0, self.start.objective.gamma * share, 0.0)[:, None] * B  # (modes, m)
        G[:, :m, :m] = A
        G[:, :m, 0] += moved * values[:, None]
        G[:, :m, m] = moved
        G[:, :m, -1] = moved * self._constant[:, None]
        G[:, m:-1, m:-1] = A
        return G

    def _step(self, A: Array, B: Array, share: Array) -> Array:
        """E of x ← x + E x."""
        E = self._generator(A, B, share)
        m = self._m
        E[:, :m, :m] -= np.eye(m)
        E[:, m:-1, m:-1] -= np.eye(m)
        return E

    def _power(self, k: int) -> Array:
        while len(self._powers) <= k:
            E = self._powers[-1]
            self._powers.append(2 * E + E @ E)
        return self._powers[k]

    def _state(self, t: float) -> Array:
        """X(t), (modes, 2m + 1)."""
        if math.isinf(t):
            return self._limit()
        if self._G is not None:
            return np.einsum("nij,nj->ni", expm(t * self._G), self._x0)
        steps = int(t) - self._offset
        if steps < 0:
            return self._before
        x = self._x0
        for k in range(steps.bit_length()):
            if steps >> k & 1:
                x = x + np.einsum("nij,nj->ni", self._power(k), x)
        return x

    def _limit(self) -> Array:
        if self._G is not None:
            scale = 1.0 / max(float(np.abs(self._G).max()), 1e-300)
            E = expm(scale * self._G) - np.eye(self._G.shape[1])
        else:
            E = self._powers[0]
        x = self._x0
        for _ in range(int(math.log2(FOREVER))):
            moved = np.einsum("nij,nj->ni", E, x)
            x = x + moved
            if float(np.abs(moved).max()) <= 1e-15 * float(np.abs(x).max()):
                break
            E = 2 * E + E @ E
        return x

    def _residual(self, x: Array) -> Array:
        return self._constant + x[:, self._m] + self._values * x[:, 0]

    def residual(self, t: float) -> Array:
        """From the modes."""
        return self.start.spectrum.rotate_back(self._residual(self._state(t)))

    def loss(self, t: float) -> float:
        """Mode by mode."""
        return self.start.objective.value(self._residual(self._state(t)))

    def coefficients(self, t: float) -> Array:
        """From the modes."""
        return self.start.spectrum.rotate_back(self._state(t)[:, : self._m].T)

    def weights(self, t: float) -> Array:
        """A^t, or exp(A t)."""
        if self._flow:
            return expm(min(t, FOREVER) * self._A)
        if t == 0:
            return np.eye(self._m)
        steps = int(min(t, FOREVER)) - self._offset
        return np.linalg.matrix_power(self._A, steps) @ self._first_phi

    def first_below(self, until: float, most: float = math.inf) -> float:
        """All steps are looked at, many together: with momentum the loss does not fall all the time."""
        floor = self.start.objective.value(np.where(self._values > 0, 0.0, self._residual(self._x0)))
        if floor >= until:
            return math.inf
        if self._offset and self.loss(1) < until:
            return 1.0
        if self._G is None:
            E, unit = self._powers[0], 1.0
        else:  # a flow is looked at four times a step
            unit = 0.25
            E = expm(unit * self._G) - np.eye(self._G.shape[1])
        row = np.zeros((len(self._values), 1, 2 * self._m + 1))
        row[:, 0, 0], row[:, 0, self._m], row[:, 0, -1] = self._values, 1.0, self._constant
        rows = row + row @ E  # what gives the residual after 1, …, L units
        while rows.shape[1] < BLOCK:
            rows = np.concatenate([rows, rows + rows @ E], axis=1)
            E = 2 * E + E @ E
        return self._scan(rows, E, unit, until)

    def _scan(self, rows: Array, E: Array, unit: float, until: float) -> float:
        x, scanned = self._x0, 0
        while scanned < LONGEST:
            r = np.matmul(rows, x[:, :, None])[:, :, 0]
            below = np.flatnonzero(np.einsum("nl,nl->l", r, r) < 2.0 * until / self.start.objective.gamma)
            if len(below):
                t = self._offset + unit * (scanned + int(below[0]) + 1)
                return t if self._G is None else bisected(lambda s: self.loss(s) < until, t - unit, t)
            moved = np.einsum("nij,nj->ni", E, x)
            if float(np.abs(moved).max()) <= 1e-14 * float(np.abs(x).max()):
                return math.inf
            x, scanned = x + moved, scanned + rows.shape[1]
        return math.inf

"""Rules whose steps differ, by their number, their learning rate or their batch: step by step in function space.

A step on the batch b is, with J frozen, C ← A C + B g with g = γ_b r on b and 0 elsewhere, γ_b = 2/(|b|·C), and
r = r(0) − u₀(0) + u₀ + K C₀, u ← A u. No network is looked at; a step costs (N·C)² multiplications, or N·C·|b|.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from whichmin.dynamics.motion import Array, Motion, Start, mean_square
from whichmin.errors import DivergenceError

#: The state is kept every so many steps; between, it is made again.
KEEP_EVERY = 32
#: Whether anything moves still is looked at every so many steps.
LOOK_EVERY = 1024
#: After so many steps what was remembered at the start moves nothing any more.
FORGOTTEN = 10**5
#: Where the search for a training error gives up.
LONGEST = 10**6
#: How often over the first training error a run counts as diverged.
DIVERGED = 1e6

#: C, u and Φ.
State = tuple[Array, Array, Array]


class RecursionMotion(Motion):
    """See the module.

    Args:
        start: where it starts.
        step: gives A and B of step number k, counted from the start of training.
        batch: gives the rows of the outputs that step number k uses, or None for all of them.
        every: training errors are looked at after every so many steps, counted from the start of training.
        largest: what modes of a larger eigenvalue are driven as if they had (see ``SteadyMotion``).
    """

    def __init__(
        self,
        start: Start,
        step: Callable[[int], tuple[Array, Array]],
        batch: Callable[[int], NDArray[np.int64] | None],
        *,
        every: int = 1,
        largest: float = math.inf,
    ) -> None:
        super().__init__(start)
        self._rule, self._batch, self._every = step, batch, every
        values = start.spectrum.eigenvalues.numpy()
        self._K = np.ascontiguousarray(start.spectrum.kernel)
        self._filter: Array | None = None
        if values[0] > largest:
            Q = start.spectrum.vectors.numpy()
            self._filter = (Q * np.minimum(1.0, largest / np.maximum(values, largest))) @ Q.T
        self._base = start.residual - start.pushed[0]
        self._still = not start.pushed.any()
        m = len(start.pushed)
        first = (np.zeros_like(start.pushed), start.pushed.copy(), np.eye(m))
        self._kept: list[State] = [first]
        self._now = _copy(first)
        self._made = 0
        self._errors = [mean_square(start.residual)]

    def _residual(self, C: Array, u: Array) -> Array:
        r = self._K @ C[0]
        r += self._base
        return r if self._still else r + u[0]

    def _run(self, state: State, first: int, last: int, errors: list[float] | None) -> State:
        """Steps number first, …, last − 1 from here (counted from the start of the interval)."""
        begun, gamma = int(self.start.steps), self.start.spectrum.gamma
        C, u, phi = state
        K, r = self._K, self._residual(C, u)
        g = np.zeros_like(r)
        for k in range(first, last):
            A, B = self._rule(begun + k)
            rows = self._batch(begun + k)
            if self._filter is not None:
                g.fill(0.0)
                where = slice(None) if rows is None else rows
                g[where] = r[where] * (gamma if rows is None else 2.0 / len(rows))
                C = A.dot(C) + B[:, None] * self._filter.dot(g)
                u, phi = A.dot(u), A.dot(phi)
                r = self._residual(C, u)
            elif rows is not None and len(B) == 1 and self._still and A[0, 0] == 1.0:
                part = r[rows] * (B[0] * 2.0 / len(rows))
                C[0, rows] += part
                if 4 * len(rows) < len(r):
                    r += part.dot(K[rows])
                else:  # a product with all of K costs less than picking its rows
                    g.fill(0.0)
                    g[rows] = part
                    r += K.dot(g)
            else:
                C = A.dot(C)
                if rows is None:
                    np.multiply(r, gamma, out=g)
                    C += B[:, None] * g
                else:
                    C[:, rows] += B[:, None] * (r[rows] * (2.0 / len(rows)))
                r = K.dot(C[0])
                r += self._base
                if not self._still:
                    u = A.dot(u)
                    r += u[0]
                if len(B) > 1 or A[0, 0] != 1.0:
                    phi = A.dot(phi)
            if errors is not None:
                errors.append(r.dot(r) / len(r))
        return C, u, phi

    def _reach(self, t: int) -> None:
        """Make steps until t."""
        while self._made < t:
            upto = min(t, (self._made // KEEP_EVERY + 1) * KEEP_EVERY)
            with np.errstate(over="ignore", invalid="ignore"):
                self._now = self._run(self._now, self._made, upto, self._errors)
            self._made = upto
            now = self._errors[-1]
            if not math.isfinite(now) or now > DIVERGED * (self._errors[0] + 1e-300):
                raise DivergenceError(
                    f"training diverges: after {int(self.start.steps) + upto} steps the predicted training MSE is "
                    f"{now:.3g}. Lower the learning rate, or take larger batches.",
                    math.nan,
                )
            if upto % KEEP_EVERY == 0:
                self._kept.append(_copy(self._now))

    def _state(self, t: float) -> State:
        if math.isinf(t) and not self.start.pushed[0].any():
            return self._limit()
        t = LONGEST if math.isinf(t) else int(t)
        if t > self._made:
            self._settle(t)
        if t >= self._made:
            return self._now
        k = t // KEEP_EVERY
        return self._run(_copy(self._kept[k]), k * KEEP_EVERY, t, None)

    def _limit(self) -> State:
        """In the end, without weight decay: what the kernel sees is trained away, whatever the steps are."""
        start = self.start
        phi, begun = np.eye(len(start.pushed)), int(start.steps)
        for k in range(FORGOTTEN if len(phi) > 1 and not self._still else 0):
            before, phi = phi, self._rule(begun + k)[0].dot(phi)
            if k > LOOK_EVERY and np.abs(phi - before).max() <= 1e-13 * np.abs(phi).max():
                break
        u = phi.dot(start.pushed)
        C = np.zeros_like(start.pushed)
        C[0] = -start.spectrum.solve(self._base + u[0])
        return C, u, phi

    def _settle(self, t: int) -> None:
        """Make steps until t, or until nothing moves any more."""
        while self._made < t:
            before = self._errors[-1]
            self._reach(min(t, self._made + LOOK_EVERY))
            after = self._errors[-1]
            if t == LONGEST and (after <= 1e-20 * (self._errors[0] + 1e-300) or abs(before - after) <= 1e-12 * after):
                return

    def residual(self, t: float) -> Array:
        """By making the steps."""
        C, u, _ = self._state(t)
        return self._residual(C, u)

    def coefficients(self, t: float) -> Array:
        """By making the steps; in the limit without weight decay by what is left to be trained away."""
        return self._state(t)[0]

    def weights(self, t: float) -> Array:
        """The product of the matrices A."""
        return self._state(t)[2]

    def mse(self, t: float) -> float:
        """As kept, or by making the steps."""
        if t <= self._made:
            return self._errors[int(t)]
        return mean_square(self.residual(t))

    def first_below(self, until: float) -> float:
        """By making steps; infinity if nothing moves any more, or after a million of them."""
        begun, seen, spectrum = int(self.start.steps), 0, self.start.spectrum
        if not self.start.pushed[0].any():  # without weight decay nothing moves what the kernel does not see
            unseen = np.where(spectrum.eigenvalues.numpy() > 0, 0.0, spectrum.rotate(self.start.residual))
            if mean_square(unseen) >= until:
                return math.inf
        while True:
            for t in range(seen + 1, self._made + 1):
                if self._errors[t] < until and (begun + t) % self._every == 0:
                    return float(t)
            seen, before = self._made, self._errors[-1]
            if self._made >= LONGEST:
                return math.inf
            self._reach(self._made + LOOK_EVERY)
            if self._made > 4 * LOOK_EVERY and abs(self._errors[-1] - before) <= 1e-9 * before:
                return math.inf


def _copy(state: State) -> State:
    C, u, phi = state
    return C.copy(), u.copy(), phi.copy()

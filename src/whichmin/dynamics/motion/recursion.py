"""Rules whose steps differ, by their number, their learning rate or their batch: step by step in function space.

A step on the batch b is, with J frozen, C ← A C + B g with g = γ_b r on b and 0 elsewhere, γ_b = 2/(|b|·C), Φ ← A Φ,
and r = r(0) − J S₀(0) + (Φ J S(0))₀ + K C₀. No network is looked at. A step costs N·C·|b| multiplications, and N·C for
full batches, whose steps are made mode by mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from whichmin.dynamics.motion.motion import Array, Motion, Start, mean_square
from whichmin.errors import DivergenceError

#: States are kept of as many steps as these numbers hold; between, they are made again.
MEMORY = 2**22
#: Of steps in batches, which cost little, one in so many is kept at most.
EVERY_BATCH = 32
#: How far training has come is looked at every so many steps.
LOOK_EVERY = 1024
#: A training error is searched for so many steps at a time.
SEARCHED = 64
#: After so many steps what was remembered at the start moves nothing any more.
FORGOTTEN = 10**5
#: Where the search for a training error gives up.
LONGEST = 10**6
#: How often over the first training error a run counts as diverged.
DIVERGED = 1e6

#: C and Φ.
State = tuple[Array, Array]


class RecursionMotion(Motion):
    """See the module.

    Args:
        start: where it starts.
        step: gives A and B of step number k, counted from the start of training.
        batch: gives the rows of the outputs that step number k uses, or None for all of them; None where all steps use
            all.
        every: training errors are looked at after every so many steps, counted from the start of training.
        largest: what modes of a larger eigenvalue are driven as if they had (see ``SteadyMotion``).
    """

    def __init__(
        self,
        start: Start,
        step: Callable[[int], tuple[Array, Array]],
        batch: Callable[[int], NDArray[np.int64] | None] | None,
        *,
        every: int = 1,
        largest: float = math.inf,
    ) -> None:
        super().__init__(start)
        self._rule, self._batch, self._every = step, batch, every
        self._values = start.spectrum.eigenvalues.numpy()
        damped = np.minimum(1.0, largest / np.maximum(self._values, 1e-300))
        self._drive, self._filter = start.spectrum.gamma * damped, None
        self._in_modes = batch is None
        residual, self._pushed = start.residual, start.pushed
        if self._in_modes:
            residual, self._pushed = start.spectrum.rotate(residual), start.spectrum.rotate(start.pushed)
        else:
            self._K = np.ascontiguousarray(start.spectrum.kernel)
            if self._values[0] > largest:
                Q = start.spectrum.vectors.numpy()
                self._filter = (Q * damped) @ Q.T
        self._base = residual - self._pushed[0]
        self._still = not start.pushed.any()
        m = len(start.pushed)
        self._now: State = (np.zeros_like(start.pushed), np.eye(m))
        self._made, self._stride = 0, 1 if self._in_modes else EVERY_BATCH
        self._kept: list[State] = [_copy(self._now)]
        self._most = max(64, MEMORY // start.pushed.size)
        self._errors = [mean_square(start.residual)]

    def _residual(self, state: State) -> Array:
        """In the modes where steps are made there."""
        C, phi = state
        r = self._values * C[0] if self._in_modes else self._K.dot(C[0])
        r += self._base
        if not self._still:
            r += phi[0].dot(self._pushed)
        return r

    def _run(self, state: State, first: int, last: int, errors: list[float] | None) -> State:
        """Steps number first, …, last − 1 from here (counted from the start of the interval)."""
        make = self._run_in_modes if self._in_modes else self._run_in_batches
        return make(state, first, last, errors)

    def _run_in_modes(self, state: State, first: int, last: int, errors: list[float] | None) -> State:
        begun, rule, still, size = int(self.start.steps), self._rule, self._still, len(self._base)
        values, base, drive, pushed = self._values, self._base, self._drive, self._pushed
        C, phi = state
        r, stride = self._residual(state), self._stride
        for k in range(first, last):
            A, B = rule(begun + k)
            C = A.dot(C)
            C += np.multiply.outer(B, r * drive)
            phi = A.dot(phi)
            r = values * C[0]
            r += base
            if not still:
                r += phi[0].dot(pushed)
            if errors is not None:
                errors.append(r.dot(r) / size)
                if not (k + 1) % stride:
                    stride = self._keep((C, phi))
        return C, phi

    def _run_in_batches(self, state: State, first: int, last: int, errors: list[float] | None) -> State:
        assert self._batch is not None
        begun, gamma, size = int(self.start.steps), self.start.spectrum.gamma, len(self._base)
        C, phi = state
        K, r, stride = self._K, self._residual(state), self._stride
        g = np.zeros_like(r)
        for k in range(first, last):
            A, B = self._rule(begun + k)
            rows = self._batch(begun + k)
            simple = rows is not None and len(B) == 1 and self._still and A[0, 0] == 1.0 and self._filter is None
            if simple and rows is not None:
                part = r[rows] * (B[0] * 2.0 / len(rows))
                C[0, rows] += part
                if 4 * len(rows) < len(r):
                    r += part.dot(K[rows])
                else:  # a product with all of K costs less than picking its rows
                    g.fill(0.0)
                    g[rows] = part
                    r += K.dot(g)
            else:
                g.fill(0.0)
                where = slice(None) if rows is None else rows
                g[where] = r[where] * (gamma if rows is None else 2.0 / len(rows))
                C = A.dot(C) + B[:, None] * (g if self._filter is None else self._filter.dot(g))
                phi = A.dot(phi)
                r = self._residual((C, phi))
            if errors is not None:
                errors.append(r.dot(r) / size)
                if not (k + 1) % stride:
                    stride = self._keep((C, phi))
        return C, phi

    def _keep(self, state: State) -> int:
        """Keep the state; after how many steps the next is."""
        self._kept.append(_copy(state))
        if len(self._kept) > self._most:
            self._kept, self._stride = self._kept[::2], 2 * self._stride
        return self._stride

    def _reach(self, t: int) -> None:
        """Make steps until t."""
        while self._made < t:
            upto = min(t, self._made + LOOK_EVERY)
            with np.errstate(over="ignore", invalid="ignore"):
                self._now = self._run(self._now, self._made, upto, self._errors)
            self._made = upto
            now = self._errors[-1]
            if not math.isfinite(now) or now > DIVERGED * (self._errors[0] + 1e-300):
                gone = next(k for k, e in enumerate(self._errors) if not e <= DIVERGED * (self._errors[0] + 1e-300))
                raise DivergenceError(
                    f"training diverges: after {int(self.start.steps) + gone} steps the predicted training MSE is "
                    f"{self._errors[gone]:.3g}. Lower the learning rate, or take larger batches.",
                    math.nan,
                )

    def _state(self, t: float) -> State:
        if math.isinf(t) and not self.start.pushed[0].any():
            return self._limit()
        t = LONGEST if math.isinf(t) else int(t)
        if t > self._made:
            self._settle(t)
        if t >= self._made:
            return self._now
        k = t // self._stride
        return self._run(_copy(self._kept[k]), k * self._stride, t, None)

    def _limit(self) -> State:
        """In the end, without weight decay: what the kernel sees is trained away, whatever the steps are."""
        start = self.start
        phi, begun = np.eye(len(start.pushed)), int(start.steps)
        for k in range(FORGOTTEN if len(phi) > 1 and not self._still else 0):
            before, phi = phi, self._rule(begun + k)[0].dot(phi)
            if k > LOOK_EVERY and np.abs(phi - before).max() <= 1e-13 * np.abs(phi).max():
                break
        left = self._base + phi[0].dot(self._pushed)
        C = np.zeros_like(start.pushed)
        if self._in_modes:
            C[0] = -left / np.where(self._values > 0, self._values, np.inf)
        else:
            C[0] = -start.spectrum.solve(left)
        return C, phi

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
        r = self._residual(self._state(t))
        return self.start.spectrum.rotate_back(r) if self._in_modes else r

    def coefficients(self, t: float) -> Array:
        """By making the steps; in the limit without weight decay by what is left to be trained away."""
        C = self._state(t)[0]
        return self.start.spectrum.rotate_back(C) if self._in_modes else C

    def weights(self, t: float) -> Array:
        """The product of the matrices A."""
        return self._state(t)[1]

    def mse(self, t: float) -> float:
        """As kept, or by making the steps."""
        if t <= self._made:
            return self._errors[int(t)]
        return mean_square(self.residual(t))

    def first_below(self, until: float) -> float:
        """By making steps; infinity if nothing moves any more, or after a million of them."""
        begun, seen, spectrum = int(self.start.steps), 0, self.start.spectrum
        if not self.start.pushed[0].any():  # without weight decay nothing moves what the kernel does not see
            unseen = np.where(self._values > 0, 0.0, spectrum.rotate(self.start.residual))
            if mean_square(unseen) >= until:
                return math.inf
        while True:
            for t in range(seen + 1, self._made + 1):
                if self._errors[t] < until and (begun + t) % self._every == 0:
                    return float(t)
            seen = self._made
            before = self._errors[max(seen - LOOK_EVERY, 0)]
            if seen >= LONGEST or (seen > 4 * LOOK_EVERY and abs(self._errors[-1] - before) <= 1e-9 * before):
                return math.inf
            self._reach(seen + SEARCHED)


def _copy(state: State) -> State:
    C, phi = state
    return C.copy(), phi.copy()

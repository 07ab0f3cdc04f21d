"""Rules whose steps differ, by their number, their learning rate or their batch: step by step in function space.

A step is, with J frozen, C ← A C + B g, Φ ← A Φ, with g = ∂L/∂f on the rows of its batch and 0 elsewhere, and
r = r(0) − J S₀(0) + (Φ J S(0))₀ + K C₀. No network is looked at. A step costs N·C·|b| multiplications, and N·C for full
batches of a quadratic loss, whose steps are made mode by mode; (N·C)² for full batches of other losses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from whichmin.dynamics.motion.edge import driven_share
from whichmin.dynamics.motion.motion import FAR, Motion, Start
from whichmin.errors import DivergenceError
from whichmin.kernels.symmetric import symmetric_product
from whichmin.losses import Array

#: The states that are kept hold at most this many numbers; those between are made again.
MEMORY = 2**22
#: Of steps in batches, which cost little, the state is kept after every so many steps at most.
KEEP_EVERY_BATCH = 32
#: Rows of a batch are taken from the kernel where they stand, without a copy, in runs of so many on average.
BLOCK = 8
#: Whether training diverges or has come to rest is looked at after every so many steps.
CHECK_EVERY = 1024
#: The search for the first step below a training loss makes this many steps at a time.
SEARCHED = 64
#: After this many steps nothing is left of what the optimizer remembered at the start.
FORGOTTEN = 10**5
#: The search for the first step below a training loss gives up after this many steps.
LONGEST = 10**6
#: A training loss of more than this many times the first one counts as divergence.
DIVERGED = 1e6

#: The coefficients C, (1 + state vectors, N·C), and Φ, (1 + state vectors, 1 + state vectors).
State = tuple[Array, Array]
Batch = Callable[[int], NDArray[np.int64] | None]


class RecursionMotion(Motion):
    """See the module.

    Args:
        start: where it starts.
        step: gives A and B of step number k, counted from the start of training.
        batch: gives the flattened outputs that step number k uses, or None for all of them; None where all steps use
            all.
        eval_every: training losses are looked at after every so many steps, counted from the start of training.
        limit: gives the eigenvalue at the limit of stability of step number k; modes beyond it are driven as
            ``edge.driven_share`` says.
    """

    def __init__(
        self,
        start: Start,
        step: Callable[[int], tuple[Array, Array]],
        batch: Batch | None,
        *,
        eval_every: int = 1,
        limit: Callable[[int], float] = lambda k: math.inf,
        dies_out: Callable[[int], bool] = lambda k: False,
    ) -> None:
        super().__init__(start)
        self._rule, self._batch, self._eval_every, self._limit_of = step, batch, eval_every, limit
        self._dies_out = dies_out
        self._offset = int(min(start.steps, LONGEST))
        self._shares: tuple[float, Array | None] = (math.inf, None)
        self._beyond: tuple[float, tuple[Array, Array] | None] = (math.inf, None)
        is_quadratic = start.objective.loss.is_quadratic
        self._in_modes = batch is None and is_quadratic
        residual, self._pushed = start.residual, start.pushed
        if self._in_modes:
            residual, self._pushed = start.spectrum.rotate(residual), start.spectrum.rotate(start.pushed)
        else:
            K = start.spectrum.kernel if is_quadratic else start.spectrum.matrix
            self._K = np.ascontiguousarray(K) if isinstance(K, np.ndarray) else K
        self._base = residual - self._pushed[0]
        self._from_rest = not start.pushed.any()
        m = len(start.pushed)
        self._now: State = (np.zeros_like(start.pushed), np.eye(m))
        self._images: tuple[Array | None, Array] = (None, np.zeros(0))
        self._steps_made, self._stride = 0, KEEP_EVERY_BATCH if batch is not None and is_quadratic else 1
        self._kept: list[State] = [_copy(self._now)]
        self._most = max(64, MEMORY // start.pushed.size)
        self._losses = [start.objective.value(start.residual)]

    @property
    def _values(self) -> Array:
        return self.start.spectrum.eigenvalues.numpy()

    def _share(self, k: int) -> Array | None:
        """By what each mode's gradient is multiplied in step number k; None for nothing."""
        limit = self._limit_of(k)
        if limit != self._shares[0]:
            self._shares = (limit, driven_share(self._values, limit) if math.isfinite(limit) else None)
        return self._shares[1]

    def _driven(self, k: int) -> tuple[Array, Array] | None:
        """The modes beyond the limit of step number k, (N·C, modes), and by what their gradients are multiplied."""
        limit = self._limit_of(k)
        if limit != self._beyond[0]:
            values, Q = (None, None) if math.isinf(limit) else self.start.spectrum.above(limit)
            share = None if values is None else driven_share(values, limit)
            self._beyond = (limit, None if share is None or Q is None else (Q, share))
        return self._beyond[1]

    def _residual(self, state: State) -> Array:
        """In the modes where steps are made there."""
        C, phi = state
        r = self._values * C[0] if self._in_modes else self._K.dot(C[0])
        r += self._base
        if not self._from_rest:
            r += phi[0].dot(self._pushed)
        return r

    def _run(self, state: State, first: int, last: int, losses: list[float] | None) -> State:
        """Steps number first, …, last − 1 from here (counted from the start of the interval)."""
        if first == last:
            return state
        if self._in_modes:
            return self._run_in_modes(state, first, last, losses)
        make = self._run_whole if self._batch is None else self._run_in_batches
        return make(state, first, last, losses)

    def _run_whole(self, state: State, first: int, last: int, losses: list[float] | None) -> State:
        """Full batches of a loss that is not quadratic."""
        offset, objective, rule, K, base = self._offset, self.start.objective, self._rule, self._K, self._base
        C, phi = state
        _, g = objective.value_and_gradient(self._residual(state))
        stride, at_rest = self._stride, self._from_rest
        is_plain = at_rest and len(C) == 1  # gradient descent: A is one
        for k in range(first, last):
            A, B = rule(offset + k)
            if is_plain:
                C[0] += B[0] * g
            else:
                C = A.dot(C)
                C += np.multiply.outer(B, g)
                phi = A.dot(phi)
            r = symmetric_product(K, C[0])
            r += base
            if not at_rest:
                r += phi[0].dot(self._pushed)
            loss, g = objective.value_and_gradient(r)
            if losses is not None:
                losses.append(loss)
                if not (k + 1) % stride:
                    stride = self._keep((C, phi))
        return C, phi

    def _run_in_modes(self, state: State, first: int, last: int, losses: list[float] | None) -> State:
        offset, rule, at_rest = self._offset, self._rule, self._from_rest
        values, base, gamma, pushed = self._values, self._base, self.start.objective.gamma, self._pushed
        of_square = gamma / 2.0
        C, phi = state
        r, stride = self._residual(state), self._stride
        for k in range(first, last):
            A, B = rule(offset + k)
            share = self._share(offset + k)
            C = A.dot(C)
            C += np.multiply.outer(B, r * gamma if share is None else r * (gamma * share))
            phi = A.dot(phi)
            r = values * C[0]
            r += base
            if not at_rest:
                r += phi[0].dot(pushed)
            if losses is not None:
                losses.append(of_square * r.dot(r))
                if not (k + 1) % stride:
                    stride = self._keep((C, phi))
        return C, phi

    def _run_in_batches(self, state: State, first: int, last: int, losses: list[float] | None) -> State:
        """K C goes along with C: of a step in a batch it takes the batch's rows of K alone."""
        offset, objective, at_rest = self._offset, self.start.objective, self._from_rest
        C, phi = state
        images = self._images[1] if self._images[0] is C else np.stack([self._K.dot(c) for c in C])
        r, stride = self._residual_of(images, phi), self._stride
        for k in range(first, last):
            A, B = self._rule(offset + k)
            rows = None if self._batch is None else self._batch(offset + k)
            driven = self._driven(offset + k)
            g = objective.gradient(r, rows) if rows is None or len(rows) else np.zeros(0)
            if driven is not None:
                Q, share = driven
                g = g if rows is None else _spread(g, rows, len(r))
                g, rows = g - Q @ ((1.0 - share) * (g @ Q)), None
            image = self._image(g, rows)
            if at_rest and len(B) == 1 and A[0, 0] == 1.0:
                C[0, slice(None) if rows is None else rows] += B[0] * g
                image *= B[0]
                images[0] += image
                r += image
            else:
                C, images, phi = A.dot(C), A.dot(images), A.dot(phi)
                for own, of, b in zip(C, images, B.tolist(), strict=True):
                    if b:
                        own[slice(None) if rows is None else rows] += b * g
                        of += b * image
                r = self._residual_of(images, phi)
            if losses is not None:
                losses.append(objective.value(r))
                if not (k + 1) % stride:
                    stride = self._keep((C, phi))
        self._images = (C, images)
        return C, phi

    def _residual_of(self, images: Array, phi: Array) -> Array:
        """Where K C is known."""
        r = images[0] + self._base
        return r if self._from_rest else r + phi[0].dot(self._pushed)

    def _image(self, g: Array, rows: NDArray[np.int64] | None) -> Array:
        """K g, (N·C,), of a vector that is zero but in some rows; in runs of rows where these are long."""
        if rows is None:
            return self._K.dot(g)
        if 4 * len(rows) >= len(self._base):
            return self._K.dot(_spread(g, rows, len(self._base)))
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        if BLOCK * len(ends) > len(rows) or not isinstance(self._K, np.ndarray):
            return g.dot(self._K[rows])
        image, start = np.zeros(len(self._base)), 0
        for end in ends:
            first = rows[start]
            image += g[start:end].dot(self._K[first : first + end - start])
            start = end
        return image

    def _keep(self, state: State) -> int:
        """Keep the state; after how many steps the next is."""
        self._kept.append(_copy(state))
        if len(self._kept) > self._most:
            self._kept, self._stride = self._kept[::2], 2 * self._stride
        return self._stride

    def _reach(self, t: int) -> None:
        """Make steps until t."""
        while self._steps_made < t:
            upto = min(t, self._steps_made + CHECK_EVERY)
            with np.errstate(over="ignore", invalid="ignore"):
                self._now = self._run(self._now, self._steps_made, upto, self._losses)
            self._steps_made = upto
            now, excess = self._losses[-1], self.start.objective.excess
            most = DIVERGED * (abs(excess(self._losses[0])) + 1e-300)
            if not excess(now) <= most:
                gone = next(k for k, e in enumerate(self._losses) if not excess(e) <= most)
                label = self.start.objective.loss.label
                raise DivergenceError(
                    f"training diverges: after {self._offset + gone} steps the predicted training {label} is "
                    f"{self._losses[gone]:.3g}. Lower the learning rate, or take larger batches.",
                    math.nan,
                )

    def _state(self, t: float) -> State:
        ends = self.start.objective.is_bounded
        if t > LONGEST and ends and not self.start.pushed[0].any() and not self._dies_out(self._offset):
            return self._limit
        if math.isinf(t):
            t = LONGEST if ends or self.start.pushed[0].any() else FAR
        t = int(t)
        if t > self._steps_made:
            self._settle(t)
        if t >= self._steps_made:
            return self._now
        k = t // self._stride
        return self._run(_copy(self._kept[k]), k * self._stride, t, None)

    @cached_property
    def _limit(self) -> State:
        """In the end, without weight decay: what the kernel sees is trained away, whatever the steps are."""
        start = self.start
        phi, offset = np.eye(len(start.pushed)), self._offset
        for k in range(FORGOTTEN if len(phi) > 1 and not self._from_rest else 0):
            before, phi = phi, self._rule(offset + k)[0].dot(phi)
            if k > CHECK_EVERY and np.abs(phi - before).max() <= 1e-13 * np.abs(phi).max():
                break
        left = self._base + phi[0].dot(self._pushed)
        C = np.zeros_like(start.pushed)
        if self._in_modes:
            C[0] = -left / np.where(self._values > 0, self._values, np.inf)
        elif start.objective.loss.is_quadratic:
            C[0] = -start.spectrum.solve(left)
        else:
            C[0] = start.objective.limit(left, self._K)
        return C, phi

    def _settle(self, t: int) -> None:
        """Make steps until t, or until nothing moves any more."""
        while self._steps_made < t:
            before = self._losses[-1]
            self._reach(min(t, self._steps_made + CHECK_EVERY))
            after = self._losses[-1]
            excess = self.start.objective.excess
            is_fitted = excess(after) <= 1e-20 * (excess(self._losses[0]) + 1e-300)
            if t == LONGEST and (is_fitted or abs(before - after) <= 1e-12 * abs(after)):
                return

    def residual(self, t: float) -> Array:
        """By making the steps."""
        r = self._residual(self._state(t))
        return self.start.spectrum.rotate_back(r) if self._in_modes else r

    def coefficients(self, t: float) -> Array:
        """By making the steps; in the limit without weight decay by what is left to be trained away."""
        C = self._state(t)[0]
        return self.start.spectrum.rotate_back(C) if self._in_modes else C.copy()

    def weights(self, t: float) -> Array:
        """The product of the matrices A."""
        return self._state(t)[1]

    def loss(self, t: float) -> float:
        """As kept, or by making the steps."""
        return self._losses[int(t)] if t <= self._steps_made else super().loss(t)

    def first_below(self, until: float, most: float = math.inf) -> float:
        """By making steps; infinity if nothing moves any more, or after a million of them."""
        offset, checked, start = self._offset, 0, self.start
        # Without weight decay nothing moves what the kernel does not see.
        stays = start.objective.loss.is_quadratic and not start.pushed[0].any()
        if stays and start.objective.value(start.spectrum.outside(start.residual)) >= until:
            return math.inf
        while True:
            for t in range(checked + 1, self._steps_made + 1):
                if self._losses[t] < until and (offset + t) % self._eval_every == 0:
                    return float(t)
            checked = self._steps_made
            before = self._losses[max(checked - CHECK_EVERY, 0)]
            if checked >= min(most, LONGEST) or (
                checked > 4 * CHECK_EVERY and abs(self._losses[-1] - before) <= 1e-9 * abs(before)
            ):
                return math.inf
            self._reach(checked + SEARCHED)


def _copy(state: State) -> State:
    C, phi = state
    return C.copy(), phi.copy()


def _spread(part: Array, rows: NDArray[np.int64], size: int) -> Array:
    """A vector (size,) with these entries, zero elsewhere."""
    whole = np.zeros(size)
    whole[rows] = part
    return whole

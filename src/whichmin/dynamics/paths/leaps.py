"""Leaps of outputs along a path: gates that open or close within an interval, of which no derivative tells.

Along a line f moves by the mean of J₀Δθ and J₁Δθ, J at its start and at its end, but for its third order and for
rectifiers. A row that passes a gate (an expert of its own, a comparison, a rounding) does so at some step of an
interval, while the path takes its new branch only from the end on.
"""

from __future__ import annotations

import math

import numpy as np

from whichmin.losses import Array, root_mean_square

#: Outputs leap that move by so many times more than by the turn of the features, in the root mean square. A rectifier
#: that bends in an interval moves them by as much at most.
LEAP = 2.0
#: One of them leaps that moves by so many times more than any is moved by that turn.
LEAP_OF_ONE = 3.0
#: No leap is what is no more than so many roundings of the outputs, or this part of the residual, at the path's start.
ROUNDINGS, SMALLEST = 100.0, 1e-5
#: Without a leap, none is off what was expected by more than so many times the median.
OUTLYING = 6.0
#: Without a leap, outputs are off what was expected by less than this part of how they move, in the root mean square.
FAR_OFF = 0.2

#: What is said where outputs leapt.
LEAPT = (
    "after step {:.0f} outputs of some rows leapt as no derivative tells (a gate, a comparison in forward): real "
    "training may pass there at other steps, and the error is rough."
)


class Leaps:
    """Those of a path's training outputs.

    Args:
        outputs: where the path begins, (N·C,).
        residual: the same.
        eps: the rounding unit of the outputs' type.

    Attributes:
        size: how far they leapt in an interval of several steps at most, the root mean square.
        since: the step at which the first interval began in which some did; None where none did.
    """

    def __init__(self, outputs: Array, residual: Array, eps: float) -> None:
        self._least = max(ROUNDINGS * eps * root_mean_square(outputs), SMALLEST * root_mean_square(residual))
        self.size = 0.0
        self.since: float | None = None
        self._bends: Array | float = 0.0

    @property
    def bent(self) -> float:
        """How far rectifiers bent the outputs within intervals beyond half of how the features turned.

        The root mean square, over the outputs, of what the intervals add up to at random.
        """
        return math.sqrt(float(np.mean(self._bends)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of them."""
        return () if self.since is None else (LEAPT.format(self.since),)

    def may_be(self, before: Array, expected: Array, after: Array) -> bool:
        """Whether there may be leaps in an interval, without J at its end."""
        off = np.abs(after - expected)
        far = root_mean_square(off) > FAR_OFF * root_mean_square(expected - before)
        return far or bool(off.max() > OUTLYING * np.median(off))

    def look(
        self, step: float, before: Array, expected: Array, after: Array, moved: Array, *, is_training: bool
    ) -> None:
        """Look at an interval.

        Args:
            step: at which it began.
            before: the residual there, (N·C,).
            expected: what it moved to with J₀.
            after: the residual of the network at its end.
            moved: J₁Δθ.
            is_training: whether it is a single step, which training makes, too: a row that passes a gate there does so
                in training, unless what the path is off by lets it pass at another step.
        """
        turned = 0.5 * (moved - (expected - before))
        apart = after - expected - turned
        leaps = np.abs(apart) > max(LEAP_OF_ONE * np.abs(turned).max(), self._least)
        if root_mean_square(apart) > max(LEAP * root_mean_square(turned), self._least):
            leaps[:] = True
        if leaps.any():
            self.since = step if self.since is None else self.since
        if is_training:
            return
        self.size = max(self.size, root_mean_square(apart * leaps))
        self._bends = self._bends + np.where(leaps, 0.0, apart) ** 2

"""What takes how long, as it was timed, or as it counts where a prediction must not hang on the clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

#: Seconds of a step and of a linearization that are not timed: about those of 100 points and a hidden layer of 2048.
STEP, LINEARIZATION = 2e-3, 2e-2

_is_timed: ContextVar[bool] = ContextVar("is_timed", default=True)


@contextmanager
def untimed() -> Iterator[None]:
    """Choose the way of a prediction without looking at a clock, so that it is the same on a busy machine.

    A training step then counts as ``STEP`` seconds, and a linearization as ``LINEARIZATION``.
    """
    token = _is_timed.set(False)
    try:
        yield
    finally:
        _is_timed.reset(token)


def is_timed() -> bool:
    """Whether the clock is looked at: not within :func:`untimed`."""
    return _is_timed.get()


def seconds_of_linearization(timed: float) -> float:
    """What a linearization took, or within :func:`untimed` what it counts as."""
    return timed if is_timed() else LINEARIZATION

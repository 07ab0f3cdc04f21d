"""The first time at which something monotone happens."""

from __future__ import annotations

from collections.abc import Callable

#: Beyond this many steps a mode does not move in double precision.
FOREVER = 2.0**60


def bisected(happened: Callable[[float], bool], lo: float, hi: float) -> float:
    """When something happens between lo, where it has not, and hi, where it has; to 1e-9 of itself."""
    while hi - lo > 1e-9 * hi:
        mid = (lo + hi) / 2
        lo, hi = (lo, mid) if happened(mid) else (mid, hi)
    return hi


def first_time(happened: Callable[[float], bool], flow: bool) -> float:
    """The smallest t > 0 with ``happened(t)``: a whole number of steps, or for a flow to 1e-9 of itself.

    ``happened`` is false, then true; infinity where it stays false.
    """
    if not flow and happened(1.0):
        return 1.0
    hi = 1e-3 if flow else 2.0
    while flow and happened(hi) and hi > 1e-12:
        hi /= 1024
    while not happened(hi):
        hi *= 2
        if hi > FOREVER:
            return float("inf")
    lo = hi / 2
    while hi - lo > (1e-9 * hi if flow else 1):
        mid = (lo + hi) / 2 if flow else float((int(lo) + int(hi)) // 2)
        if happened(mid):
            hi = mid
        else:
            lo = mid
    return hi

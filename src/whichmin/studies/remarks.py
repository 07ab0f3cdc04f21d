"""Remarks of many runs, told once where they are alike."""

from __future__ import annotations

import re
from collections.abc import Iterable


def told_once(remarks: Iterable[tuple[str, str]], kind: str) -> list[str]:
    """Notes: of remarks that differ by their numbers alone the first, and of how many more the like is known.

    Args:
        remarks: whose each is, such as "seed 3", and what it says; the same one twice counts once.
        kind: what the others are, such as "seed".
    """
    alike: dict[str, list[str]] = {}
    for whose, remark in dict.fromkeys(remarks):
        alike.setdefault(without_numbers(remark), []).append(f"{whose}: {remark}")
    return [first + _others(len(more), kind) for first, *more in alike.values()]


def _others(count: int, kind: str) -> str:
    return f" Likewise {count} more {kind}{'s' if count > 1 else ''}." if count else ""


def without_numbers(remark: str) -> str:
    """A remark with ``#`` for each of its numbers: equal for remarks that differ by these alone."""
    return re.sub(r"[-+]?\d[\d.,e+-]*", "#", remark)

"""Remarks of many runs, told once where they are alike."""

from __future__ import annotations

import re


def without_numbers(remark: str) -> str:
    """A remark with ``#`` for each of its numbers: equal for remarks that differ by these alone."""
    return re.sub(r"[-+]?\d[\d.,e+-]*", "#", remark)

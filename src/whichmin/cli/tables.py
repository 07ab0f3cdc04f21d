"""Rows of text as lines, and numbers as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row: the first column to the left, all others to the right.

    Args:
        rows: of one length; a row of a single text is a title above the rows that follow.
    """
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(row[i]) for row in full) for i in range(len(full[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())
    return lines


def finite(value: Any) -> Any:
    """The value; None for a number that JSON cannot say."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Rows of text as lines, numbers as JSON has them, and the files that commands write."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from whichmin._version import __version__

if TYPE_CHECKING:
    import pandas as pd


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
    """The value, with None for numbers that JSON cannot say, also inside of mappings and lists."""
    if isinstance(value, Mapping):
        return {key: finite(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inside) for inside in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json(said: Mapping[str, Any], written: Mapping[str, Path] = MappingProxyType({})) -> None:
    """One JSON object on standard output.

    Args:
        said: what it says.
        written: the files that were written, by what they are.
    """
    versioned = {"whichmin": __version__} | dict(said) | {name: str(path) for name, path in written.items()}
    print(json.dumps(finite(versioned), allow_nan=False))


def written_to(
    out: Path, name: str, write_report: Callable[[Path], object], frame: pd.DataFrame, suffix: str = ""
) -> dict[str, Path]:
    """Write a report and, beside it, its numbers: ``explain.html`` and ``explain.csv``.

    Args:
        out: the folder.
        name: of the command, whose files do not replace those of others.
        write_report: writes the report to a path.
        frame: the numbers; its index is left out.
        suffix: of both names, where a command writes several.

    Returns:
        The files, by what they are.

    Raises:
        OutputError: they cannot be written.
    """
    from whichmin.storage import write_text

    written = {"report": (out / f"{name}{suffix}.html").resolve(), "csv": (out / f"{name}{suffix}.csv").resolve()}
    write_report(written["report"])
    write_text(written["csv"], frame.to_csv(index=False, lineterminator="\n"))
    return written

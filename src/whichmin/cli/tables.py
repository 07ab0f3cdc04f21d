"""Rows of text as lines, numbers as JSON has them, and the files that commands write."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from whichmin._version import __version__

if TYPE_CHECKING:
    import pandas as pd

#: Characters that a line of a note may have.
NOTE_WIDTH = 100


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


def print_notes(notes: Iterable[str]) -> None:
    """What a reader should know, a paragraph each."""
    for note in notes:
        print(textwrap.fill(f"note: {note}", NOTE_WIDTH, subsequent_indent="      "))


def print_json(said: Mapping[str, Any], written: Mapping[str, Path] = MappingProxyType({})) -> None:
    """One JSON object on standard output.

    Args:
        said: what it says.
        written: the files that were written, by what they are.
    """
    versioned = {"whichmin": __version__} | dict(said) | {name: str(path) for name, path in written.items()}
    print(json.dumps(finite(versioned), allow_nan=False))


def written_to(out: Path, name: str, page: str, frame: pd.DataFrame) -> dict[str, Path]:
    """Write a report and, beside it, its numbers: ``explain.html`` and ``explain.csv``.

    Args:
        out: the folder.
        name: of the files, that of the command; the files of others are not replaced.
        page: the report.
        frame: the numbers; its index is left out.

    Returns:
        The files, by what they are.

    Raises:
        OutputError: they cannot be written.
    """
    from whichmin.storage import write_text

    written = {"report": (out / f"{name}.html").resolve(), "csv": (out / f"{name}.csv").resolve()}
    write_text(written["report"], page)
    write_text(written["csv"], frame.to_csv(index=False, lineterminator="\n"))
    return written

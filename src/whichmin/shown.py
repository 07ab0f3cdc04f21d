"""What users see of an object first: at most five lines of text, and a panel in a notebook."""

from __future__ import annotations

import dataclasses
import importlib
import math
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from whichmin.late import is_late

#: The most lines of a ``repr``, and the characters of one.
LINES, WIDTH = 5, 110
INDENT = "  "
#: The most items that are listed of a container, and characters of a single value.
ITEMS, CHARACTERS = 4, 60
#: The module that makes panels for notebooks. It is imported by its name when a panel is first asked for, because it
#: imports what it shows.
NOTEBOOK = "whichmin.report.notebook"


class Shown:
    """The base of what users hold: it has a short ``repr`` and a panel of its own in notebooks.

    Shown are a name, what came out in sentences, facts, and notes. Facts are the public fields of a dataclass, tensors
    by their shapes; another class says its own.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in vars(cls):  # else ``dataclass`` would write one of all numbers into the class
            cls.__repr__ = cls.__repr__

    def __repr__(self) -> str:
        return as_text(type(self).__name__, self._finding(), self._facts(), self._remarks())

    def _repr_html_(self) -> str:
        """The panel that a notebook shows."""
        return importlib.import_module(NOTEBOOK).panel_of(self)

    def _finding(self) -> Sequence[str]:
        """What came out, in sentences; none where nothing is known without work."""
        return ()

    def _facts(self) -> Mapping[str, Any]:
        """What else is shown, by name; not what is still to be made."""
        assert dataclasses.is_dataclass(self)
        named = [field.name for field in dataclasses.fields(self) if field.repr and not field.name.startswith("_")]
        return {name: getattr(self, name) for name in named if name != "notes" and not is_late(self, name)}

    def _remarks(self) -> Sequence[str]:
        """What a reader should know: the notes of what has any."""
        return getattr(self, "notes", ())


def as_text(name: str, finding: Sequence[str], facts: Mapping[str, Any], notes: Sequence[str]) -> str:
    """The ``repr`` of an object, at most ``LINES`` lines.

    Args:
        name: of its class.
        finding: what came out, in sentences.
        facts: values by name.
        notes: remarks; the first is shown, and how many there are.
    """
    listed = ", ".join(f"{key}={brief(value)}" for key, value in facts.items())
    if not finding and not notes:
        return _wrapped(f"{name}({listed})", LINES)
    parts = [_wrapped(f"<{name}: {' '.join(finding)}", 2) if finding else f"<{name}"]
    parts += [_wrapped(listed, 2, first=INDENT)] if listed else []
    if notes:
        more = f" (1 of {len(notes)})" if len(notes) > 1 else ""
        parts.append(_wrapped(f"note{more}: {notes[0]}", 1, first=INDENT))
    return "\n".join(parts) + ">"


def brief(value: Any) -> str:
    """A value in a few characters: numbers to four digits, arrays by their shape, containers by what they hold."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return brief(value.item()) if not value.shape else f"{type(value).__name__}{tuple(value.shape)}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return f"{{{_listed([key if isinstance(key, str) else brief(key) for key in value])}}}"
    if isinstance(value, list | tuple):
        return f"({_listed([brief(item) for item in value])})"
    if isinstance(value, partial):
        said = [brief(value.func), *map(brief, value.args), *(f"{k}={brief(v)}" for k, v in value.keywords.items())]
        return f"partial({', '.join(said)})"
    if isinstance(value, type) or (callable(value) and hasattr(value, "__name__")):
        return value.__name__
    if dataclasses.is_dataclass(value) and value.__dataclass_params__.repr:  # type: ignore[attr-defined]
        return f"{type(value).__name__}(…)"
    return textwrap.shorten(repr(value), CHARACTERS, placeholder="…")


def _listed(items: Sequence[str]) -> str:
    more = [f"… {len(items)} in all"] if len(items) > ITEMS else []
    return ", ".join([*items[:ITEMS], *more])


def _wrapped(text: str, lines: int, first: str = "") -> str:
    """The text on at most so many lines, indented by ``INDENT``, the first one by ``first``."""
    return "\n".join(
        textwrap.wrap(text, WIDTH, max_lines=lines, placeholder=" …", initial_indent=first, subsequent_indent=INDENT)
    )

"""Standard output and error as they are: of any encoding, and closed early by who reads them."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

#: What stands for characters that an encoding does not have; for superscripts see :func:`spelled`.
SPELLED = {
    "−": "-",
    "–": "-",
    "—": "-",
    "±": "+/-",
    "×": "x",
    "·": "-",
    "∞": "inf",
    "…": "...",
    "’": "'",
    "“": '"',
    "”": '"',
    "≥": ">=",
    "≤": "<=",
    "→": "->",
}
_SUPERSCRIPTS = dict(zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True))
_HANDLER = "whichmin.spelled"


def prepare() -> None:
    """Write what the encoding of standard output and error does not have in characters that it has."""
    codecs.register_error(_HANDLER, _handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def spelled(text: str) -> str:
    """The text in ASCII: ``10⁻⁵`` as ``10^-5``, Greek letters by name, ``?`` for what has no likeness."""
    parts, raised = [], False
    for character in text:
        if character in _SUPERSCRIPTS:
            parts.append(("" if raised else "^") + _SUPERSCRIPTS[character])
        else:
            parts.append(SPELLED.get(character) or _likeness(character))
        raised = character in _SUPERSCRIPTS
    return "".join(parts)


def _likeness(character: str) -> str:
    """Letters without accents, Greek ones by their names; nothing for accents that stand alone."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    if plain or unicodedata.combining(character):
        return plain
    kind, _, name = unicodedata.name(character, "").partition(" LETTER ")
    if not kind.startswith("GREEK") or not name:
        return "?"
    return name.capitalize() if kind == "GREEK CAPITAL" else name.lower()


def _handle(error: UnicodeError) -> tuple[str, int]:
    """For ``codecs.register_error``; superscripts go on where the one before them was spelled, too."""
    assert isinstance(error, UnicodeEncodeError)
    goes_on = error.start > 0 and error.object[error.start - 1] in _SUPERSCRIPTS
    text = spelled(error.object[error.start : error.end])
    return text.removeprefix("^") if goes_on else text, error.end


@contextmanager
def log_on_stderr(level: int) -> Iterator[None]:
    """Show the library's log from a level on, such as ``logging.WARNING``, on standard error."""
    logger, handler = logging.getLogger("whichmin"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def abandon() -> None:
    """Let the interpreter end without a complaint where nobody reads standard output any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

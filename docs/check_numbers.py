"""Fails where a README, a page of docs/ or a docstring states a number that is neither generated nor executed.

    python docs/check_numbers.py            list what is wrong, with file and line; exit code 1 if anything is
    python docs/check_numbers.py --write    write the generated numbers anew first

A number in prose, a table or an alternative text has to come from ``docs/figures.py``, between ``<!-- =NAME -->``
and ``<!-- / -->``, or from a code cell that is run when the page is built. Numbers are numerals, and number words that
count something measured ("eighty steps"). These may be written by hand:

- code: blocks, indented blocks and `spans`, so also settings that the text quotes from a cell; but a span that is only
  a number with a decimal point or a unit is prose;
- whole numbers of one digit without a unit, as they stand in formulas and labels: γ = 2/(N·C), classes 3 and 8;
- versions of Python, numbers of arXiv, of theorems and sections of papers, where the word stands before them;
- numbers that belong to a name: CIFAR-10, float64.

A docstring may have numbers, as formulas, settings and limits need them, but no measured ones: times below a second,
times of something ("3 s per kernel"), and factors of speed ("twenty times faster"). They belong into
``docs/measured.md``.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import figures
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = figures.ROOT
#: A generated number or table: its name, and what stands there.
GENERATED = re.compile(r"<!-- =(?P<name>\w+) -->(?P<text>.*?)<!-- / -->", re.DOTALL)
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
ALTERNATIVE = re.compile(r'\balt="([^"]*)"')
#: Directives whose content is prose; that of all others is code, paths or reStructuredText.
PROSE = re.compile(r"^:{0,3}\{(?:note|tip|warning|important|admonition|image|figure)\}")
#: What makes a number a measurement, also one of a single digit or a word.
UNIT = (
    r"(?:[%‰]|×(?! ?\d)|percent\b|times\b|fold\b|[nµm]?s\b|[KMGT]i?B\b|seconds?\b|minutes?\b|hours?\b|steps?\b"
    r"|linearizations\b|kernels\b|predictions\b|trainings\b|passes\b)"
)
NUMERAL = rf"\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[-+−]?\d+)?(?:\s*{UNIT})?"
WORD = (
    r"(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fifteen|twenty|thirty|forty|fifty|sixty|seventy"
    r"|eighty|ninety|dozens?|hundreds?|thousands?|hundredths?|thousandths?|millions?)"
)
FIGURE = re.compile(
    rf"(?P<allowed>Python \d\.\d+|arXiv \d+\.\d+|(?:Thm|Fig|Eq|Sec)\. ?\d+(?:\.\d+)?|§ ?\d+|[^\W\d]\w*(?:-\d+)*)"
    rf"|(?P<number>{NUMERAL})",
    re.IGNORECASE,
)
KIND = r"(?: (?:training|real|forward|timed|mini-batch))?"
COUNTED = re.compile(rf"\b{WORD}(?: or so)?(?: of)?{KIND} {UNIT}", re.IGNORECASE)

#: A measured time or speed, as it stands in a docstring.
MEASURED = re.compile(
    rf"(?:\d[\d,.]*(?:e[-+]?\d+)?\s?|\b{WORD} (?:or so )?)(?:[nµm]s\b|(?:nano|micro|milli)seconds?\b"
    r"|(?:%|×|times|percent) (?:as (?:fast|slow|long)|faster|slower|of (?:the time|training))\b"
    r"|(?:s|seconds?|minutes?|hours?) (?:of|on|per|for|each|instead)\b)",
    re.IGNORECASE,
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Finding(NamedTuple):
    """Something wrong at a line of a page."""

    page: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.what}"


def pages() -> list[Path]:
    """The READMEs and the pages of docs/, without what the gallery makes."""
    made = {"gallery", "jupyter_execute"}
    found = (page for page in sorted((ROOT / "docs").rglob("*.md")) if not made & set(page.parts))
    return [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *found]


def written(text: str) -> str:
    """The text with every generated number as ``figures.py`` has it.

    Raises:
        KeyError: a name that is not there.
    """

    def fill(match: re.Match[str]) -> str:
        return f"<!-- ={match['name']} -->{value(match['name'])}<!-- / -->"

    return GENERATED.sub(fill, text)


def value(name: str) -> str:
    """What the function of that name in ``figures.py`` returns."""
    found = vars(figures).get(name)
    if getattr(found, "__module__", None) != figures.__name__ or not callable(found):
        raise KeyError(f"docs/figures.py has no {name!r}")
    return found()


def stale(page: str, text: str) -> Iterator[Finding]:
    """Generated numbers that differ from what is stored, have no function, or would not be shown."""
    for match in GENERATED.finditer(text):
        before = text[: match.start()]
        line = before.count("\n") + 1
        if "\n" not in match["text"] and not before.rpartition("\n")[2].strip():
            yield Finding(page, line, f"{match['name']} begins a line, which makes HTML of it: move the line's end")
        try:
            expected = value(match["name"])
        except KeyError as error:
            yield Finding(page, line, error.args[0])
            continue
        if match["text"] != expected:
            yield Finding(page, line, f"{match['name']} is {match['text']!r}, stored is {expected!r}: run --write")


def by_hand(page: str, text: str) -> Iterator[Finding]:
    """Numbers that are written by hand."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match.group().count("\n")

    for line, prose in _prose(FRONT_MATTER.sub(blank, GENERATED.sub(blank, text))):
        for number in _numbers(prose):
            yield Finding(page, line, f"{number!r} is written by hand: …{prose.strip()[:70]}")


def _numbers(prose: str) -> Iterator[str]:
    for match in FIGURE.finditer(prose):
        number = match["number"]
        if number and not re.fullmatch(r"\d", number):
            yield number
    yield from (match.group() for match in COUNTED.finditer(prose))


def _prose(text: str, first: int = 1) -> Iterator[tuple[int, str]]:
    """Line numbers and what stands there outside of code."""
    row = 0
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        row = token.map[0] if token.map else row
        if token.type == "inline":
            yield from _lines(token, first + row)
        elif token.type == "html_block":
            yield from ((first + row, alternative) for alternative in ALTERNATIVE.findall(token.content))
        elif token.type == "fence" and PROSE.match(token.info.strip()):
            yield from _prose(token.content, first + row + 1)


def _lines(inline: Token, line: int) -> Iterator[tuple[int, str]]:
    parts: list[str] = []
    for child in inline.children or ():
        if child.type in ("softbreak", "hardbreak"):
            yield line, "".join(parts)
            line, parts = line + 1, []
        elif child.type in ("text", "image"):
            parts.append(child.content)
        elif child.type == "code_inline":
            number = re.fullmatch(NUMERAL, child.content) and not child.content.isdigit()
            parts.append(f" {child.content} " if number else "`")  # a mark parts the words beside the code
    yield line, "".join(parts)


def in_docstrings(page: str, source: str) -> Iterator[Finding]:
    """Measured times and speeds in the docstrings of a module."""
    for node in ast.walk(ast.parse(source)):
        text = ast.get_docstring(node, clean=False) if isinstance(node, DOCUMENTED) else None
        for match in MEASURED.finditer(" ".join((text or "").split())):
            yield Finding(page, node.body[0].lineno, f"{match.group()!r} in a docstring is a measurement")


def findings() -> list[Finding]:
    """All that is wrong."""
    found: list[Finding] = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        found += in_docstrings(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    for path in pages():
        page, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        found += [*stale(page, text), *by_hand(page, text)]
    return found


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the generated numbers anew first")
    if parser.parse_args().write:
        for path in pages():
            path.write_text(written(path.read_text(encoding="utf-8")), encoding="utf-8")
    found = findings()
    for one in found:
        print(one, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

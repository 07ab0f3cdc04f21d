"""The documentation names functions and tests that are there."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

import whichmin

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def texts():
    return {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}


def test_there_is_a_page_for_each_need():
    names = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}
    assert {"start.md", "which_call.md", "theory.md", "inside.md", "measured.md", "coverage.md", "tools.md"} <= names


@pytest.mark.parametrize(("page", "text"), texts().items(), ids=str)
def test_a_page_names_what_is_there(page, text):
    for path in re.findall(r"`((?:tests|benchmarks|docs)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), f"{page} names {path}"
    for path in re.findall(r"`((?:dynamics|tangent|kernels|recipe|optimizers|losses)/[\w/]+\.py)`", text):
        assert (ROOT / "src" / "whichmin" / path).exists(), f"{page} names {path}"
    for target in re.findall(r"\{(?:func|class|mod)\}`(?:[^`<]*<)?(whichmin[\w.]*)>?`", text):
        functools.reduce(getattr, target.split(".")[1:], whichmin)


def test_every_formula_of_the_theory_stands_beside_a_function_and_a_test():
    sections = re.split(r"^## ", texts()["docs/theory.md"], flags=re.MULTILINE)[1:]
    without = {"One identity", "References"}
    for section in sections:
        title = section.splitlines()[0]
        assert title in without or ("| function | test |" in section and "tests/" in section), title


def test_every_public_name_is_in_the_api():
    api = "\n".join(text for page, text in texts().items() if page.startswith("docs/api/"))
    for name in set(whichmin.__all__) - {"__version__"}:
        assert re.search(rf"(?:autofunction|autoclass|automodule):: (?:whichmin\.)?{name}$", api, re.MULTILINE), name

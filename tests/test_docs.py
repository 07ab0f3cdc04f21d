"""The documentation names functions and tests that are there."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import re
from pathlib import Path

import figures
import pytest

import whichmin
from whichmin.papers import registry

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def texts():
    return {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}


def test_there_is_a_page_for_each_need():
    names = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES}
    needed = {"start", "which_call", "theory", "inside", "measured", "reproduction", "coverage", "tools"}
    assert {f"{name}.md" for name in needed} <= names


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


VERBS = ("predict", "train", "explain", "compare", "seeds", "mitigate", "leave_out", "sweep", "Recorder")


def test_every_verb_is_executed_in_a_tutorial():
    cells = "\n".join(re.findall(r"```\{code-cell\}\n(.*?)```", texts()["docs/tutorials/every_verb.md"], re.DOTALL))
    functions = {name for name in whichmin.__all__ if inspect.isfunction(getattr(whichmin, name))}
    for name in functions | set(VERBS) | {"Tangent"}:
        assert f"wm.{name}(" in cells, name


@pytest.fixture
def reproduction(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("reproduction")


@pytest.mark.parametrize(
    ("run", "there"),
    [
        ("reproduction", list(registry.figures())),
        ("reproduction-full", ["which-minimizer/fig2", "which-minimizer/fig3"]),
    ],
)
def test_the_stored_reproduction_is_of_the_figures_and_claims_that_there_are(reproduction, run, there):
    stored = figures.stored(run)
    assert stored["environment"]["versions"]["whichmin"]
    assert list(stored["results"]) == there
    assert reproduction.packed(reproduction.unpacked(stored["results"])) == stored["results"]


def test_what_is_stored_of_a_reproduction_draws_it(reproduction):
    stored = figures.stored("reproduction")["results"]
    chosen = {"which-minimizer/fig2": 3, "dynamical-view/nesterov": 4, "linear-networks/trajectories": 1}
    for one in reproduction.unpacked({path: stored[path] for path in chosen}):
        assert sum(ax.has_data() for ax in one.plot().axes) == chosen[one.figure.path], one.figure.path


def test_a_stored_claim_that_has_changed_is_told(reproduction):
    path = "linear-networks/width"
    of = copy.deepcopy(figures.stored("reproduction")["results"][path])
    of["verdicts"]["measured"][0]["expected"] = "at most 7"
    with pytest.raises(ValueError, match=r"width has no claim .* run benchmarks/reproduction\.py again"):
        reproduction.unpacked({path: of})


def test_an_example_that_the_gallery_does_not_run_says_why(monkeypatch):
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.setenv("PYTHONPATH", "")
    conf = importlib.import_module("conf")
    examples = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py")}
    assert set(examples) >= conf.SHOWN | set(conf.NEEDED)
    run = {name for name in examples if re.search(conf.sphinx_gallery_conf["filename_pattern"], f"examples/{name}.py")}
    assert len(run) >= 6
    for name in set(examples) - run | set(conf.NEEDED):
        assert "documentation" in re.sub(r"\s+", " ", examples[name].split('"""')[1]), name

"""The public names, and what importing them costs."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import types

import pytest

import whichmin as wm

FUNCTIONS = (
    "predict",
    "train",
    "explain",
    "compare",
    "seeds",
    "leave_out",
    "sweep",
    "spectrum",
    "tangent_kernel",
    "kernel_operator",
)
#: Answers of interpreters in which nothing of whichmin was imported before, by question.
QUESTIONS = {
    "names": "import whichmin as wm; [getattr(wm, n) for n in wm.__all__]; print(*dir(wm))",
    "all modules": f"""
import importlib, inspect, pkgutil, whichmin
for module in pkgutil.walk_packages(whichmin.__path__, "whichmin."):
    if "cli" not in module.name:
        importlib.import_module(module.name)
import whichmin.decomposition.explanation
for name in {FUNCTIONS}:
    print(inspect.isfunction(getattr(whichmin, name)))
""",
    "module first": """
import whichmin, whichmin.decomposition.explanation, inspect
print(inspect.isfunction(whichmin.explain))
""",
    "module named like its verb": """
import whichmin, whichmin.decomposition.explain as module, inspect
print(inspect.ismodule(module), whichmin.explain is module.explain)
""",
    "explaining": """
import sys, torch, whichmin as wm
from functools import partial
before = set(sys.modules)
task = wm.Task(torch.randn(4, 3), torch.randn(4), torch.randn(2, 3))
wm.explain(wm.networks.MLP([3, 8, 1]), task, partial(torch.optim.SGD, lr="best"), steps=3)
print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))
""",
}

#: Reads torch once; each question is then put to a process of its own.
ASK = """
import json, os, sys, traceback
import torch
answers = {}
for name, code in json.loads(sys.argv[1]).items():
    assert not [module for module in sys.modules if module.startswith("whichmin")]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        try:
            exec(code, {})
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answers[name] = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, name
print(json.dumps(answers))
"""


def interpreter(*arguments: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def answers() -> dict[str, list[str]]:
    """The words that each of the questions printed."""
    return {name: said.split() for name, said in json.loads(interpreter("-c", ASK, json.dumps(QUESTIONS))).items()}


def test_every_public_name_is_there(answers):
    assert answers["names"] == sorted(wm.__all__)
    assert len(set(wm.__all__)) == len(wm.__all__)


def test_what_the_public_names_are():
    kinds = {name: getattr(wm, name) for name in wm.__all__}
    for name in FUNCTIONS:
        assert inspect.isfunction(kinds[name]), name
    for name in (
        "Certificate",
        "Comparison",
        "Explanation",
        "LeftOut",
        "Prediction",
        "Recorder",
        "Run",
        "Spectrum",
        "Sweep",
        "Tangent",
        "Task",
    ):
        assert inspect.isclass(kinds[name]), name
    for name in ("data", "errors", "infinite", "linear", "minimizers", "networks", "optimizers"):
        assert isinstance(kinds[name], types.ModuleType), name
    assert all(inspect.getdoc(kinds[n]) for n in wm.__all__ if n != "__version__")


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'whichmin' has no attribute 'fit'"):
        _ = wm.fit


def test_modules_do_not_shadow_the_verbs(answers):
    assert answers["all modules"] == ["True"] * len(FUNCTIONS)


def test_importing_a_verbs_module_first_does_not_shadow_it(answers):
    assert answers["module first"] == ["True"]


def test_modules_named_like_their_verb_are_reached(answers):
    assert answers["module named like its verb"] == ["True", "True"]


HEAVY = ("matplotlib", "pandas", "sklearn", "scipy", "jinja2", "cyclopts")


def test_importing_is_light():
    code = "import sys, whichmin; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = interpreter("-c", code).split()
    assert not set(HEAVY) & set(loaded)
    assert "torch" not in loaded, "names are imported when they are first used"


def test_predicting_and_explaining_load_no_plots_or_tables(answers):
    assert answers["explaining"]
    assert not set(HEAVY) & set(answers["explaining"])


def test_the_log_is_the_callers_to_show():
    code = "import logging, whichmin; logging.getLogger('whichmin.tangent.fallback').warning('row by row')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    done = subprocess.run(
        [sys.executable, "-c", f"import logging; logging.basicConfig(); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "WARNING:whichmin.tangent.fallback:row by row\n"


def test_the_version():
    parts = wm.__version__.split(".")
    assert len(parts) >= 3
    assert all(p.isdigit() for p in parts[:2])

"""Code as plain values: the same for code that is the same, another where anything was edited."""

from __future__ import annotations

import functools
import importlib
import linecache
import os
import subprocess
import sys
import types

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.recipe.code import code_of, code_of_network

MODULE = """
import math
import torch
from torch import nn

SLOPE = 2.0

def helper(x):
    return SLOPE * torch.relu(x)

class Base(nn.Module):
    def forward(self, x):
        return helper(x)

class Network(Base):
    KINDS = frozenset({"a", "b", "c"})

    def forward(self, x, scale=1.0):
        inner = lambda value: scale * value
        return inner(super().forward(x))

    @staticmethod
    def unused(x):
        return x in {"relu", "tanh", "gelu"}

    @property
    def wide(self):
        return True
"""


def written(text, name="written"):
    module = types.ModuleType(name)
    exec(compile(text, f"<{name}>", "exec"), module.__dict__)
    return module


def test_the_same_text_is_the_same_code():
    assert code_of(written(MODULE).Network) == code_of(written("\n\n" + MODULE, "elsewhere").Network)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("inner(super().forward(x))", "inner(super().forward(x)) + 0.0"),
        ("scale=1.0", "scale=2.0"),
        ("scale * value", "value * scale"),
        ("SLOPE = 2.0", "SLOPE = 3.0"),
        ("torch.relu(x)", "torch.tanh(x)"),
        ("return helper(x)", "return helper(helper(x))"),
        ("class Network(Base)", "class Network(nn.Module)"),
        ("return True", "return False"),
        ('"gelu"', '"silu"'),
    ],
)
def test_an_edit_anywhere_is_another_code(old, new):
    assert old in MODULE
    assert code_of(written(MODULE).Network) != code_of(written(MODULE.replace(old, new)).Network)


def test_an_edit_elsewhere_is_not():
    other = MODULE.replace("import math", "import math  # a comment") + "\nUNRELATED = 3\n"
    assert code_of(written(MODULE).Network) == code_of(written(other).Network)


def test_it_does_not_depend_on_the_process():
    code = "import sys; sys.path.insert(0, 'tests'); from recipe.test_code import MODULE, code_of, written\n"
    code += "print(code_of(written(MODULE).Network))"
    seeds = ("1", "2")
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": s},
        ).stdout.strip()
        for s in seeds
    ]
    assert said == [code_of(written(MODULE).Network)] * 2


def test_released_code_is_its_version():
    version = torch.__version__
    assert code_of(nn.Linear) == f"torch.nn.modules.linear.Linear {version}"
    assert code_of(wm.networks.MLP).endswith(wm.__version__)
    assert set(code_of_network(nn.Sequential(nn.Linear(2, 2), nn.ReLU())).values()) == {
        f"torch.nn.modules.container.Sequential {version}",
        f"torch.nn.modules.linear.Linear {version}",
        f"torch.nn.modules.activation.ReLU {version}",
    }


def test_what_functions_capture_and_partials_fix_counts():
    def scaled(factor):
        return lambda x: factor * x

    assert code_of(scaled(2.0)) == code_of(scaled(2.0)) != code_of(scaled(3.0))
    first, second = (functools.partial(scaled, factor) for factor in (1.0, 2.0))
    assert code_of(first) != code_of(second)


def test_functions_that_modules_hold_and_hooks_count():
    def network():
        return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))

    plain, patched, hooked = network(), network(), network()
    patched[0].forward = lambda x: 2 * x
    hooked[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    codes = [tuple(code_of_network(model).items()) for model in (plain, network(), patched, hooked)]
    assert codes[0] == codes[1]
    assert len(set(codes)) == 3


def test_functions_that_name_each_other_end():
    text = "def even(n):\n    return n == 0 or odd(n - 1)\n\ndef odd(n):\n    return n != 0 and even(n - 1)\n"
    assert code_of(written(text).even) == code_of(written(text).even)


def test_helpers_of_a_module_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_helpers.py").write_text("def act(x):\n    return x\n")
    text = "import own_helpers\n\ndef forward(x):\n    return own_helpers.act(x)\n"
    before = code_of(written(text).forward)
    (tmp_path / "own_helpers.py").write_text("def act(x):\n    return -x + 0\n")
    linecache.checkcache()
    importlib.reload(sys.modules["own_helpers"])
    assert code_of(written(text).forward) != before
    monkeypatch.delitem(sys.modules, "own_helpers")

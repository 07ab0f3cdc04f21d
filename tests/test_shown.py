"""What users see of an object first: a few lines, and a panel in a notebook."""

from __future__ import annotations

import dataclasses
import html
import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.jobs.store import Question
from whichmin.kernels.large import LargeSpectrum
from whichmin.linear import Assumption, PowerFit
from whichmin.mitigation.registry import METHODS
from whichmin.results import Result
from whichmin.shown import CHARACTERS, LINES, WIDTH, Shown, as_text, brief
from whichmin.studies.sweeping.grid import Grid
from whichmin.studies.swept import Done


def task() -> wm.Task:
    g = torch.Generator().manual_seed(0)
    return wm.Task(torch.randn(6, 3, generator=g), torch.arange(6.0), torch.randn(4, 3, generator=g))


def network() -> nn.Module:
    return wm.networks.MLP((3, 16, 1), seed=0)


def separator() -> wm.minimizers.MaxMargin:
    X = torch.tensor([[1.0, 2.0], [2.0, 1.0], [-1.0, -1.0]])
    return wm.minimizers.max_margin(X @ X.T, X @ X.T, torch.tensor([1, 1, -1]))


def outcome() -> wm.mitigation.Outcome:
    return wm.mitigation.Outcome(torch.zeros(4, 1), None, 0.1, 1e-3, 20.0, 0.5, "path", reached=True)


def swept() -> wm.Sweep:
    cell = next(Grid.of({"scale": 0.5}).cells())
    done = Done(Question({"kind": "sweep-predicted"}), {"test_loss": 0.25, "seconds": 1.0})
    return wm.Sweep((cell,), ("scale", "seeds"), ({"predicted": done},), "store", ("a note.",))


#: How to make one of each public class that is not a result; those are in test_results.
EXAMPLES: dict[type, Callable[[], Shown]] = {
    wm.Task: task,
    wm.Recipe: lambda: wm.Recipe(partial(torch.optim.Adam, lr=1e-3), batch_size=8),
    wm.Checkpoint: lambda: wm.train(network(), task(), torch.optim.Adam, steps=3, checkpoints=[3]).checkpoint(3),
    wm.Certificate: lambda: wm.Certificate(1e-6, 0.01),
    wm.Spectrum: lambda: wm.spectrum(wm.tangent_kernel(network(), task().X)),
    wm.Tangent: lambda: wm.Tangent(network()),
    wm.infinite.FullyConnected: lambda: wm.infinite.FullyConnected(2),
    wm.infinite.Limit: lambda: wm.infinite.describe(network()),
    wm.infinite.Layer: lambda: wm.infinite.Layer(2.0, 0.0, 2.0, 0.0),
    wm.minimizers.MaxMargin: separator,
    wm.mitigation.Gain: lambda: wm.mitigation.Gain(0.1, 0.01, 0.03, 0.05),
    wm.mitigation.Outcome: outcome,
    wm.mitigation.Remedy: lambda: wm.mitigation.Remedy("centered", outcome()),
    wm.mitigation.Search: lambda: wm.mitigation.Search((1.0,), (outcome(),), (0.3,), (1.0,), 1, 0, "no more scales."),
    **{method: method for method in METHODS.values()},
    wm.Sweep: swept,
    PowerFit: lambda: PowerFit(0.5, -0.5, 0.01, -0.5, 2.0),
    Assumption: lambda: Assumption("width", True, "width 40 is enough."),
}


def public() -> dict[str, Any]:
    """Every public name of the package and of its public modules."""
    names: dict[str, Any] = {}
    for name in wm.__all__:
        value = getattr(wm, name)
        names[name] = value
        if isinstance(value, ModuleType):
            names |= {f"{name}.{inner}": getattr(value, inner) for inner in getattr(value, "__all__", ())}
    return names


def test_every_public_class_is_seen_in_a_few_lines():
    torch_shows = (nn.Module, torch.optim.Optimizer)
    classes = {value for value in public().values() if inspect.isclass(value) and not issubclass(value, torch_shows)}
    classes = {cls for cls in classes if not issubclass(cls, BaseException) and not inspect.isabstract(cls)}
    assert len(classes) > 15
    assert {cls for cls in classes if not issubclass(cls, Shown)} == set()
    assert {cls for cls in classes if not issubclass(cls, Result)} == set(EXAMPLES)
    assert all(cls.__repr__ is Shown.__repr__ for cls in classes)


@pytest.mark.parametrize("cls", EXAMPLES, ids=lambda cls: cls.__name__)
def test_an_object_is_seen_at_first_sight(cls):
    shown = EXAMPLES[cls]()
    lines = repr(shown).splitlines()
    assert len(lines) <= LINES
    assert all(len(line) <= WIDTH + 1 for line in lines)
    assert lines[0].lstrip("<").startswith(cls.__name__)
    panel = html.unescape(shown._repr_html_())
    assert cls.__name__ in panel
    for name, value in shown._facts().items():
        assert f">{name}</th><td>{brief(value)}</td>" in panel


def test_a_sweep_shows_the_first_rows_of_its_table():
    panel = html.unescape(swept()._repr_html_())
    assert "test_loss_predicted" in panel
    assert "0.25" in panel


def test_objects_that_say_their_own_facts():
    assert (
        repr(wm.kernel_operator(network(), task().X)) == "KernelOperator(shape=(6, 6, 1, 1), model=MLP, metric=False)"
    )
    assert repr(wm.Tangent(network())) == "Tangent(model=MLP, parameters=64, tensors=2)"
    assert repr(task()) == (
        "Task(X=Tensor(6, 3), y=Tensor(6, 1), X_test=Tensor(4, 3), y_test=None, loss=MSELoss(), classes=None,\n"
        "  output=None)"
    )


def test_a_spectrum_says_what_it_means_where_that_is_known():
    K = wm.tangent_kernel(network(), task().X)
    known = wm.spectrum(K)
    assert f"converges below lr={known.max_lr:.3g}" in " ".join(repr(known).split())
    large = LargeSpectrum(known.of, known.gamma, known.eps)
    assert repr(large).startswith("LargeSpectrum(size=6, ")
    assert not {"_decomposition", "_cholesky", "_modes"} & vars(large).keys(), "a repr does not decompose a kernel"


def test_a_recorder_says_how_far_it_is():
    model, at = network(), task()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    recorder = wm.Recorder(model, optimizer, at)
    assert repr(recorder) == "Recorder(optimizer='SGD', phase='not entered')"
    assert "not entered" in recorder._repr_html_()
    with recorder:
        assert repr(recorder).startswith("Recorder(optimizer='SGD', phase='recording', steps=0, first_loss=")
        torch.nn.functional.mse_loss(model(at.X), at.y).backward()
        optimizer.step()
    assert repr(recorder).startswith("<Recorder: Training brought the MSE to ")


@dataclasses.dataclass
class Large:
    """Whose own repr is long."""

    values: torch.Tensor


VALUES = [
    (torch.zeros(60, 10), "Tensor(60, 10)"),
    (np.zeros(3), "ndarray(3,)"),
    (torch.tensor(1.23456789), "1.235"),
    (np.float64(2.0), "2"),
    (1 / 3, "0.3333"),
    (float("inf"), "inf"),
    (True, "True"),
    (None, "None"),
    ("adam", "'adam'"),
    ({"a": torch.zeros(3), "b": 1}, "{a, b}"),
    ({0.5: 1}, "{0.5}"),
    (tuple(range(7)), "(0, 1, 2, 3, … 7 in all)"),
    (partial(torch.optim.SGD, lr=0.1), "partial(SGD, lr=0.1)"),
    (torch.relu, "relu"),
    (Large(torch.zeros(10_000)), "Large(…)"),
]


@pytest.mark.parametrize(("value", "text"), VALUES, ids=[text for _, text in VALUES])
def test_a_value_in_a_few_characters(value, text):
    assert brief(value) == text


def test_long_values_and_texts_are_cut():
    assert len(brief("word " * 100)) <= CHARACTERS
    facts = {f"name{i}": "value" * 5 for i in range(100)}
    for finding, notes in ((["It is so. "] * 99, ["Note that. "] * 99), ((), ()), ((), ["One. " * 99])):
        lines = as_text("Thing", finding, facts, notes).splitlines()
        assert len(lines) <= LINES
        assert all(len(line) <= WIDTH + 1 for line in lines)
    assert as_text("Thing", (), {"a": 1}, ["first", "second"]) == "<Thing\n  a=1\n  note (1 of 2): first>"


def test_a_class_may_have_a_repr_of_its_own():
    @dataclasses.dataclass
    class Own(Shown):
        size: int

        def __repr__(self) -> str:
            return "own"

    @dataclasses.dataclass
    class Below(Own):
        more: int = 0

    assert repr(Own(1)) == repr(Below(1)) == "own"

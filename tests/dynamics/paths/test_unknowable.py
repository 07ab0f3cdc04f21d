"""What no finer path can know: rounding at an edge or in chaos, and what half precision swallows."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.real import RealTraining
from whichmin.dynamics.prepare import prepare


def problem(dtype=torch.float32, width=16):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1)).to(dtype)
    X, X_test = torch.randn(10, 4).to(dtype), torch.randn(6, 4).to(dtype)
    return model, wm.Task(X, torch.randn(10, 1).sign().to(dtype), X_test)


def predictor_of(optimizer, dtype=torch.float32, steps=40.0):
    model, task = problem(dtype)
    return prepare(model, task, wm.Recipe(optimizer), (steps,), only_linearized=False)


def outcome(**changed):
    made = Outcome("relinearized", [torch.zeros(10)], [torch.zeros(12)], 40.0, 10, 0.1, [(0.0, 1.0)], {})
    return replace(made, **changed)


DESCENT, ADAM = partial(torch.optim.SGD, lr=0.1), partial(torch.optim.Adam, lr=1e-3)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, 0.5),  # intervals of four steps
        ({"error": 0.7}, 0.7),
        ({"intervals": 3}, 0.1),  # long ones
        ({"intervals": 3, "edge": 7.0}, 0.5),
        ({"error": math.inf}, math.inf),
    ],
)
def test_two_paths_that_begin_together(changed, expected):
    predictor, begun = predictor_of(DESCENT), []

    def again(origin):
        begun.append(origin)
        return outcome(test=[torch.full((12,), -0.5)])

    found = predictor._with_unknowable(outcome(**changed), again)
    assert found.error == pytest.approx(expected)
    assert len(begun) == (expected != 0.1 and math.isfinite(expected))


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 1e-6), (torch.float64, 2e-15)])
def test_they_begin_some_rounding_units_apart(dtype, size):
    predictor = predictor_of(ADAM, dtype)
    origin = predictor.problem.origin
    nudged = predictor.network.nudged(origin)
    for name, before in origin.values.items():
        moved = float((nudged.values[name] - before).norm() / before.norm())
        assert 0.1 * size < moved < 3 * size


def test_cached_layers_stay_where_they_are():
    predictor = predictor_of(DESCENT)
    origin = predictor.problem.origin
    nudged = predictor.network.nudged(origin)
    moved = {n for n, before in origin.values.items() if not torch.equal(nudged.values[n], before)}
    assert moved
    assert moved == {n for n in origin.values if n not in predictor.network._cached}


@pytest.mark.parametrize(
    "optimizer", [DESCENT, ADAM, partial(torch.optim.NAdam, lr=1e-3)], ids=["sgd", "adam", "nadam"]
)
def test_a_path_of_steps_is_not_without_error(optimizer):
    """It is training itself, up to rounding."""
    model, task = problem()
    found = wm.predict(model, task, optimizer, steps=40, relinearize=10_000)
    run = wm.train(model, task, optimizer, steps=40, until=None)
    true = float((found.test - run.test).square().mean().sqrt())
    assert true < 1e-4
    assert found.error > 0
    assert true < 4 * found.error


def test_steps_that_half_precision_swallows():
    tiny, model = partial(torch.optim.Adam, lr=1e-5), problem(torch.bfloat16)
    assert RealTraining(predictor_of(tiny, torch.bfloat16).problem).lost > 0.9
    assert RealTraining(predictor_of(tiny, torch.float32).problem).lost == 0.0
    assert RealTraining(predictor_of(partial(torch.optim.Adam, lr=0.1), torch.bfloat16).problem).lost < 0.3
    found = wm.predict(*model, tiny, steps=300, relinearize="path")
    run = wm.train(*model, tiny, steps=300, until=None)
    true = float((found.test.double() - run.test.double()).square().mean().sqrt())
    assert true < 4 * found.error
    assert found.error < 10 * true
    assert any("swallows about" in note for note in found.notes)


def test_a_network_that_has_nothing_in_common_with_its_linearization():
    """Adapters that begin at zero at a large rate: at θ₀ nothing tells that the kernel grows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 64, bias=False), nn.Linear(64, 1, bias=False)).double()
    nn.init.zeros_(model[1].weight)
    X = torch.randn(6, 4).double()
    task = wm.Task(X, 100 * torch.randn(6, 1).double(), torch.randn(5, 4).double())
    lr = 0.9 * wm.spectrum(wm.tangent_kernel(model, X)).max_lr
    found = wm.predict(model, task, partial(torch.optim.SGD, lr=lr), steps=math.inf, relinearize="never")
    assert math.isinf(found.error)
    assert any("may diverge" in note for note in found.notes)

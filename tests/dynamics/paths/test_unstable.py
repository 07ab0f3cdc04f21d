"""Rates beyond the limit of stability at θ₀, at which a network may train all the same."""

import re
from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.dynamics.paths import unstable
from whichmin.errors import DivergenceError


def catapult(dtype=torch.float64):
    """A network, a task and a rate beyond the limit from which training moves to smaller kernels."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1)).to(dtype)
    X, X_test = torch.randn(12, 4, dtype=dtype), torch.randn(7, 4, dtype=dtype)
    task = wm.Task(X, torch.randn(12, 1, dtype=dtype), X_test)
    return model, task, 1.3 * wm.spectrum(wm.tangent_kernel(model, X)).max_lr


@pytest.mark.parametrize("goal", [{"steps": 200}, {"until": 0.2}], ids=str)
def test_it_is_trained(goal):
    model, task, lr = catapult()
    found = wm.predict(model, task, partial(torch.optim.SGD, lr=lr), **goal)
    run = wm.train(model, task, partial(torch.optim.SGD, lr=lr), **({"until": None} | goal))
    assert (found.method, found.steps) == ("trained", run.steps)
    torch.testing.assert_close(found.test, run.test, rtol=0, atol=0)
    assert any("beyond the limit of stability" in note for note in found.notes)
    assert found.limit == pytest.approx(lr / 1.3)
    torch.testing.assert_close(sum(found.terms.values()), found.test, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "arguments", [{"steps": 50, "relinearize": "path"}, {"steps": 50, "relinearize": "never"}, {}], ids=str
)
def test_it_is_refused_where_training_is_not_wanted_or_has_no_end(arguments):
    model, task, lr = catapult()
    with pytest.raises(DivergenceError, match="the limit of stability"):
        wm.predict(model, task, partial(torch.optim.SGD, lr=lr), **arguments)


@pytest.mark.parametrize("factor", [1.1, 50.0])
def test_it_is_refused_where_training_does_not_lower_the_loss(factor):
    torch.manual_seed(0)
    model, X = nn.Linear(4, 1).double(), torch.randn(12, 4).double()
    limit = wm.spectrum(wm.tangent_kernel(model, X)).max_lr
    task = wm.Task(X, torch.randn(12, 1).double())
    for steps in (40, 2000):
        with pytest.raises(DivergenceError, match="the limit of stability") as caught:
            wm.predict(model, task, partial(torch.optim.SGD, lr=factor * limit), steps=steps)
        assert caught.value.limit == pytest.approx(limit)


def test_a_few_steps_that_lower_the_loss_are_told():
    model, task, lr = catapult()
    sgd = partial(torch.optim.SGD, lr=lr)
    run = wm.train(model, task, sgd, steps=1, until=None)
    assert run.losses[1] < run.losses[0]
    found = wm.predict(model, task, sgd, steps=1)
    torch.testing.assert_close(found.test, run.test, rtol=0, atol=0)
    assert any("has not by step 1, and its kernel is no smaller" in note for note in found.notes)


def dying():
    """A network whose rectifiers a large step turns off for every input."""
    return wm.networks.MLP((4, 32, 1), seed=0).double()


def saturating():
    """A network whose outputs a large step takes to -1 and 1, far from small targets."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1), nn.Tanh()).double()


@pytest.mark.parametrize(
    ("make", "inputs", "factor", "steps"), [(dying, torch.rand, 20.0, 200), (saturating, torch.randn, 5.0, 1200)]
)
def test_training_that_gets_nowhere_is_given_up_early(make, inputs, factor, steps):
    torch.manual_seed(0)
    model, X = make(), inputs(12, 4).double()
    task = wm.Task(X, 0.1 * torch.randn(12, 1).double())
    lr = factor * wm.spectrum(wm.tangent_kernel(model, X)).max_lr
    with pytest.raises(DivergenceError, match="the limit of stability") as caught:
        wm.predict(model, task, partial(torch.optim.SGD, lr=lr), until=1e-9)
    made = re.search(r"given up after (\d+) steps", str(caught.value.__cause__))
    assert made is not None
    assert int(made[1]) < steps


def test_training_to_a_loss_is_given_up(monkeypatch):
    monkeypatch.setattr(unstable, "LONGEST", 30)
    model, task, lr = catapult()
    found = wm.predict(model, task, partial(torch.optim.SGD, lr=lr), until=1e-12)
    assert found.steps == 30
    assert any("above until" in note for note in found.notes)


def test_batches_whose_recursion_diverges_are_trained():
    """The full-batch limit says nothing of small batches: the linearized network diverges in them."""
    model, task, lr = catapult()
    recipe = wm.Recipe(partial(torch.optim.SGD, lr=lr / 1.3 * 0.6), batch_size=2)
    with pytest.raises(DivergenceError):
        wm.predict(model, task, recipe, steps=300, relinearize="path")
    found = wm.predict(model, task, recipe, steps=300)
    run = wm.train(model, task, recipe, until=None, steps=300)
    torch.testing.assert_close(found.test, run.test, rtol=0, atol=0)

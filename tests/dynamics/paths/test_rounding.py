"""What the rounding of a kernel in single precision makes of a prediction, against the same in double precision."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm

SGD = partial(torch.optim.SGD, lr=0.02)


def features(activation, d, seed, width=400):
    """A network that is linear in its trainable parameters, so that nothing but rounding is wrong."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(d, width), activation(), nn.Linear(width, 1))
    model[0].requires_grad_(False)
    return model


def task_of(n, d, seed):
    g = torch.Generator().manual_seed(seed)
    X, X_test = torch.randn(n, d, generator=g), torch.randn(60, d, generator=g)
    return wm.Task(X, torch.sin(X.sum(1, keepdim=True)), X_test)


def both(model, task, optimizer, **given):
    """In single precision, and how far that is from double precision."""
    one = wm.predict(model, task, optimizer, relinearize="never", **given)
    exact = wm.predict(copy.deepcopy(model).double(), task.to(torch.float64), optimizer, relinearize="never", **given)
    return one, float((one.test.double() - exact.test).square().mean().sqrt())


CASES = [
    (nn.ReLU, 100, 20, {"steps": math.inf}),
    (nn.ReLU, 100, 3, {"steps": 3000}),
    (nn.ReLU, 600, 20, {"steps": 300}),
    (nn.Tanh, 100, 20, {"steps": 1000, "batch_size": 20}),
    (nn.Tanh, 100, 5, {"steps": 500, "flow": True}),
    (nn.Tanh, 100, 3, {"steps": 5000}),  # modes that rounding hides
    (nn.Tanh, 200, 8, {"steps": math.inf}),  # modes that rounding hides
]


def test_the_error_covers_single_precision_and_is_not_far_too_large():
    ratios = []
    for activation, n, d, given in CASES:
        for seed in range(3):
            one, off = both(features(activation, d, seed), task_of(n, d, seed), SGD, **given)
            ratios.append(off / one.error)
    ratios = np.array(ratios)
    assert (ratios < 4).mean() >= 0.95, ratios
    assert 0.2 < np.median(ratios) < 2.0, ratios


def test_it_is_the_errors_of_the_network_where_that_is_curved():
    """The rounding of a network that is not linear is far below what its curvature does."""
    task, model = task_of(100, 10, 0), wm.networks.MLP((10, 256, 1), seed=0)
    one, off = both(model, task, SGD, steps=300)
    exact = wm.predict(copy.deepcopy(model).double(), task.to(torch.float64), SGD, relinearize="never", steps=300)
    assert one.error == pytest.approx(exact.error, rel=0.01)
    assert off < 0.01 * one.error


def test_what_rounding_hides_is_said():
    model, task = features(nn.Tanh, 8, 0), task_of(200, 8, 0)
    one, off = both(model, task, SGD, steps=math.inf)
    said = [note for note in one.notes if "modes that the rounding of the kernel hides" in note]
    assert len(said) == 1
    assert "model.double()" in said[0]
    assert off > 0.01
    fine = wm.predict(copy.deepcopy(model).double(), task.to(torch.float64), SGD, relinearize="never")
    assert not any("hides" in note for note in fine.notes)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_path_of_a_linear_network_knows_it_too(activation):
    model, task = features(activation, 8, 0), task_of(200, 8, 0)
    one = wm.predict(model, task, SGD, relinearize=4, steps=2000)
    exact = wm.predict(copy.deepcopy(model).double(), task.to(torch.float64), SGD, relinearize=4, steps=2000)
    assert one.method == "relinearized"
    assert float((one.test.double() - exact.test).square().mean().sqrt()) < 4 * one.error < 1.0


def test_parameters_that_are_too_few_hide_nothing():
    """What no parameter moves stays where it is in any precision."""
    model, task = features(nn.ReLU, 20, 0, width=30), task_of(100, 20, 0)
    one, off = both(model, task, SGD, steps=math.inf)
    assert not any("hides" in note for note in one.notes)
    assert off < 4 * one.error < 1e-3


def test_a_network_that_computes_in_its_own_type_is_taken_by_that():
    class Single(nn.Module):
        """Refuses double precision."""

        def __init__(self):
            super().__init__()
            self.inner = features(nn.ReLU, 5, 0)

        def forward(self, x):
            return self.inner(x + torch.zeros(5, dtype=torch.float32)) if x.dtype == torch.float32 else _refuse()

    def _refuse():
        raise AssertionError("float32 only")

    task = task_of(40, 5, 0)
    one = wm.predict(Single(), task, SGD, steps=100, relinearize="never")
    plain, off = both(features(nn.ReLU, 5, 0), task, SGD, steps=100)
    assert 0.2 * plain.error < one.error < 20 * plain.error
    assert off < 4 * one.error

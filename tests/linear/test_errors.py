"""Bad input is an error that says what was got, what was expected and what to do."""

import math
from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_networks import problem
from whichmin import linear
from whichmin.errors import DataError, ModelError

U, V, X, Y = problem(d=6, h=7, m=2, points=4, rank=4)
TASK = wm.Task(X, Y)


def spoiled(t):
    t = t.clone()
    t[1, 0] = math.nan
    return t


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((U[:, :5], V, X, Y), ModelError, "U is 6×5 and V is 2×7"),
        ((U.T, V, X, Y), ModelError, "U is 7×6 and V is 2×7"),
        ((U[:5], V, X, Y), ModelError, r"U has 5 rows and X has 6 columns.*Transpose"),
        ((U, V[:1], X, Y), ModelError, "V has 1 rows and Y has 2 columns"),
        ((U, V, X[:3], Y), DataError, "X has 3 rows and Y has 4"),
        ((spoiled(U), V, X, Y), ModelError, "U holds NaN or infinity in 1 of 6 rows, first in row 1"),
        ((U, V, spoiled(X), Y), DataError, "X holds NaN"),
        ((U, V, X, spoiled(Y)), DataError, "Y holds NaN"),
        ((U, V, 0 * X, Y), DataError, "X is zero"),
        ((U, V, X, None), DataError, "Y is a NoneType that torch.as_tensor cannot read"),
        ((nn.Linear(6, 2), V, X, Y), ModelError, "U is a Linear that torch.as_tensor cannot read"),
        ((U, V, X, torch.zeros(4, 1, 1)), DataError, r"Y has shape \(4, 1, 1\)"),
        ((U, V, X, 1j * Y), DataError, "Y is complex"),
        ((U, V, X, "labels"), DataError, "Y is a str"),
    ],
)
def test_weights(arguments, error, message):
    for use in (linear.analyze_weights, partial(linear.flow, times=[1.0]), partial(linear.descend, lr=0.1, steps=3)):
        with pytest.raises(error, match=message):
            use(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((nn.Linear(6, 2), TASK), ModelError, "bias=False"),
        ((nn.Linear(6, 2, bias=False).double(), TASK), ModelError, "got 1 weight matrix.*depth 2 or more"),
        ((nn.Linear(6, 2, bias=False), X), DataError, "got a model and a Tensor; expected a whichmin.Task"),
        ((U, TASK), ModelError, "got a Tensor; expected a torch.nn.Module. For arrays see analyze_weights"),
    ],
)
def test_models_and_tasks(arguments, error, message):
    with pytest.raises(error, match=message):
        linear.analyze(*arguments)


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).double()


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network(nn.Linear(6, 7, bias=False), nn.Linear(7, 2, bias=False))

    def forward(self, x):
        return 0.5 * self.inner(x)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (network(nn.Linear(6, 7, bias=False), nn.ReLU(), nn.Linear(7, 2, bias=False)), "does not compute the product"),
        (network(nn.Linear(6, 7), nn.Linear(7, 2, bias=False)), r"not weight matrices: 0.bias \(7,\)"),
        (network(*(nn.Linear(a, b, bias=False) for a, b in ((6, 7), (7, 7), (7, 2)))), "has 3 weight matrices"),
        (network(nn.Linear(5, 7, bias=False), nn.Linear(7, 2, bias=False)), "takes 5 inputs and X has 6"),
        (network(nn.Linear(6, 7, bias=False), nn.Linear(7, 3, bias=False)), "V has 3 rows and Y has 2 columns"),
        (network(nn.Linear(7, 2, bias=False), nn.Linear(6, 7, bias=False)), "expected matrices"),
        (Scaled(), "0.5 times the product"),
    ],
)
def test_modules(module, message):
    with pytest.raises(ModelError, match=message):
        linear.analyze(module, TASK)


class Bent(nn.Module):
    """Linear but for a part of 1e-9 of its output in float64."""

    def __init__(self):
        super().__init__()
        self.inner = network(nn.Linear(6, 7, bias=False), nn.Linear(7, 2, bias=False))

    def forward(self, x):
        z = self.inner(x)
        return z + 1e-9 * z.abs()


def test_a_module_that_is_almost_linear_is_not():
    with pytest.raises(ModelError, match="does not compute the product of its weights"):
        linear.analyze(Bent(), TASK)


def test_linear_activations_and_flattening_are_fine():
    images = wm.Task(X.reshape(4, 2, 3), Y)
    module = network(nn.Flatten(), nn.Linear(6, 7, bias=False), nn.Identity(), nn.Linear(7, 2, bias=False))
    known = linear.analyze(module, images)
    with torch.no_grad():
        loss = 0.5 * ((module(images.X) - Y) ** 2).sum()
    assert known.loss == pytest.approx(float(loss))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear.flow(U, V, X, Y, [1.0, 0.5]), "times are not increasing"),
        (lambda: linear.flow(U, V, X, Y, [-1.0]), "times are not increasing from 0"),
        (lambda: linear.flow(U, V, X, Y, [1.0], rtol=0.0), "rtol is 0.0; expected a positive number"),
        (lambda: linear.descend(U, V, X, Y, lr=-1.0, steps=3), "lr is -1.0"),
        (lambda: linear.descend(U, V, X, Y, lr=0.1, steps=0), "steps is 0"),
        (lambda: linear.descend(U, V, X, Y, lr=0.1, steps=3, eval_every=0), "eval_every is 0"),
        (lambda: linear.initialize(6, 7, 2, orthogonal=True), "X is missing"),
        (lambda: linear.initialize(6, 7, 2, X=X, orthogonal=True, near=0.1), "pass one of them"),
        (lambda: linear.initialize(6, 7, 2, X=X, near=-1.0), "near is -1.0"),
        (lambda: linear.initialize(5, 7, 2, X=X), "X has 6 columns and d is 5"),
        (lambda: linear.initialize(3, 7, 2, X=X[:, :3], near=0.1), "full column rank"),
        (lambda: linear.width_sweep(X=X), "got one of X and Y"),
        (lambda: linear.width_sweep(seeds=0), "got 0 seeds"),
    ],
)
def test_data(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear.deep_imbalances([U.T]), "Depth 1 is least squares"),
        (lambda: linear.deep_imbalances([U.T, V.T]), r"weights\[1\] has 2 columns and weights\[0\] has 7 rows"),
        (lambda: linear.deep_imbalances([spoiled(U.T), V]), r"weights\[0\] holds NaN"),
        (lambda: linear.deep_flow([U.T[:, :5], V], X, Y, [1.0]), r"weights\[0\] has 5 columns and X has 6"),
        (lambda: linear.deep_flow([U.T, V[:1]], X, Y, [1.0]), "the last weight has 1 rows and Y has 2"),
        (lambda: linear.initialize(0, 7, 2), "d is 0; expected a positive integer"),
        (lambda: linear.initialize(6, 7, 2, exponent=math.nan), "exponent is nan"),
        (lambda: linear.width_sweep((100,)), "two different ones"),
        (lambda: linear.width_sweep((5, 100)), r"below rank\(X\) \+ m − 1 = 12"),
    ],
)
def test_model(call, message):
    with pytest.raises(ModelError, match=message):
        call()

"""What an examination finds, and that it tells right kernels from wrong ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from oracles.features import Problem
from oracles.linear_rules import mlp_problem
from oracles.zoo import ZOO, build
from whichmin.errors import ModelError
from whichmin.tangent.copying import private_copy
from whichmin.tangent.examine import examine
from whichmin.tangent.features import features_of


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("name", list(ZOO))
def test_right_kernels_agree_and_wrong_ones_do_not(name, outputs):
    model, X = build(name, outputs, 5)
    _, Z = build(name, outputs, 4, seed=1)
    left, right = examine(model, X), examine(model, Z)
    assert len(set(left.rows)) == 3
    assert left.outputs == outputs
    first, second = (features_of(model, e.parameters, e.X[e.rows]) for e in (left, right))
    metric = Problem.of(name, outputs).metric()
    for D in (None, metric):
        assert left.agrees(first.gram(metric=D), D)
        assert left.agrees(first.gram(second, D), D, right)
        assert not left.agrees(1.001 * first.gram(metric=D), D)
        assert not left.agrees(0.999 * first.gram(second, D), D, right)
    assert not left.agrees(first.gram(metric=metric))
    assert not left.agrees(torch.zeros(3 * outputs, 3 * outputs, dtype=torch.float64))


def test_a_part_that_is_missing_is_noticed():
    model, X = build("mlp-bias", 2, 5)
    examination = examine(model, X)
    features = features_of(model, examination.parameters, X[examination.rows])
    for name in examination.parameters:
        without = {n: 0.0 if n == name else 1.0 for n in examination.parameters}
        assert not examination.agrees(features.gram(metric=without)), name


def test_small_inputs_are_run_once():
    model, X = build("cnn", 2, 5)
    examination = examine(model, X, whole=True)
    assert len(examination.sample.outputs) == 5
    route = examination.route
    assert examination.arranged_by(route) is examination.arranged
    assert examination.arranged_by(replace(route, one_by_one=True)) is None
    for other in (examine(model, X), examine(model, X.repeat(7, 1, 1, 1), whole=True)):
        assert len(other.sample.outputs) == 3
        assert other.arranged_by(other.route) is None
        assert other.route == route


def test_what_it_says_of_parameters():
    assert examine(*build("custom", 1, 3)).opaque == ("w", "bilinear.weight", "bilinear.bias")
    assert examine(*build("mlp", 1, 3)).cacheable == ["layers.0.weight"]


def test_bytes_of_a_row():
    model, X = build("mlp", 2, 3)  # 6-9-8-2 without biases
    examination = examine(model, X)
    kept = 8 * (6 + 9 + 8) + 8 * 2 * (9 + 8 + 2)
    assert examination.bytes_per_row() == pytest.approx(2 * kept, abs=2)
    everything = 8 * 2 * (6 * 9 + 9 * 8 + 8 * 2)
    assert examination.bytes_per_row(tuple(examination.parameters)) == everything
    one = examination.bytes_per_row(("layers.1.weight",)) - examination.bytes_per_row()
    assert one == pytest.approx(2 * 8 * 2 * 9 * 8, abs=2)


class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, self.kind, self.calls = nn.Linear(4, 1).double(), kind, 0

    def forward(self, x):
        self.calls += 1
        if self.kind == "rows":
            x = x - x.mean(0)
        if self.kind == "calls":
            x = x * self.calls
        return self.layer(x)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(("kind", "message"), [("rows", "depends on the other rows"), ("calls", "something in it is")])
def test_rows_and_calls(kind, message, given, whole, n):
    X = torch.randn(n, 4, dtype=torch.float64)
    good, odd = Odd("none"), Odd(kind)
    for model in (good, odd):
        examination = examine(model, X, whole=whole)
        assert examination.is_whole == whole
        outputs = model(X).detach() if given else None
        if model is good or (kind == "rows" and n == 1):  # a row alone has no other rows
            examination.check_rows(outputs)
            continue
        with pytest.raises(ModelError, match=message):
            examination.check_rows(outputs)


class Centered(nn.Module):
    """f(θ, x) − f(θ₀, x), computed apart, so that it is rounding at θ₀, and another one in other batches."""

    def __init__(self, shift=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 1))
        self.start, self.shift = private_copy(self.network).requires_grad_(False), shift

    def forward(self, x):
        start = torch.cat([self.start(row[None]) for row in x])
        return self.network(x) - start + self.shift * x.mean()


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_rounding_of_dead_outputs_is_no_dependence_on_other_rows(given, whole, frozen):
    X = torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    model = Centered()
    model.network[0].requires_grad_(not frozen)
    outputs = model(X).detach()
    assert outputs.abs().max() < 1e-6
    assert not torch.equal(model(X[:3])[0], model(X[:1])[0])
    examine(model, X, whole=whole).check_rows(outputs if given else None)
    odd = Centered(shift=1e-3)
    with pytest.raises(ModelError, match="depends on the other rows"):
        examine(odd, X, whole=whole).check_rows(odd(X).detach() if given else None)


def test_checks_change_nothing():
    model, task = mlp_problem((4, 6), 5)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    examination = examine(model, task.X)
    examination.check_rows()
    examination.agrees(features_of(model, examination.parameters, task.X[examination.rows]).gram())
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in model.named_parameters())

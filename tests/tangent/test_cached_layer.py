"""First layers that are followed by their outputs: nothing changes but the cost."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance, mlp_problem, sgd
from oracles.zoo import plain_jacobian
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.tangent.examination import Examination
from whichmin.tangent.examine import examine


def pair(model, task):
    """The network with its first layers cached, and without."""
    cached, plain = MovingNetwork(model, task), MovingNetwork(model, task)
    cached.start()
    plain.start()
    plain.release()
    return cached, plain


def cases():
    for bias in (False, True):
        for outputs in (1, 3):
            yield pytest.param(*mlp_problem((5, 9, 7), 6, outputs, bias=bias), id=f"bias={bias}, C={outputs}")
    model, task = mlp_problem((5, 9), 6, 2)
    yield pytest.param(model, wm.Task(task.X, task.y), id="no test set")
    yield pytest.param(model, wm.Task(task.X, task.y, task.X), id="tested on the training inputs")
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    yield pytest.param(plain, task, id="torch's layers")


CASES = pytest.mark.parametrize(("model", "task"), list(cases()))


def drawn(network, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(network.task.y.numel(), generator=g, dtype=torch.float64)


def moved(network, by):
    """A step along Jᵀc, c random."""
    direction = network.features().pull(drawn(network))
    network.shift(direction, by)
    return direction


def same(cached, plain, tolerance=1e-10):
    """Outputs, kernels and parameters agree; the parameters last, for they settle what lags behind."""
    task = cached.task
    for X in (task.X, cached.X):
        assert distance(cached.outputs(X), plain.outputs(X)) < tolerance
    (fa, ga), (fb, gb) = ((n.features(), n.features(n.X)) for n in (cached, plain))
    assert distance(fa.gram(), fb.gram()) < tolerance
    assert distance(ga.gram(fa), gb.gram(fb)) < tolerance
    c = drawn(cached, 1)
    a, b = fa.pull(c), fb.pull(c)
    assert distance(fa.push(a), fb.push(b)) < tolerance
    assert distance(ga.push(a), gb.push(b)) < tolerance
    assert fa.inner(a, a) == pytest.approx(fb.inner(b, b), rel=1e-10)
    metric = {n: 2.0 + torch.rand_like(p) for n, p in plain.parameters.items()}
    a, b = fa.pull(c, metric=metric), fb.pull(c, metric=metric)
    assert not a.steps
    assert all(distance(a.tensors[n], b.tensors[n]) < tolerance for n in plain.parameters)
    v = {n: torch.ones_like(p) for n, p in plain.parameters.items()}
    assert distance(ga.push(v), gb.push(v)) < tolerance
    left, right = cached.state(), plain.state()
    assert all(distance(left[k], right[k]) < tolerance for k in right)


@CASES
def test_the_first_layer_is_cached(model, task):
    cached, plain = pair(model, task)
    first = next(n for n, p in plain.parameters.items() if p.ndim == 2)
    step = moved(cached, 0.1)
    assert list(step.steps) == [first]
    assert first not in step.tensors
    assert not moved(plain, 0.1).steps


@CASES
def test_moving_it_is_moving_the_network(model, task):
    cached, plain = pair(model, task)
    for by in (0.05, -0.02, 0.1):
        for network in (cached, plain):
            moved(network, by)
        same(cached, plain)


@CASES
def test_the_moved_network_has_its_own_kernel(model, task):
    """Against plain autograd where the parameters stand."""
    cached, _ = pair(model, task)
    moved(cached, 0.1)
    moved(cached, 0.1)
    K, outputs = cached.features().gram(), cached.outputs(task.X)
    model_there = cached.model
    model_there.load_state_dict(cached.state())
    J = torch.cat([j.flatten(2) for j in plain_jacobian(model_there, task.X).values()], 2).flatten(0, 1)
    assert distance(K, J @ J.T) < 1e-10
    assert distance(outputs, model_there(task.X).detach()) < 1e-12


@CASES
def test_putting_it_back(model, task):
    cached, plain = pair(model, task)
    before, outputs = cached.position(), cached.outputs(cached.X)
    positions = []
    for network in (cached, plain):
        moved(network, 0.1)
        positions.append(network.position())
        moved(network, 0.2)
        network.put(positions[-1])
    same(cached, plain)
    cached.put(before)
    assert distance(cached.outputs(cached.X), outputs) == 0
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in cached.state().items())
    cached.state()
    cached.put(positions[0])  # not written into by what came after
    same(cached, plain)


@CASES
@pytest.mark.parametrize("way", ["decay", "tensors", "release", "metric", "values"])
def test_others_may_move_the_weight_too(model, task, way):
    cached, plain = pair(model, task)
    for network in (cached, plain):
        moved(network, 0.1)
        if way == "decay":
            network.decay(0.9)
        if way == "tensors":
            network.shift(network.eigenvalue_gradient(drawn(network)), 1e-3)
        if way == "release":
            network.release()
        if way == "metric":
            metric = {n: torch.full_like(p, 2.0) for n, p in network.parameters.items()}
            network.shift(network.features().pull(drawn(network), metric=metric), 0.1)
        if way == "values":
            network.values()
        moved(network, 0.1)
    same(cached, plain)


def test_inputs_of_somebody_else():
    """Outputs on rows that are not the task's come from the settled weight."""
    model, task = mlp_problem((5, 9), 6)
    cached, plain = pair(model, task)
    for network in (cached, plain):
        moved(network, 0.2)
    other = torch.randn(4, 5, dtype=torch.float64)
    assert distance(cached.outputs(other), plain.outputs(other)) < 1e-12
    same(cached, plain)


def cacheable(model, X):
    return examine(model, X).cacheable


class Reads(nn.Module):
    """The first layer's inputs depend on a parameter, which autograd is not told."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.full((5,), 0.5, dtype=torch.float64))
        self.first, self.last = nn.Linear(5, 8).double(), nn.Linear(8, 1).double()

    def forward(self, x):
        return self.last(torch.tanh(self.first(x + (x * self.gate).detach()))) + (x * self.gate).sum(1, keepdim=True)


def test_inputs_that_change_behind_autograd_are_noticed():
    torch.manual_seed(0)
    model, task = Reads(), mlp_problem((5, 9), 6)[1]
    assert cacheable(model, task.X) == []
    cached, plain = pair(model, task)
    for by in (0.1, 0.1):
        for network in (cached, plain):
            moved(network, by)
    for X in (task.X, task.X_test):
        assert distance(cached.outputs(X), plain.outputs(X)) < 1e-10
    left, right = cached.state(), plain.state()
    assert all(distance(left[k], right[k]) < 1e-10 for k in right)


def test_a_followed_path_of_a_network_whose_inputs_change_behind_autograd():
    torch.manual_seed(0)
    model, task = Reads(), mlp_problem((5, 9), 6)[1]
    run = wm.train(model, task, sgd(0.05), until=None, steps=15)
    found = wm.predict(model, task, sgd(0.05), steps=15, relinearize=10**7)
    assert distance(found.test, run.test) < 1e-9


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)), ["0.weight"]),
        (nn.Sequential(nn.Tanh(), nn.Linear(5, 4), nn.Linear(4, 1)), ["1.weight"]),
        (nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 4), nn.Linear(4, 1)), []),
        (nn.Sequential(nn.LayerNorm(5, elementwise_affine=False), nn.Linear(5, 1)), ["1.weight"]),
        (nn.Sequential(nn.Linear(5, 5).requires_grad_(False), nn.Linear(5, 1)), ["1.weight"]),
    ],
    ids=["dense", "activated inputs", "learned inputs", "normalized inputs", "after a frozen layer"],
)
def test_which_layers_can_be_cached(model, names):
    assert cacheable(model.double(), torch.randn(3, 5, dtype=torch.float64)) == names


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5, dtype=torch.float64)

    def forward(self, x):
        return self.first(torch.tanh(self.first(x))).sum(1, keepdim=True)


def test_a_layer_that_is_used_twice_is_not_cached():
    assert cacheable(Twice(), torch.randn(3, 5, dtype=torch.float64)) == []


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_predictions_do_not_know_of_it(momentum, monkeypatch):
    model, task = mlp_problem((5, 30), 8)
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=momentum)
    found = wm.predict(model, task, optimizer, steps=60, relinearize=7)
    monkeypatch.setattr(Examination, "cacheable", [])
    plain = wm.predict(model, task, optimizer, steps=60, relinearize=7)
    assert distance(found.test, plain.test) < 1e-10
    assert found.intervals == plain.intervals
    assert found.error == pytest.approx(plain.error, rel=1e-6)
    for name, value in plain.parameters().items():
        assert distance(found.parameters()[name], value) < 1e-10


def test_of_many_rows_the_weight_itself_moves():
    """Following the outputs of n rows takes longer than moving the weight; what is predicted is the same."""
    model, task = mlp_problem((5, 9), 11, 2)
    cached, plain = pair(model, task)
    direction = moved(cached, 0.1)
    assert not direction.steps
    moved(plain, 0.1)
    same(cached, plain)
    few, _ = pair(*mlp_problem((5, 9), 10, 2))
    assert few.features().pull(drawn(few)).steps

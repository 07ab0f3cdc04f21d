"""Kernels of networks in which few rows, or rows of one side alone, meet a parameter; and modules that stand twice."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whichmin as wm
from oracles.linear_rules import jacobian, rms, sgd
from whichmin.kernels.linearize import Tangent


@pytest.fixture(autouse=True)
def _in_double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def gated(h, x, of):
    """Another branch for the rows beyond a gate: about one in six."""
    return torch.where(x[:, :1] > 1, of(x), h)


class Dense(nn.Module):
    """A dense network; rows beyond a gate take another way of their own."""

    def __init__(self, branch):
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 2)
        self.c, self.d = nn.Parameter(torch.randn(16, 4) / 2), nn.Parameter(torch.randn(2, 16) / 4)
        self.branch = branch

    def forward(self, x):
        return gated(self.b(torch.tanh(self.a(x))), x, lambda x: self.branch(self, x))


def row_by_row(s, x):
    """In a transform that no layer is seen through."""
    return torch.func.vmap(lambda r: s.d @ torch.tanh(s.c @ r))(x)


def through_a_transform(s, x):
    """The dense layers again, with weights that go through a transform."""
    W = torch.func.vmap(lambda w: 2 * w)(s.a.weight)
    return s.b(torch.tanh(x @ W.T))


def upside_down(s, x):
    """Rows in reverse order on the way."""
    return torch.tanh(F.linear(x.flip(0), s.c)).flip(0) @ s.d.T


class Convolved(nn.Module):
    """Rows beyond a gate meet the window's weights in a transform as well."""

    def __init__(self):
        super().__init__()
        self.c, self.o = nn.Conv1d(1, 3, 2), nn.Linear(9, 2)

    def forward(self, x):
        h = self.c(x.unsqueeze(1)).flatten(1)
        more = torch.func.vmap(lambda w: w.sum())(self.c.weight).sum()
        return self.o(torch.tanh(gated(h, x, lambda _: h + more)))


class Stacked(nn.Module):
    """Eight experts in one parameter, each row by one of them."""

    def __init__(self):
        super().__init__()
        self.W, self.V = nn.Parameter(torch.randn(8, 16, 4) / 2), nn.Parameter(torch.randn(8, 1, 16) / 4)
        self.gate = nn.Linear(4, 8)

    def forward(self, x):
        y = torch.func.vmap(lambda W, V: torch.tanh(x @ W.T) @ V.T)(self.W, self.V)
        p = self.gate(x).softmax(1)
        best = p.topk(1, dim=1)
        return torch.einsum("enk,ne->nk", y, torch.zeros_like(p).scatter(1, best.indices, best.values))


class LookedUp(nn.Module):
    """Rows beyond a gate look their entries up in a transform."""

    def __init__(self):
        super().__init__()
        self.e, self.o = nn.Embedding(20, 8), nn.Linear(8, 2)

    def forward(self, x):
        ids = ((x + 3) * 3).long().clamp(0, 19)
        again = torch.func.vmap(lambda i: self.e.weight[i].prod(0))(ids)
        return self.o(torch.tanh(gated(self.e(ids).mean(1), x, lambda _: again)))


class OneChannel(nn.Module):
    """Rows beyond a gate meet one channel of a window in a transform as well."""

    def __init__(self):
        super().__init__()
        self.c, self.o = nn.Conv1d(1, 6, 2), nn.Linear(18, 2)

    def forward(self, x):
        h = self.c(x.unsqueeze(1)).flatten(1)
        more = (torch.func.vmap(lambda w: w.sum())(self.c.weight)[3] * F.one_hot(torch.tensor(9), 18)).to(x)
        return self.o(torch.tanh(gated(h, x, lambda _: h + more)))


NETWORKS = {
    "a transform": lambda: Dense(row_by_row),
    "weights in a transform": lambda: Dense(through_a_transform),
    "reversed rows": lambda: Dense(upside_down),
    "windows": Convolved,
    "one channel": OneChannel,
    "a table": LookedUp,
    "stacked experts": Stacked,
}


def drawn(name, seed):
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    if name == "stacked experts":  # the sampled rows of the two sides share no expert, for some of the seeds
        return model, torch.randn(60, 4), torch.randn(30, 4)
    X = torch.randn(40, 4)
    X[:, 0].clamp_(max=0.9)
    X[torch.randperm(40)[:2], 0] = 1.5  # the sampled rows meet neither
    return model, X, torch.randn(30, 4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", list(NETWORKS))
def test_kernels_of_what_few_rows_use(name, seed):
    model, X, others = drawn(name, seed)
    J, there = jacobian(model, X), jacobian(model, others)
    for x, of in ((None, J), (others, there)):
        K = wm.tangent_kernel(model, X, x)
        expected = J @ of.T
        found = K.permute(0, 2, 1, 3).reshape(expected.shape)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["a transform", "weights in a transform", "reversed rows"])
def test_predictions_where_few_rows_use_a_branch(name):
    model, X, others = drawn(name, 0)
    task = wm.Task(X, torch.sin(X[:, :2]), others)
    found = wm.predict(model, task, sgd(0.05), steps=60, relinearize="path")
    run = wm.train(model, task, sgd(0.05), steps=60, until=None, progress=False)
    assert rms(found.test, run.test) < 4 * found.error
    J, f = jacobian(model, X), model(X).detach()
    first = wm.predict(model, task, sgd(1e-6), steps=1, relinearize="never")
    step = J.T @ (1e-6 / f.numel() * 2.0 * (task.y - f)).reshape(-1)
    torch.testing.assert_close((first.train - f).reshape(-1), J @ step, rtol=1e-6, atol=1e-12)


class Opening(nn.Module):
    """A gate that is closed for all rows where training begins."""

    def __init__(self, branch):
        super().__init__()
        self.inner, self.threshold = Dense(branch), 1e9

    def forward(self, x):
        s = self.inner
        h = s.b(torch.tanh(s.a(x)))
        return torch.where(h[:, :1] > self.threshold, s.branch(s, x), h)


def written_out(s, x):
    """As :func:`row_by_row`, by products that are known."""
    return torch.tanh(x @ s.c.T) @ s.d.T


#: One for each kind of path.
OPTIMIZERS = [sgd(0.02), partial(torch.optim.Adam, lr=1e-2), partial(torch.optim.NAdam, lr=1e-2)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.func.__name__)
@pytest.mark.parametrize("branch", [row_by_row, written_out])
def test_a_gate_that_opens_on_the_way(branch, optimizer):
    """A path that no longer follows the network's gradients says so, and real training takes its place."""
    torch.manual_seed(0)
    model, X, others = Opening(branch), torch.randn(40, 4), torch.randn(60, 4)
    model.threshold = float(torch.cat([model(X), model(others)])[:, 0].max().detach()) + 0.02
    task = wm.Task(X, 1.5 * torch.sin(X[:, :2]) + 1, others)
    run = wm.train(model, task, optimizer, steps=50, until=None, progress=False)
    path = wm.predict(model, task, optimizer, steps=50, relinearize="path")
    auto = wm.predict(model, task, optimizer, steps=50)
    if branch is row_by_row:
        assert path.error == math.inf
        assert any("a branch opened" in note for note in path.notes)
    assert rms(path.test, run.test) < 4 * path.error
    assert rms(auto.test, run.test) < 4 * auto.error


@pytest.mark.parametrize("name", ["a transform", "weights in a transform", "windows"])
def test_predictions_of_test_rows_that_take_a_branch_of_their_own(name):
    """One linearization is f₀ + J(X') Jᵀc, with J row by row."""
    model, X, others = drawn(name, 0)
    X[:, 0].clamp_(max=0.9)
    others[:, 0].clamp_(max=0.9)
    others[torch.randperm(30)[:2], 0] = 1.5
    task = wm.Task(X, torch.sin(X[:, :2]), others)
    found = wm.predict(model, task, sgd(1e-6), steps=1, relinearize="never")
    J, there, f = jacobian(model, X), jacobian(model, others), model(X).detach()
    step = J.T @ (1e-6 / f.numel() * 2.0 * (task.y - f)).reshape(-1)
    moved = found.test - model(others).detach()
    torch.testing.assert_close(moved.reshape(-1), there @ step, rtol=1e-6, atol=1e-12)


def twice() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    return nn.Sequential(nn.Linear(4, 6), layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 2))


@pytest.mark.parametrize("method", ["auto", "jacobian"])
def test_a_module_that_stands_in_the_model_twice(method):
    """Kernels and products are right, and the caller's parameters stay what they are."""
    model, x, y = twice(), torch.randn(6, 4), torch.randn(5, 4)
    own = list(model.parameters())
    J, there = jacobian(model, x), jacobian(model, y)
    for _ in range(2):
        K = wm.tangent_kernel(model, y, x, method=method)
        torch.testing.assert_close(K.permute(0, 2, 1, 3).reshape(10, 12), there @ J.T)
        assert all(p is q for p, q in zip(model.parameters(), own, strict=True))
    v = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    flat = torch.cat([t.reshape(-1) for t in v.values()])
    torch.testing.assert_close(Tangent(model).jvp(x, v).reshape(-1), J @ flat)
    assert all(p is q for p, q in zip(model.parameters(), own, strict=True))

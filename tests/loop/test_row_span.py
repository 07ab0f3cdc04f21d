"""Training in the coordinates of the rows' span against training in all coordinates."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from whichmin.errors import TrainingError
from whichmin.loop.row_span import row_span
from whichmin.mitigation.networks import AntisymmetricNetwork, CenteredNetwork
from whichmin.optimizers import HigherMomentum, Nesterov
from whichmin.training import train as module

SGD = torch.optim.SGD
N, D = 6, 40


def task(shape=(D,), dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    X, X_test = (torch.randn(n, *shape, generator=g, dtype=dtype) for n in (N, 3))
    y = torch.randn(N, 1, generator=g, dtype=dtype)
    return wm.Task(X, y, X_test)


def mlp(dtype=torch.float64, **settings):
    return wm.networks.MLP([D, 12, 12, 1], seed=2, dtype=dtype, **settings)


class Skipping(nn.Module):
    """Its input acts by its mean besides, which is not told by the span's coordinates."""

    def __init__(self, gate=1.0):
        super().__init__()
        self.first, self.last, self.gate = nn.Linear(D, 12).double(), nn.Linear(12, 1).double(), gate

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        return self.last(torch.tanh(self.first(x))) + mean * self.last.bias * self.gate


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(D, D, bias=False).double()
        self.second = nn.Linear(D, D, bias=False).double()
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x))).sum(1, keepdim=True)


def spans(monkeypatch):
    """What trainings from now on find."""
    found = []
    find = module.find_row_span
    monkeypatch.setattr(module, "find_row_span", lambda *a: found.append(find(*a)) or found[-1])
    return found


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(SGD, lr=0.05),
        partial(SGD, lr=0.02, momentum=0.6, dampening=0.1),
        partial(SGD, lr=0.02, momentum=0.8, nesterov=True),
        partial(Nesterov, lr=0.02),
        partial(HigherMomentum, lr=0.02, betas=(0.2, 0.2)),
    ],
    ids=["gd", "momentum", "nesterov", "scheme", "higher"],
)
@pytest.mark.parametrize("batch_size", [None, 4], ids=["all", "batches"])
def test_the_same_training(optimizer, batch_size, monkeypatch):
    found, model, data = spans(monkeypatch), mlp(bias=True), task()
    options = {"until": None, "steps": 60, "batch_size": batch_size, "scheduler": partial(StepLR, step_size=20)}
    plain = wm.train(model, data, optimizer, **options)
    quick = wm.train(model, data, optimizer, row_span=True, **options)
    assert found[-1] is not None
    assert found[-1].task.X.shape == (N, N)
    for a, b in ((quick.train, plain.train), (quick.test, plain.test), (quick.losses, plain.losses)):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    for name, value in plain.final.items():
        torch.testing.assert_close(quick.final[name], value, rtol=1e-10, atol=1e-12)
    weight = next(iter(plain.initial))
    assert float((plain.final[weight] - plain.initial[weight]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["Adam", "AdamW", "NAdam", "RAdam", "Adamax", "Adagrad", "RMSprop"])
@pytest.mark.parametrize("batch_size", [None, 4], ids=["all", "batches"])
def test_inputs_that_are_zero_in_all_rows_are_left_out(name, batch_size, monkeypatch):
    found, model, data = spans(monkeypatch), mlp(bias=True), task()
    data.X[:, ::3] = 0.0
    assert bool((data.X_test[:, ::3] != 0).any())
    settings = {"weight_decay": 0.0} if name == "AdamW" else {}
    optimizer = partial(getattr(torch.optim, name), lr=0.01, **settings)
    options = {"until": None, "steps": 40, "batch_size": batch_size, "scheduler": partial(StepLR, step_size=20)}
    plain = wm.train(model, data, optimizer, **options)
    quick = wm.train(model, data, optimizer, row_span=True, **options)
    assert found[-1] is not None
    assert found[-1].task.X.shape == (N, D - len(range(0, D, 3)))
    for a, b in ((quick.train, plain.train), (quick.test, plain.test), (quick.losses, plain.losses)):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    for name_of, value in plain.final.items():
        torch.testing.assert_close(quick.final[name_of], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.Adam, lr=0.01, weight_decay=0.1),
        partial(torch.optim.AdamW, lr=0.01),
        partial(torch.optim.Adam, lr=0.01, eps=0.0),  # 0/0 there
        partial(torch.optim.Adafactor, lr=0.01),
        partial(torch.optim.Adadelta, lr=0.01),
    ],
    ids=["decay", "decoupled", "no eps", "factored", "not known"],
)
def test_inputs_that_are_zero_stay_where_their_weights_may_move(optimizer):
    model, data = mlp(), task()
    data.X[:, ::3] = 0.0
    assert row_span(model, data, optimizer(model.parameters())) is None


def test_inputs_that_are_all_zero_or_very_many():
    model, data = mlp(), task()
    data.X[:] = 0.0
    assert row_span(model, data, torch.optim.Adam(model.parameters())) is None
    X = torch.zeros(2, 150_000)
    X[:, :9] = 1.0
    wide = wm.networks.MLP([150_000, 2, 1], seed=0)
    found = row_span(wide, wm.Task(X, torch.ones(2, 1)), torch.optim.Adam(wide.parameters()))
    assert found is not None
    assert found.task.X.shape == (2, 9)


def test_images_single_precision_and_the_end(monkeypatch):
    found, data = spans(monkeypatch), task((1, 5, 8), torch.float32)
    model = mlp(torch.float32)
    plain, quick = (wm.train(model, data, partial(SGD, lr=0.1), until=1e-4, row_span=on) for on in (False, True))
    assert found[0] is not None
    assert quick.converged
    assert abs(quick.steps - plain.steps) <= 2
    torch.testing.assert_close(quick.test, plain.test, rtol=1e-3, atol=1e-3)
    assert quick.final.keys() == plain.final.keys()
    explained = wm.explain(quick)
    assert quick.test is not None
    torch.testing.assert_close(sum(explained.terms.values()), quick.test.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        (mlp(), partial(torch.optim.Adam, lr=1e-3)),
        (mlp(), partial(SGD, lr=0.01, weight_decay=0.1)),
        (Skipping(), partial(SGD, lr=0.01)),
        (Tied(), partial(SGD, lr=0.01)),
        (nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 1)).double(), partial(SGD, lr=0.01)),
        (wm.networks.MLP([D, 1], seed=0, dtype=torch.float64), partial(SGD, lr=0.01)),
    ],
    ids=["adam", "decay", "skip", "tied", "normalized", "linear"],
)
def test_where_it_is_not_the_same_nothing_changes(model, optimizer, monkeypatch):
    found, data = spans(monkeypatch), task()
    plain, quick = (wm.train(model, data, optimizer, until=None, steps=15, row_span=on) for on in (False, True))
    is_same = isinstance(model, wm.networks.MLP) and optimizer.func is SGD and "weight_decay" not in optimizer.keywords
    assert (found[0] is not None) == is_same
    torch.testing.assert_close(quick.test, plain.test, rtol=1e-11, atol=1e-12)


def test_what_agrees_where_it_stands_alone_is_found():
    """A path that is closed at the start, and opens as the network trains."""
    model = Skipping()
    with torch.no_grad():
        model.last.bias.zero_()
    # the outputs agree there, and so do all gradients but that of the bias
    built = SGD(model.parameters(), lr=0.01)
    assert row_span(model, task(), built) is None


@pytest.mark.parametrize("composed", [AntisymmetricNetwork, CenteredNetwork])
def test_several_layers_that_see_the_inputs(composed, monkeypatch):
    """All are exchanged, and what is not trained stays as it is to the last digit."""
    found, model, data = spans(monkeypatch), composed(mlp(bias=True)), task()
    plain, quick = (
        wm.train(model, data, partial(SGD, lr=0.05), until=None, steps=60, row_span=on) for on in (False, True)
    )
    assert found[0] is not None
    assert len(found[0].weights) == 2
    torch.testing.assert_close(quick.test, plain.test, rtol=1e-11, atol=1e-12)
    for name, value in plain.final.items():
        torch.testing.assert_close(quick.final[name], value, rtol=1e-10, atol=1e-12)
        if not model.state_dict(keep_vars=True)[name].requires_grad:
            assert torch.equal(quick.final[name], plain.initial[name])
    torch.testing.assert_close(quick.model(data.X_test).detach(), plain.test, rtol=1e-11, atol=1e-12)


def test_many_rows_are_trained_as_ever():
    data = wm.Task(torch.randn(30, D), torch.randn(30, 1))
    model = mlp(torch.float32)
    assert row_span(model, data, SGD(model.parameters(), lr=0.1)) is None


def test_what_diverges_has_a_state_of_the_whole_network():
    model = wm.networks.MLP([D, 1], seed=0, dtype=torch.float64)
    with pytest.raises(TrainingError) as caught:
        wm.train(model, task(), partial(SGD, lr=1e3), until=None, steps=2000, row_span=True)
    model.load_state_dict(caught.value.state)


def test_checkpoints_are_of_the_whole_network(monkeypatch):
    found = spans(monkeypatch)
    run = wm.train(mlp(), task(), partial(SGD, lr=0.05), until=None, steps=20, checkpoints=(10,), row_span=True)
    assert found == []
    assert run.checkpoint(10).state.keys() == run.final.keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_trained_as_ever(dtype):
    """Its rounding, which swallows parts of steps, is another in other coordinates."""
    data = wm.Task(torch.randn(N, D).to(dtype), torch.randn(N, 1).to(dtype))
    model = mlp(torch.float32).to(dtype)
    assert row_span(model, data, SGD(model.parameters(), lr=0.1)) is None
    whole = wm.Task(data.X.float(), data.y.float())
    assert row_span(model.float(), whole, SGD(model.parameters(), lr=0.1)) is not None


def test_inputs_are_not_factorized_where_no_layer_sees_them(monkeypatch):
    def never(*arguments):
        raise AssertionError("the inputs were factorized")

    monkeypatch.setattr(torch.linalg, "qr", never)
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(2 * (D - 2), 1)).double()
    assert row_span(model, task((1, D)), SGD(model.parameters(), lr=0.1)) is None

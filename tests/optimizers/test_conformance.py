"""What each of our optimizers does as torch's do."""

from __future__ import annotations

import copy
import io
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.quadratic import follow, loss, parameters, run
from whichmin.errors import OptimizerError
from whichmin.optimizers import HigherMomentum, Nesterov, Preconditioned

MAKERS = {
    "nesterov": partial(Nesterov, lr=0.05, weight_decay=0.01),
    "higher": partial(HigherMomentum, lr=0.05, betas=(0.6, 0.2), weight_decay=0.01),
    "preconditioned": partial(Preconditioned, lr=0.05, metric=lambda p: 1 + torch.arange(p.numel()).reshape(p.shape)),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def test_saved_and_loaded_mid_run_goes_on_identically(make):
    whole = run(make, 30)
    params = parameters()
    optimizer = make(params)
    for _ in range(13):
        follow(optimizer, params)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = [nn.Parameter(p.detach().clone()) for p in params]
    other = make(again)
    other.load_state_dict(torch.load(file, weights_only=True))
    rest = np.stack([follow(other, again) for _ in range(17)])
    assert np.array_equal(rest, whole[14:])


def test_a_copy_goes_on_identically(make):
    whole = run(make, 20)
    params = parameters()
    optimizer = make(params)
    for _ in range(8):
        follow(optimizer, params)
    other = copy.deepcopy(optimizer)
    again = other.param_groups[0]["params"]
    assert np.array_equal(np.stack([follow(other, again) for _ in range(12)]), whole[9:])
    assert np.array_equal(np.concatenate([p.detach().reshape(-1) for p in params]), whole[8])


def test_groups_have_settings_of_their_own(make):
    one, two = parameters()
    optimizer = make([{"params": [one], "lr": 0.02}, {"params": [two]}])
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.05]
    before = [p.detach().clone() for p in (one, two)]
    follow(optimizer, [one, two])
    together = parameters()
    follow(make(together), together)
    for p, q, start, factor in zip((one, two), together, before, (0.4, 1.0), strict=True):
        assert torch.allclose(p - start, factor * (q - start), rtol=0, atol=1e-14)


def test_a_closure_is_evaluated_with_gradients(make):
    params = parameters()
    optimizer = make(params)

    def closure():
        optimizer.zero_grad()
        value = loss(params)
        value.backward()
        return value

    expected = float(loss(params).detach())
    with torch.no_grad():
        assert float(optimizer.step(closure)) == expected
    assert optimizer.step.__doc__
    assert np.array_equal(np.concatenate([p.detach().reshape(-1) for p in params]), run(make, 1)[1])
    optimizer.zero_grad()
    assert optimizer.step() is None


def test_parameters_without_a_gradient_stay(make):
    params = parameters()
    optimizer = make(params)
    start = params[1].detach().clone()
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert torch.equal(params[1], start)
    assert not torch.equal(params[0], parameters()[0])


def test_schedulers_change_its_rate(make):
    params = parameters()
    optimizer = make(params)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.0)
    moved = follow(optimizer, params)
    scheduler.step()
    if isinstance(optimizer, Preconditioned):
        assert np.array_equal(follow(optimizer, params), moved)
    assert optimizer.param_groups[0]["lr"] == 0


def test_float32_stays_float32(make):
    p = nn.Parameter(torch.ones(3, 2))
    optimizer = make([p])
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert {v.dtype for v in optimizer.state[p].values() if isinstance(v, torch.Tensor)} == {torch.float32}
    assert p.dtype == torch.float32


@pytest.mark.parametrize(
    ("lr", "message"),
    [
        (0.0, "lr is 0; expected a positive number"),
        (-1, "lr is -1; expected a positive number"),
        (float("nan"), "lr is nan"),
        (float("inf"), "lr is inf"),
        (
            "best",
            r"lr is 'best'; expected a positive number \(only whichmin.train and whichmin.predict resolve 'best'",
        ),
        (None, "lr is None; expected a positive number"),
        ([0.1, 0.2], "lr is a list; expected a positive number"),
    ],
)
def test_learning_rates(make, lr, message):
    with pytest.raises(OptimizerError, match=message):
        make(parameters(), lr=lr)
    with pytest.raises(OptimizerError, match=message):
        make([{"params": parameters(), "lr": lr}])


@pytest.mark.parametrize("cls", [Nesterov, HigherMomentum])
def test_weight_decay(cls):
    with pytest.raises(OptimizerError, match=r"weight_decay is -0\.1; expected 0 or a positive number"):
        cls(parameters(), lr=0.1, weight_decay=-0.1)


def test_sparse_gradients(make):
    embedding = nn.Embedding(5, 2, sparse=True)
    optimizer = make(list(embedding.parameters()))
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(OptimizerError, match="got a sparse gradient; expected dense ones"):
        optimizer.step()


def test_it_trains_a_network(make):
    task = wm.Task(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 1, 6))
    undecayed = {} if make.func is Preconditioned else {"weight_decay": 0.0}
    run = wm.train(wm.networks.MLP([3, 32, 1], seed=0), task, partial(make, **undecayed), until=1e-2, steps=5000)
    assert run.converged, run.reason
    assert run.learning_rate == 0.05

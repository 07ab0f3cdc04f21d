from __future__ import annotations

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from oracles.quadratic import START, A, b, follow, gradient, parameters, run
from whichmin.errors import OptimizerError
from whichmin.optimizers import Preconditioned

D = np.linspace(0.2, 3.0, 7)


def weights(p):
    """D in the shape of a parameter, told apart by their sizes."""
    return torch.from_numpy(D[:4].reshape(2, 2) if p.ndim == 2 else D[4:])


def test_the_identity_is_gradient_descent():
    sgd = run(partial(torch.optim.SGD, lr=0.1), 50)
    for one in ([1, 1.0], (torch.tensor(1.0), torch.ones(3)), lambda _: 1.0, torch.ones_like):
        assert np.abs(run(partial(Preconditioned, lr=0.1, metric=one), 50) - sgd).max() < 1e-13


@pytest.mark.parametrize("form", ["list", "function"])
def test_it_is_gradient_descent_in_rescaled_coordinates(form):
    metric = weights if form == "function" else [weights(p) for p in parameters()]
    found = run(partial(Preconditioned, lr=0.1, metric=metric), 60)
    x = [START]
    z = START / np.sqrt(D)  # θ = √D z
    for _ in range(60):
        x.append(x[-1] - 0.1 * D * gradient(x[-1]))
        z = z - 0.1 * np.sqrt(D) * (A @ (np.sqrt(D) * z) - b)
    assert np.abs(found - np.stack(x)).max() < 1e-12
    assert np.abs(found[-1] - np.sqrt(D) * z).max() < 1e-12


def test_entries_broadcast_and_do_not_follow_their_source():
    row = torch.tensor([1.0, 2.0])
    params = parameters()
    optimizer = Preconditioned(params, lr=0.1, metric=[row, 3])
    row.zero_()
    held = [optimizer.state[p]["metric"] for p in params]
    assert torch.equal(held[0], torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64))
    assert torch.equal(held[1], torch.full((3,), 3.0, dtype=torch.float64))


def test_groups():
    one, two = parameters()
    optimizer = Preconditioned([{"params": [one], "lr": 0.2}, {"params": [two]}], lr=0.1, metric=[2, 3])
    start = torch.cat([one.detach().reshape(-1), two.detach()]).numpy()
    moved = follow(optimizer, [one, two]) - start
    assert np.abs(moved + np.repeat([0.4, 0.3], [4, 3]) * gradient(start)).max() < 1e-14
    late = nn.Parameter(torch.ones(2))
    with pytest.raises(OptimizerError, match="metric is a list for 2 parameters, and now there are more"):
        optimizer.add_param_group({"params": [late]})
    by_function = Preconditioned(parameters(), lr=0.1, metric=lambda p: float(p.numel()))
    by_function.add_param_group({"params": [late]})
    assert torch.equal(by_function.state[late]["metric"], torch.full((2,), 2.0))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copied", "pickled"])
def test_a_copy_keeps_the_metric(clone):
    params = parameters()
    optimizer = clone(
        Preconditioned(params, lr=0.1, metric=lambda p: 2.0 * torch.ones_like(p))
        if clone is copy.deepcopy
        else Preconditioned(params, lr=0.1, metric=[2.0, 2.0])
    )
    held = optimizer.param_groups[0]["params"]
    assert np.abs(follow(optimizer, held) - run(partial(torch.optim.SGD, lr=0.2), 1)[1]).max() < 1e-14
    with pytest.raises(OptimizerError, match="metric is a list for 2 parameters"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ([1.0], "metric has 1 entries for 2 parameters; expected one each"),
        ([1.0, 1.0, 1.0], "metric has 3 entries for 2 parameters"),
        ([1.0, -1.0], "metric of parameter 1 must be positive and finite everywhere; its smallest entry is -1"),
        ([0.0, 1.0], "metric of parameter 0 must be positive"),
        ([1.0, float("nan")], "metric of parameter 1 must be positive and finite"),
        ([1.0, float("inf")], "metric of parameter 1 must be positive and finite"),
        ([1.0, torch.ones(0)], "metric of parameter 1 must be positive and finite everywhere"),
        ([torch.ones(3), 1.0], r"metric of parameter 0 has shape \(3,\); expected one that .*parameter's, \(2, 2\)"),
        (["one", 1.0], "metric of parameter 0 is a str; expected a positive number or a tensor"),
        (2.0, "metric is a float; expected a list"),
        (None, "metric is a NoneType; expected a list"),
        (lambda p: -p.abs(), "metric of parameter 0 must be positive"),
    ],
)
def test_metrics(metric, message):
    with pytest.raises(OptimizerError, match=message):
        Preconditioned(parameters(), lr=0.1, metric=metric)

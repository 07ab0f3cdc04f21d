from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from oracles.quadratic import START, follow, gradient, parameters, run
from whichmin.errors import OptimizerError
from whichmin.optimizers import HigherMomentum


def recursion(lr, b1, b2, steps, weight_decay=0.0):
    x = [START, START, START]
    for _ in range(steps):
        slope = gradient(x[-1]) + weight_decay * x[-1]
        x.append(x[-1] + b1 * (x[-1] - x[-2]) + b2 * (x[-2] - x[-3]) - lr * slope)
    return np.stack(x[2:])


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("betas", [(0.5, 0.3), (0.9, -0.2), (-0.4, 0.1), [0.0, 0.8]])
def test_it_is_the_recursion(betas, weight_decay):
    found = run(partial(HigherMomentum, lr=0.05, betas=betas, weight_decay=weight_decay), 100)
    assert np.abs(found - recursion(0.05, *betas, 100, weight_decay)).max() < 1e-12


def test_the_state_holds_the_last_two_displacements():
    params = parameters()
    optimizer = HigherMomentum(params, lr=0.05, betas=(0.5, 0.3))
    x = [START, *(follow(optimizer, params) for _ in range(9))]
    for name, expected in (("d1", x[-1] - x[-2]), ("d2", x[-2] - x[-3])):
        held = torch.cat([optimizer.state[p][name].reshape(-1) for p in params]).numpy()
        assert np.abs(held - expected).max() < 1e-13


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_of_first_order_it_is_torchs_momentum(beta, weight_decay):
    sgd = run(partial(torch.optim.SGD, lr=0.05, momentum=beta, weight_decay=weight_decay), 100)
    found = run(partial(HigherMomentum, lr=0.05, betas=(beta, 0.0), weight_decay=weight_decay), 100)
    assert np.abs(found - sgd).max() < 1e-12


@pytest.mark.parametrize("betas", [(1.0, 0.0), (0.8, 0.2), (0.0, 1.0), (0.0, -1.0), (-0.95, 0.1)])
def test_momenta_that_do_not_die_out(betas):
    poles = np.roots([1, -betas[0], -betas[1]])
    assert np.abs(poles).max() > 1 - 1e-12
    with pytest.raises(OptimizerError, match=r"do not die out; expected \|β₂\| < 1 and \|β₁\| < 1 − β₂"):
        HigherMomentum(parameters(), lr=0.1, betas=betas)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        (0.9, r"betas is 0.9; expected two numbers"),
        ((0.9,), r"betas is \(0.9,\); expected two numbers"),
        ((0.9, float("nan")), r"betas\[1\] is nan; expected a finite number"),
        (("a", 0.1), r"betas\[0\] is 'a'; expected a finite number"),
    ],
)
def test_betas(betas, message):
    with pytest.raises(OptimizerError, match=message):
        HigherMomentum(parameters(), lr=0.1, betas=betas)

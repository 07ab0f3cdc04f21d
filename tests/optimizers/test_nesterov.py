from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from optimizers.quadratic import START, follow, gradient, parameters, run
from whichmin.errors import OptimizerError
from whichmin.optimizers import Nesterov


def recursion(lr, r, steps, weight_decay=0.0):
    """y_k and x_k for k = 1, …, steps + 1."""
    x = [None, START]
    y = [None]
    for k in range(1, steps + 2):
        mu = (k - 1) / (k + r - 1)
        y.append(x[k] if k == 1 else x[k] + mu * (x[k] - x[k - 1]))
        x.append(y[k] - lr * (gradient(y[k]) + weight_decay * y[k]))
    return np.stack(y[1:]), np.stack(x[1:])


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("r", [0.5, 3, 10.0])
@pytest.mark.parametrize("lr", [0.02, 0.3])
def test_it_is_the_recursion(lr, r, weight_decay):
    y, _ = recursion(lr, r, 80, weight_decay)
    found = run(partial(Nesterov, lr=lr, r=r, weight_decay=weight_decay), 80)
    assert np.abs(found - y).max() < 1e-12


def test_the_state_holds_the_iterate_before_extrapolation():
    _, x = recursion(0.1, 3.0, 20)
    params = parameters()
    optimizer = Nesterov(params, lr=0.1)
    for _ in range(20):
        follow(optimizer, params)
    states = [optimizer.state[p] for p in params]
    assert [state["step"] for state in states] == [20, 20]
    held = torch.cat([state["previous"].reshape(-1) for state in states]).numpy()
    assert np.abs(held - x[20]).max() < 1e-12


def test_the_first_step_is_gradient_descent_and_so_is_a_heavily_damped_rule():
    sgd = run(partial(torch.optim.SGD, lr=0.1), 40)
    params = parameters()
    optimizer = Nesterov(params, lr=0.1)
    follow(optimizer, params)
    first = torch.cat([optimizer.state[p]["previous"].reshape(-1) for p in params]).numpy()
    assert np.abs(first - sgd[1]).max() < 1e-15
    assert np.abs(run(partial(Nesterov, lr=0.1, r=1e18), 40) - sgd).max() < 1e-12
    assert np.abs(run(partial(Nesterov, lr=0.1, r=100.0), 40) - sgd).max() > 1e-3


def test_each_parameter_has_its_own_step_count():
    """A parameter that joins later starts at μ = 0."""
    late, other = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    optimizer = Nesterov([late, other], lr=0.1)
    for k in range(10):
        optimizer.zero_grad()
        (other.square().sum() + (late.square().sum() if k >= 7 else 0)).backward()
        optimizer.step()
        if k == 2:
            three = other.detach().clone()
    assert optimizer.state[late]["step"] == 3
    assert torch.equal(late, three)


@pytest.mark.parametrize("r", [0, -1.0, float("nan"), float("inf"), "3", None])
def test_r(r):
    with pytest.raises(OptimizerError, match=r"r is .*expected a positive number; 3 is Nesterov's"):
        Nesterov(parameters(), lr=0.1, r=r)

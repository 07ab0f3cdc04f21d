from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from oracles.quadratic import START, follow, gradient, parameters, run
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


def test_the_state_holds_how_far_the_parameters_are_ahead():
    _, x = recursion(0.1, 3.0, 20)
    params = parameters()
    optimizer = Nesterov(params, lr=0.1)
    for _ in range(20):
        follow(optimizer, params)
    states = [optimizer.state[p] for p in params]
    assert [state["step"] for state in states] == [20, 20]
    held = torch.cat([(p.detach() - s["ahead"]).reshape(-1) for p, s in zip(params, states, strict=True)]).numpy()
    assert np.abs(held - x[20]).max() < 1e-12


def test_the_first_step_is_gradient_descent_and_so_is_a_heavily_damped_rule():
    sgd = run(partial(torch.optim.SGD, lr=0.1), 40)
    params = parameters()
    optimizer = Nesterov(params, lr=0.1)
    follow(optimizer, params)
    first = torch.cat([(p.detach() - optimizer.state[p]["ahead"]).reshape(-1) for p in params]).numpy()
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


def test_rounding_does_not_add_up():
    """In single precision, around large parameters that move little, as those of a wide network do."""
    target = torch.linspace(-1, 1, 64, dtype=torch.float64) * 1e-2 + 3
    ends = []
    for dtype in (torch.float32, torch.float64):
        p = torch.nn.Parameter(torch.full((64,), 3.0, dtype=dtype))
        optimizer = Nesterov([p], lr=1e-3, r=3.0)
        for _ in range(2000):
            p.grad = 1e-2 * (p.detach() - target.to(dtype))
            optimizer.step()
        ends.append(p.detach().double())
    # Differences of parameters would round by 2e-7 a step, carried on by a momentum near 1: some 1e-3 in the end.
    assert float((ends[0] - ends[1]).abs().max()) < 2e-5

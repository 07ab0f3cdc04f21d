"""Where AdaGrad takes a single point, beside real AdaGrad."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from oracles.finite_networks import jacobian, normal
from whichmin import networks
from whichmin.errors import DataError, ModelError, SingularKernelError
from whichmin.minimizers import adagrad_one_point, minimum_norm_interpolator


def one_point(width=20, activation="tanh", *, seed=0, dtype=torch.float64):
    """A network, one training point with its target, and test inputs."""
    model = networks.MLP((5, width, 1), activation=activation, bias=True, bias_std=0.5, seed=seed, dtype=dtype)
    return model, normal(1, 5, seed=seed).to(dtype), 2.0, normal(8, 5, seed=seed + 1).to(dtype)


def adagrad(parameters, residual, until=1e-13, steps=20_000, fraction=0.3, reach=1.0):
    """Train with torch's AdaGrad on the square of ``residual()``, at a fraction of the rate that needs one step."""
    optimizer = torch.optim.Adagrad(parameters, lr=fraction * abs(residual().item()) / reach, eps=1e-30)
    for _ in range(steps):
        r = residual()
        if abs(r.item()) < until:
            return
        optimizer.zero_grad()
        r.square().sum().backward()
        optimizer.step()
    raise AssertionError(f"not converged: {r.item()}")


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("fraction", [0.05, 0.3, 1.7])
def test_adagrad_on_one_point_ends_there_at_any_rate(activation, fraction):
    model, x1, y1, x_test = one_point(activation=activation)
    f0, J, J_test = model(x1).detach()[:, 0], jacobian(model, x1)[:, 0], jacobian(model, x_test)[:, 0]
    delta = torch.zeros(J.shape[1], dtype=torch.float64, requires_grad=True)
    adagrad([delta], lambda: f0 + J @ delta - y1, fraction=fraction, reach=J.abs().sum().item())
    ended = model(x_test).detach() + (J_test @ delta.detach())[:, None]
    found = adagrad_one_point(model, x1, y1, x_test)
    assert found.shape == (8, 1)
    torch.testing.assert_close(found, ended, rtol=0, atol=1e-10)
    descent = model(x_test).detach() + minimum_norm_interpolator(J, J_test, y1 - f0)
    assert (found - descent).abs().max() > 0.1, "gradient descent ends elsewhere"


def test_adagrad_on_one_point_is_the_smallest_step_in_the_largest_coordinate():
    model, x1, y1, x_test = one_point(width=2)
    f0, J, J_test = model(x1).detach(), jacobian(model, x1)[0, 0], jacobian(model, x_test)[:, 0]
    from scipy.optimize import linprog

    size = len(J)
    bounded = torch.cat([torch.eye(size), -torch.eye(size)]).double()
    answer = linprog(
        [0.0] * size + [1.0],
        A_ub=torch.cat([bounded, -torch.ones(2 * size, 1)], dim=1).numpy(),
        b_ub=torch.zeros(2 * size).numpy(),
        A_eq=torch.cat([J, torch.zeros(1)])[None].numpy(),
        b_eq=[y1 - f0.item()],
        bounds=[(None, None)] * size + [(0, None)],
    )
    smallest = model(x_test).detach() + (J_test @ torch.from_numpy(answer.x[:-1]))[:, None]
    torch.testing.assert_close(adagrad_one_point(model, x1, y1, x_test), smallest, rtol=1e-8, atol=1e-8)


def test_a_network_really_trained_on_one_point_comes_closer_the_wider_it_is():
    widths, errors = (64, 512, 4096), []
    for width in widths:
        squares = []
        for seed in range(4):
            model, x1, y1, x_test = one_point(width, seed=seed)
            found = adagrad_one_point(model, x1, y1, x_test)
            reach = jacobian(model, x1).abs().sum().item()
            adagrad(model.parameters(), lambda: model(x1) - y1, until=1e-6, reach=reach)  # noqa: B023
            squares.append((found - model(x_test).detach()).square().mean().item())
        errors.append(math.sqrt(sum(squares) / len(squares)))
    assert all(b < 0.5 * a for a, b in pairwise(errors)), errors
    assert errors[-1] < 0.02, errors


def test_one_point_meets_its_target_and_takes_many_forms():
    model, x1, y1, x_test = one_point(activation="relu", dtype=torch.float32)
    model.layers[0].weight.requires_grad_(False)
    found = adagrad_one_point(model, x1, y1, x_test)
    assert found.dtype == torch.float64
    for x, y in ((x1[0], y1), (x1, torch.tensor([y1])), (x1[0], torch.tensor([[2]]))):
        torch.testing.assert_close(adagrad_one_point(model, x, y, x_test), found, rtol=0, atol=0)
    torch.testing.assert_close(adagrad_one_point(model, x1, y1, x1).item(), y1, rtol=1e-5, atol=0)
    before = model(x_test).detach().double()
    there = model(x1).item()
    torch.testing.assert_close(adagrad_one_point(model, x1, there, x_test), before, rtol=1e-6, atol=1e-6)


def test_a_point_that_no_parameter_moves():
    model = networks.MLP((5, 6, 1), dtype=torch.float64)
    with pytest.raises(SingularKernelError, match="no parameter moves the output at x1"):
        adagrad_one_point(model, torch.zeros(1, 5, dtype=torch.float64), 1.0, normal(3, 5))


@pytest.mark.parametrize(
    ("x1", "y1", "x_test", "error", "message"),
    [
        (normal(2, 5), 1.0, normal(3, 5), DataError, r"x1 has shape \(2, 5\); expected one training input"),
        (normal(1, 5), normal(2), normal(3, 5), DataError, r"y1 has shape \(2,\); expected one number"),
        (normal(1, 4), 1.0, normal(3, 5), DataError, r"the rows of X_test have shape \(5,\) and those of X \(4,\)"),
        (normal(1, 5), math.nan, normal(3, 5), DataError, "y holds NaN or infinity"),
        (normal(1, 4), 1.0, normal(3, 4), ModelError, "the model fails on inputs"),
    ],
)
def test_bad_points(x1, y1, x_test, error, message):
    with pytest.raises(error, match=message):
        adagrad_one_point(one_point()[0], x1, y1, x_test)


def test_several_outputs_have_no_such_formula():
    with pytest.raises(ModelError, match="the network has 2 outputs; with more than one"):
        adagrad_one_point(networks.MLP((5, 6, 2), dtype=torch.float64), normal(1, 5), 1.0, normal(3, 5))

"""Minimizers in closed form, beside each other and beside real optimizers."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
import torch

import whichmin as wm
from oracles.finite_networks import jacobian, normal
from whichmin import networks
from whichmin.errors import DataError, ModelError, SingularKernelError
from whichmin.infinite import FullyConnected
from whichmin.minimizers import adagrad_one_point, minimum_complexity, minimum_norm_interpolator


@pytest.mark.parametrize("outputs", [1, 3])
def test_smallest_complexity_is_smallest_norm(outputs):
    model = networks.MLP((5, 40, 40, outputs), bias=True, dtype=torch.float64)
    x, x_test, y = normal(7, 5), normal(4, 5, seed=1), normal(7, outputs, seed=2)
    J, J_test = jacobian(model, x), jacobian(model, x_test)
    train, test = torch.einsum("iap,jbp->ijab", J, J), torch.einsum("iap,jbp->ijab", J_test, J)
    complexity, norm = minimum_complexity(train, test, y), minimum_norm_interpolator(J, J_test, y)
    assert norm.shape == (4, outputs)
    torch.testing.assert_close(complexity, norm, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [3, 8])
def test_features_that_outputs_share(rank):
    J = normal(8, rank) @ normal(rank, 30, seed=1)
    J_test, y = normal(5, 30, seed=2), J @ normal(30, 2, seed=3)
    complexity = minimum_complexity(J @ J.mT, J_test @ J.mT, y)
    torch.testing.assert_close(complexity, minimum_norm_interpolator(J, J_test, y), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        minimum_norm_interpolator(J, J_test, y), J_test @ torch.linalg.pinv(J) @ y, rtol=1e-9, atol=1e-9
    )


def test_interpolates():
    x, y = normal(9, 4), normal(9)
    K = FullyConnected(3).ntk(x)
    torch.testing.assert_close(minimum_complexity(K, K, y), y[:, None], rtol=1e-10, atol=1e-10)


def test_identical_inputs():
    x = normal(5, 4)
    x[1] = x[0]
    K, y = FullyConnected(3).ntk(x), normal(5)
    with pytest.raises(SingularKernelError, match=r"no parameters meet the targets: .* identical inputs"):
        minimum_complexity(K, K, y)
    with pytest.raises(SingularKernelError, match="no parameters meet the targets"):
        minimum_norm_interpolator(x, x, y)
    y[1] = y[0]
    torch.testing.assert_close(minimum_complexity(K, K, y)[:, 0], y, rtol=1e-9, atol=1e-9)


def out_of_reach(interpolate, *arguments) -> float:
    """The part of the targets that an interpolator says is out of its reach; 0 where it interpolates."""
    try:
        interpolate(*arguments)
    except SingularKernelError as error:
        return float(re.search(r"targets: (\S+) of their norm", str(error))[1])
    return 0.0


def test_the_rank_is_that_of_the_type_that_the_kernel_was_computed_in():
    J, J_test, y = normal(8, 3) @ normal(3, 30, seed=1), normal(5, 30, seed=2), normal(8, 1, seed=3)
    Q = torch.linalg.qr(J[:, :3])[0]
    truth = float((y - Q @ (Q.T @ y)).norm() / y.norm())
    assert 0.2 < truth < 0.95
    for dtype in (torch.float64, torch.float32):
        features, features_test = J.to(dtype), J_test.to(dtype)
        K, K_test = features @ features.mT, features_test @ features.mT
        assert wm.spectrum(K).rank == 3
        assert out_of_reach(minimum_complexity, K, K_test, y) == pytest.approx(truth, rel=0.01)
        assert out_of_reach(minimum_norm_interpolator, features, features_test, y) == pytest.approx(truth, rel=0.01)


def test_targets_in_reach_are_met_in_each_type():
    J, J_test = normal(8, 3) @ normal(3, 30, seed=1), normal(5, 30, seed=2)
    y = J @ normal(30, 2, seed=3)
    exact = J_test @ torch.linalg.pinv(J, rtol=1e-9) @ y
    J, J_test, y = J.float(), J_test.float(), y.float()
    torch.testing.assert_close(minimum_complexity(J @ J.mT, J_test @ J.mT, y), exact, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(minimum_norm_interpolator(J, J_test, y), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("multiple", "counts"), [(0.5, False), (5.0, True), (20.0, True)])
def test_both_interpolators_agree_on_what_is_zero(dtype, multiple, counts):
    small = multiple * 10 * torch.finfo(dtype).eps
    K, J = (torch.diag(torch.tensor([1.0, d], dtype=torch.float64)).to(dtype) for d in (small, math.sqrt(small)))
    y = torch.tensor([0.0, 1.0])
    assert out_of_reach(minimum_complexity, K, K, y) == (0.0 if counts else 1.0)
    assert out_of_reach(minimum_norm_interpolator, J, J, y) == (0.0 if counts else 1.0)


@pytest.mark.parametrize(
    ("dtype", "part", "met"),
    [
        (torch.float64, 1e-7, True),
        (torch.float64, 1e-5, False),
        (torch.float32, 1e-4, True),
        (torch.float32, 1e-3, False),
    ],
)
def test_how_much_of_the_targets_may_be_out_of_reach(dtype, part, met):
    K, y = torch.diag(torch.tensor([1.0, 0.0])).to(dtype), torch.tensor([1.0, part])
    for interpolate in (minimum_complexity, minimum_norm_interpolator):
        assert out_of_reach(interpolate, K, K, y) == (0.0 if met else pytest.approx(part, rel=0.01))


K = torch.eye(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(3, 2), K, torch.ones(3)), r"kernel_train has shape \(3, 2\); expected \(3, 3\)"),
        ((K, torch.ones(2, 4), torch.ones(3)), r"kernel_test has shape \(2, 4\); expected \(n_test, 3\)"),
        ((K, K, torch.ones(4)), r"kernel_train has shape \(3, 3\); expected \(4, 4\)"),
        ((K, K, torch.ones(3, 1, 1)), r"y has shape \(3, 1, 1\); expected \(N,\) or \(N, C\)"),
        ((K * math.nan, K, torch.ones(3)), "kernel_train holds NaN or infinity"),
        ((K, K, torch.ones(0)), "y is empty"),
        ((torch.ones(3, 3, 2, 2), torch.ones(2, 3, 1, 1), torch.ones(3, 2)), "kernel_test has shape"),
    ],
)
def test_bad_kernels(arguments, message):
    with pytest.raises(DataError, match=message):
        minimum_complexity(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (torch.ones(4, 9), torch.ones(2, 9), torch.ones(3)),
            r"J has shape \(4, 9\); expected \(3, P\) or \(3, 1, P\)",
        ),
        ((torch.ones(3, 2, 9), torch.ones(2, 2, 9), torch.ones(3)), "J has shape"),
        ((torch.ones(3, 9), torch.ones(2, 8), torch.ones(3)), r"J_test has shape \(2, 8\); expected \(n_test, 9\)"),
        ((torch.ones(3, 9), torch.full((2, 9), math.inf), torch.ones(3)), "J_test holds NaN or infinity"),
    ],
)
def test_bad_jacobians(arguments, message):
    with pytest.raises(DataError, match=message):
        minimum_norm_interpolator(*arguments)


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

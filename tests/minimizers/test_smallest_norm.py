"""The interpolator of smallest norm, from kernels and from Jacobians."""

from __future__ import annotations

import math
import re

import pytest
import torch

import whichmin as wm
from oracles.finite_networks import jacobian, normal
from whichmin import networks
from whichmin.errors import DataError, SingularKernelError
from whichmin.infinite import FullyConnected
from whichmin.minimizers import minimum_complexity, minimum_norm_interpolator


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

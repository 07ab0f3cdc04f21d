from __future__ import annotations

import math

import pytest
import torch

from whichmin import networks
from whichmin.errors import DataError, SingularKernelError
from whichmin.infinite import FullyConnected, minimum_complexity, minimum_norm

from .finite import jacobian, normal


@pytest.mark.parametrize("outputs", [1, 3])
def test_smallest_complexity_is_smallest_norm(outputs):
    model = networks.MLP((5, 40, 40, outputs), bias=True, dtype=torch.float64)
    x, x_test, y = normal(7, 5), normal(4, 5, seed=1), normal(7, outputs, seed=2)
    J, J_test = jacobian(model, x), jacobian(model, x_test)
    train, test = torch.einsum("iap,jbp->ijab", J, J), torch.einsum("iap,jbp->ijab", J_test, J)
    complexity, norm = minimum_complexity(train, test, y), minimum_norm(J, J_test, y)
    assert norm.shape == (4, outputs)
    torch.testing.assert_close(complexity, norm, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [3, 8])
def test_features_that_outputs_share(rank):
    J = normal(8, rank) @ normal(rank, 30, seed=1)
    J_test, y = normal(5, 30, seed=2), J @ normal(30, 2, seed=3)
    complexity = minimum_complexity(J @ J.mT, J_test @ J.mT, y)
    torch.testing.assert_close(complexity, minimum_norm(J, J_test, y), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(minimum_norm(J, J_test, y), J_test @ torch.linalg.pinv(J) @ y, rtol=1e-9, atol=1e-9)


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
        minimum_norm(x, x, y)
    y[1] = y[0]
    torch.testing.assert_close(minimum_complexity(K, K, y)[:, 0], y, rtol=1e-9, atol=1e-9)


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
        minimum_norm(*arguments)

"""The largest margin, beside the primal program, and where nothing separates the classes."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import whichmin as wm
from oracles.finite_networks import jacobian, normal
from whichmin import networks
from whichmin.errors import DataError, InputError, SingularKernelError
from whichmin.minimizers import margin, max_margin


def classes(n, outputs, seed=0):
    """Class numbers, each class there."""
    k = max(outputs, 2)
    return torch.cat([torch.arange(k), torch.randint(k, (n - k,), generator=torch.Generator().manual_seed(seed))])


def differences(J, y):
    """The rows of features that a separator maps to 1 or more, (M, P), written out one by one."""
    rows = []
    for features, label in zip(J, y.tolist(), strict=True):
        if len(features) == 1:
            rows.append(features[0] if label else -features[0])
        else:
            rows += [features[label] - features[c] for c in range(len(features)) if c != label]
    return torch.stack(rows)


def shortest(D):
    """θ of least norm with D θ ≥ 1, by sequential quadratic programming in the primal."""
    D = D.numpy()
    answer = minimize(
        lambda theta: 0.5 * theta @ theta,
        np.linalg.lstsq(D, np.ones(len(D)), rcond=None)[0],
        jac=lambda theta: theta,
        constraints={"type": "ineq", "fun": lambda theta: D @ theta - 1.0, "jac": lambda _: D},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert answer.success, answer.message
    return torch.from_numpy(answer.x)


def kernels(J, J_test):
    """K(X, X) and K(x', X), (…, C, C)."""
    return torch.einsum("iap,jbp->ijab", J, J), torch.einsum("iap,jbp->ijab", J_test, J)


@pytest.mark.parametrize(("outputs", "parameters"), [(1, 30), (1, 8), (1, 4), (2, 30), (3, 40), (3, 9), (4, 60)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_is_the_primal_program(outputs, parameters, seed):
    n = 10
    J, y = normal(n, outputs, parameters, seed=seed), classes(n, outputs, seed)
    planted = normal(parameters, seed=seed + 9)
    if outputs * n > parameters:  # classes that the few features do separate
        values = J @ planted
        y = values.argmax(dim=1) if outputs > 1 else (values[:, 0] > 0).long()
        assert len(y.unique()) > 1
    J_test = normal(6, outputs, parameters, seed=seed + 1)
    theta = shortest(differences(J, y))
    found = max_margin(*kernels(J, J_test), y)
    close = {"rtol": 1e-6, "atol": 1e-6 * float((J @ theta).abs().max())}
    torch.testing.assert_close(found.train, J @ theta, **close)
    torch.testing.assert_close(found.test, J_test @ theta, **close)
    assert found.margin == pytest.approx(1 / float(theta.norm()), rel=1e-6)
    torch.testing.assert_close(torch.einsum("icp,ic->p", J, found.coefficients), theta, **close)
    if outputs > 1:
        torch.testing.assert_close(found.coefficients.sum(dim=1), torch.zeros(n).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
def test_conditions_of_optimality_on_a_tangent_kernel(outputs):
    model = networks.MLP((6, 50, outputs), bias=True, seed=2, dtype=torch.float64)
    x, x_test, y = normal(60, 6), normal(20, 6, seed=1), classes(60, outputs, 3)
    K, K_test = wm.tangent_kernel(model, x), wm.tangent_kernel(model, x_test, x)
    found = max_margin(K, K_test, y)
    D = differences(jacobian(model, x), y)
    theta = torch.einsum("icp,ic->p", jacobian(model, x), found.coefficients)
    margins = (D @ theta).reshape(60, -1)
    assert float(margins.min()) == pytest.approx(1, abs=1e-9)
    weights = found.coefficients.abs() if outputs == 1 else (-found.coefficients).clamp(min=0)
    assert found.margin == pytest.approx(1 / math.sqrt(float(weights.sum())), rel=1e-9)
    on_the_margin = (margins < 1 + 1e-9).any(dim=1).nonzero()[:, 0]
    assert found.support.tolist() == on_the_margin.tolist()
    assert 0 < len(found.support) < 60
    signs = found.coefficients[torch.arange(60), y] >= 0 if outputs > 1 else found.coefficients[:, 0] * (2 * y - 1) >= 0
    assert bool(signs.all())
    torch.testing.assert_close(
        found.test, torch.einsum("tncd,nd->tc", K_test, found.coefficients), rtol=1e-9, atol=1e-9
    )
    rows = found.support
    alone = max_margin(K[rows][:, rows], K_test[:, rows], y[rows])
    torch.testing.assert_close(alone.test, found.test, rtol=1e-8, atol=1e-8)


def test_the_closest_point_between_two_is_half_way():
    J = torch.tensor([[3.0, 4.0], [0.0, -5.0]]).double()
    found = max_margin(J @ J.T, J @ J.T, torch.tensor([1, 0]))
    hull = torch.tensor([[3.0, 4.0], [0.0, 5.0]]).double()  # from (3, 4) to (0, 5)
    step = hull[1] - hull[0]
    closest = hull[0] - (hull[0] @ step) / (step @ step) * step
    assert found.margin == pytest.approx(float(closest.norm()), rel=1e-12)
    torch.testing.assert_close(found.train[:, 0], torch.tensor([1.0, -1.0]).double())


def test_two_outputs_are_one_output_of_their_difference():
    J, y = normal(12, 2, 40), classes(12, 2)
    J_test = normal(5, 2, 40, seed=1)
    both = max_margin(*kernels(J, J_test), y)
    one = max_margin(*kernels(J[:, 1:] - J[:, :1], J_test[:, 1:] - J_test[:, :1]), y)
    assert both.margin == pytest.approx(one.margin, rel=1e-10)
    torch.testing.assert_close(both.test[:, 1:] - both.test[:, :1], one.test, rtol=1e-9, atol=1e-9)


def test_classes_take_many_forms():
    J, J_test = normal(9, 1, 20), normal(4, 1, 20, seed=1)
    K, K_test = kernels(J, J_test)
    y = classes(9, 1)
    expected = max_margin(K, K_test, y)
    matrices = (K[:, :, 0, 0], K_test[:, :, 0, 0])
    for form in (2 * y - 1, (2.0 * y - 1)[:, None], y.bool(), 5 * y + 3, y.numpy(), y.tolist()):
        assert torch.equal(max_margin(*matrices, form).test, expected.test)
        assert torch.equal(max_margin(K, K_test, form).test, expected.test)
    J, J_test, y = normal(9, 3, 40), normal(4, 3, 40, seed=1), classes(9, 3)
    K, K_test = kernels(J, J_test)
    expected = max_margin(K, K_test, y)
    hot = torch.nn.functional.one_hot(y, 3)
    for form in (y[:, None], y.double(), hot, 2.0 * hot - 1, hot.numpy()):
        assert torch.equal(max_margin(K, K_test, form).test, expected.test)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_unit_of_the_kernel(factor, outputs):
    J, J_test, y = normal(9, outputs, 40), normal(4, outputs, 40, seed=1), classes(9, outputs)
    K, K_test = kernels(J, J_test)
    one, other = max_margin(K, K_test, y), max_margin(factor * K, factor * K_test, y)
    assert other.margin == pytest.approx(math.sqrt(factor) * one.margin, rel=1e-9)
    torch.testing.assert_close(other.test, one.test, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(factor * other.coefficients, one.coefficients, rtol=1e-8, atol=1e-8)


def test_a_kernel_of_single_precision():
    J, J_test, y = normal(30, 1, 100), normal(9, 1, 100, seed=1), classes(30, 1)
    exact = max_margin(*kernels(J, J_test), y)
    found = max_margin(*kernels(J.float(), J_test.float()), y)
    assert found.test.dtype == torch.float64
    torch.testing.assert_close(found.test, exact.test, rtol=0, atol=1e-5)


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6])
def test_a_margin_that_is_small_beside_the_features(apart):
    J, y = normal(20, 1, 40), classes(20, 1)
    assert y[0] != y[1]
    J[1] = J[0] + apart * J[1]
    found = max_margin(*kernels(J, J[:3]), y)
    limit = 0.5 * float((J[1] - J[0]).norm())  # no margin is larger than half way between two classes
    assert 0.1 * limit < found.margin <= limit * (1 + 1e-6)
    torch.testing.assert_close(found.train[:2, 0], torch.tensor([-1.0, 1.0]).double(), rtol=1e-6, atol=1e-6)


def test_support_vectors_alone_hold_the_margin():
    J = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [7.0, 1.0], [-9.0, 3.0]]).double()
    found = max_margin(J @ J.T, torch.eye(2).double() @ J.T, torch.tensor([1, 0, 1, 0]))
    assert set(found.support.tolist()) <= {0, 1}
    assert found.margin == pytest.approx(2.0, rel=1e-12)
    torch.testing.assert_close(found.test[:, 0], torch.tensor([0.5, 0.0]).double(), rtol=0, atol=1e-12)


def refused(J, y):
    """The rows that the message names and counts."""
    with pytest.raises(SingularKernelError, match="cannot be separated on these features") as caught:
        max_margin(*kernels(J, J), y)
    listed, counted, of = re.search(r"training rows (.+?) \((\d+) of (\d+)\) its own class", str(caught.value)).groups()
    assert int(of) == len(J)
    return [int(row) for row in listed.removesuffix(", …").split(", ")], int(counted)


@pytest.mark.parametrize("outputs", [1, 3])
def test_identical_inputs_of_different_classes(outputs):
    J, y = normal(12, outputs, 80), classes(12, outputs)
    J[7] = J[4]
    y[4], y[7] = 0, 1
    assert refused(J, y) == ([4, 7], 2)
    y[7] = 0
    assert max_margin(*kernels(J, J), y).margin > 0


@pytest.mark.parametrize(("n", "outputs", "parameters"), [(40, 1, 4), (30, 3, 6), (300, 1, 20)])
def test_too_few_features(n, outputs, parameters):
    J, y = normal(n, outputs, parameters), classes(n, outputs)
    rows, counted = refused(J, y)
    assert len(rows) == min(counted, 5)
    assert 2 <= counted <= parameters + 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("multiple", "separates"), [(0.2, False), (5.0, True)])
def test_what_separates_less_than_rounding_does_not_count(dtype, multiple, separates):
    small = multiple * 10 * torch.finfo(dtype).eps
    Q = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    K = (Q @ torch.diag(torch.tensor([1.0, small], dtype=torch.float64)) @ Q.T).to(dtype)  # eigenvalues 1 and small
    if separates:  # the margin is half the distance between the two
        assert max_margin(K, K, torch.tensor([0, 1])).margin == pytest.approx(math.sqrt(small / 2), rel=0.1)
    else:
        with pytest.raises(SingularKernelError, match=r"cannot be separated .* rank 1 of 2"):
            max_margin(K, K, torch.tensor([0, 1]))


def test_a_wrong_solution_is_noticed(monkeypatch):
    J, y = normal(12, 1, 30), classes(12, 1)
    weights = margin._closest_in_hull
    for wrong in (lambda p: torch.where(p == p.max(), 0.0, p), lambda p: torch.ones_like(p) / len(p)):
        monkeypatch.setattr(margin, "_closest_in_hull", lambda D, wrong=wrong: wrong(weights(D)))
        with pytest.raises(SingularKernelError, match=r"the separator misses its conditions, .*, by .*; up to 1e-08"):
            max_margin(*kernels(J, J), y)


def test_a_solver_that_gives_up_is_told(monkeypatch):
    def nnls(*_, **__):
        raise RuntimeError("Maximum number of iterations reached.")

    monkeypatch.setattr("scipy.optimize.nnls", nnls)
    with pytest.raises(SingularKernelError, match=r"was not found, scipy.optimize.nnls: Maximum number"):
        max_margin(torch.eye(3), torch.eye(3), torch.tensor([0, 1, 1]))


K, K3 = torch.eye(3), torch.eye(3)[:, :, None, None] * torch.eye(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.ones(3, 2), K, [0, 1, 1]), DataError, r"kernel_train has shape \(3, 2\); expected \(3, 3\)"),
        ((K, torch.ones(2, 4), [0, 1, 1]), DataError, r"kernel_test has shape \(2, 4\); expected \(n_test, 3\)"),
        ((K3, K, [0, 1, 2]), DataError, r"kernel_test has shape \(3, 3\); expected \(n_test, 3, 3, 3\)"),
        ((K, K, [0, 1]), DataError, r"kernel_train has shape \(3, 3\); expected \(2, 2\) or \(2, 2, 1, 1\)"),
        ((K, K * math.inf, [0, 1, 1]), DataError, "kernel_test holds NaN or infinity"),
        ((K, K, [0, 1, 2]), DataError, r"y has shape \(3, 1\) and the values 0, 1, 2; expected, for one output"),
        ((K, K, [1, 1, 1]), DataError, "the values 1; expected, for one output"),
        ((K, K, [0.2, 0.7, 0.7]), DataError, "the values 0.2, 0.7; expected, for one output"),
        ((K, K, torch.eye(3)[:, :2]), DataError, r"y has shape \(3, 2\) and the values 0, 1; expected, for one output"),
        ((K3, K3, [1, 2, 3]), DataError, "y has the values 1, 2, 3; expected class numbers 0 … 2, or one-hot rows"),
        ((K3, K3, [0, 1, -1]), DataError, "y has the values -1, 0, 1; expected class numbers 0 … 2"),
        ((K3, K3, [0, 1, 0.5]), DataError, "y has the values 0, 0.5, 1; expected class numbers"),
        ((K3, K3, torch.ones(3, 3)), DataError, r"y has shape \(3, 3\) and the values 1; expected class numbers"),
        ((K3, K3, torch.eye(3)[:, :2]), DataError, r"expected class numbers, \(N,\), or one-hot rows, \(N, 3\)"),
        ((K3, K3, torch.arange(9.0).reshape(3, 3)), DataError, "the values 0, 1, 2, 3, 4, …; expected class numbers"),
        ((K * 0, K, [0, 1, 1]), InputError, "the kernel is zero"),
        ((torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.eye(2), [0, 1]), InputError, "not positive semidefinite"),
        ((torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.eye(2), [0, 1]), InputError, "not symmetric"),
    ],
)
def test_what_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        max_margin(*arguments)

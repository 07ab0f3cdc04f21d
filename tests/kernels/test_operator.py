"""The kernel as an operator against the kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import whichmin as wm
from oracles.zoo import build
from whichmin.errors import DataError, InputError, ModelError
from whichmin.kernels.layout import to_matrix


def problem(name, outputs, other):
    model, X = build(name, outputs, 4)
    Z = build(name, outputs, 3, seed=1)[1] if other else None
    return model, X, Z


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", ["mlp-bias", "attention", "custom"])
def test_products(name, outputs, other):
    model, X, Z = problem(name, outputs, other)
    metric = {n: 0.5 + torch.rand_like(p) for n, p in model.named_parameters() if p.requires_grad}
    for D in (None, metric):
        K = wm.tangent_kernel(model, X, Z, metric=D)
        op = wm.kernel_operator(model, X, Z, metric=D)
        assert op.shape == K.shape
        v = torch.randn(K.shape[1], outputs, dtype=torch.float64)
        expected = torch.einsum("ijcd,jd->ic", K, v)
        torch.testing.assert_close(op @ v, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(op.matvec(v.reshape(-1)), expected.reshape(-1), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(op.to_dense(), K, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("with_metric", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_for_scipy_with_its_adjoint(other, with_metric):
    model, X, Z = problem("mlp-bias", 2, other)
    metric = {n: 0.5 + torch.rand_like(p) for n, p in model.named_parameters()} if with_metric else None
    K = to_matrix(wm.tangent_kernel(model, X, Z, metric=metric)).numpy()
    op = wm.kernel_operator(model, X, Z, metric=metric).to_scipy()
    assert op.shape == K.shape == ((8, 6) if other else (8, 8))
    rng = np.random.default_rng(0)
    v, w = rng.standard_normal(K.shape[1]), rng.standard_normal(K.shape[0])
    assert abs(op @ v - K @ v).max() < 1e-12
    assert abs(op.rmatvec(w) - K.T @ w).max() < 1e-12


def test_the_model_is_copied():
    model, X, _ = problem("mlp", 1, False)
    op, v = wm.kernel_operator(model, X), torch.ones(4, 1, dtype=torch.float64)
    before = op @ v
    with torch.no_grad():
        next(model.parameters()).mul_(2.0)
    assert torch.equal(op @ v, before)


def test_what_cannot_be_used():
    model, X, Z = problem("mlp", 2, True)
    with pytest.raises(InputError, match=r"matvec got shape \(3,\); expected \(3, 2\) or \(6,\)"):
        wm.kernel_operator(model, X, Z).matvec(torch.zeros(3))
    with pytest.raises(DataError, match=r"x2 is .*at least one row"):
        wm.kernel_operator(model, X, Z[:0])
    with pytest.raises(ModelError, match="positive and finite"):
        wm.kernel_operator(model, X, metric=dict.fromkeys(dict(model.named_parameters()), -1.0))

"""The spectrum of a kernel and what follows from it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import whichmin as wm
from whichmin.errors import InputError


def kernel(values, dtype=torch.float64):
    """A random kernel with these eigenvalues."""
    values = torch.as_tensor(values, dtype=torch.float64)
    g = torch.Generator().manual_seed(3)
    Q = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64, generator=g))[0]
    return ((Q * values) @ Q.T).to(dtype), Q


def test_a_known_kernel():
    K, _ = kernel([8.0, 4.0, 2.0, 1.0])
    found = wm.spectrum(K)
    torch.testing.assert_close(found.eigenvalues, torch.tensor([8.0, 4.0, 2.0, 1.0]).double(), rtol=1e-13, atol=0)
    torch.testing.assert_close((found.vectors * found.eigenvalues) @ found.vectors.T, K, rtol=0, atol=1e-13)
    assert found.gamma == 2 / 4
    assert found.rank == 4
    assert found.discarded == 0
    assert found.condition == pytest.approx(8)
    assert found.max_lr == pytest.approx(2 / (0.5 * 8))
    assert found.best_lr == pytest.approx(2 / (0.5 * 9))
    p = [8 / 15, 4 / 15, 2 / 15, 1 / 15]
    assert found.effective_rank == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)))


def test_a_singular_kernel():
    found = wm.spectrum(kernel([6.0, 2.0, 0.0, 0.0])[0])
    assert found.rank == 2
    assert found.eigenvalues[2:].tolist() == [0, 0]
    assert 0 <= found.discarded < 1e-14
    assert found.condition == math.inf
    assert found.best_lr == pytest.approx(2 / (0.5 * 8)), "the smallest eigenvalue that is not zero"
    assert found.effective_rank == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


@settings(deadline=None)
@given(n=st.integers(1, 12), scale=st.floats(1e-6, 1e6))
def test_the_identity(n, scale):
    found = wm.spectrum(scale * torch.eye(n, dtype=torch.float64))
    assert found.condition == pytest.approx(1)
    assert found.effective_rank == pytest.approx(n)
    assert found.rank == n
    assert found.max_lr == pytest.approx(n / scale)
    assert found.best_lr == pytest.approx(n / (2 * scale))


@settings(deadline=None)
@given(values=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=8))
def test_any_eigenvalues(values):
    found = wm.spectrum(kernel(values)[0])
    expected = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    torch.testing.assert_close(found.eigenvalues, expected, rtol=1e-9, atol=1e-12 * max(values))
    assert 1 - 1e-12 <= found.effective_rank <= len(values) + 1e-9
    assert found.best_lr < found.max_lr


def test_several_outputs_are_ordered_as_the_flat_outputs():
    model = wm.networks.MLP([4, 9, 3], dtype=torch.float64)
    X = torch.randn(5, 4, dtype=torch.float64)
    K = wm.tangent_kernel(model, X)
    found = wm.spectrum(K)
    assert found.gamma == 2 / 15
    J = torch.func.jacrev(lambda p: torch.func.functional_call(model, p, (X,)).reshape(-1))(
        dict(model.named_parameters())
    )
    J = torch.cat([j.reshape(15, -1) for j in J.values()], dim=1)
    torch.testing.assert_close((found.vectors * found.eigenvalues) @ found.vectors.T, J @ J.T, rtol=1e-10, atol=1e-10)


def test_the_limit_is_where_sgd_with_mseloss_starts_to_diverge():
    X, y = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    model = torch.nn.Linear(3, 2).double()
    found = wm.spectrum(wm.tangent_kernel(model, X))

    def end(lr):
        weights = torch.nn.Linear(3, 2).double()
        optimizer = torch.optim.SGD(weights.parameters(), lr=lr)
        for _ in range(3000):
            optimizer.zero_grad()
            loss = torch.nn.MSELoss()(weights(X), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    assert end(0.99 * found.max_lr) < 10
    assert end(1.01 * found.max_lr) > 1e6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_taken_for_zero_in_each_type(dtype):
    features = torch.randn(20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    found = wm.spectrum(features @ features.T)
    assert found.rank == 4
    assert 0 < found.discarded < 20 * torch.finfo(dtype).eps * float(found.eigenvalues[0])
    assert found.eigenvalues.dtype == torch.float64


@pytest.mark.parametrize(
    ("K", "message"),
    [
        (torch.eye(3)[:2], r"shape \(2, 3\); expected \(N, N, C, C\) or \(N, N\)"),
        (torch.ones(3), r"shape \(3,\)"),
        (torch.ones(2, 2, 3), r"shape \(2, 2, 3\)"),
        (torch.ones(2, 2, 3, 1), r"shape \(2, 2, 3, 1\)"),
        (torch.full((2, 2), float("nan")), "NaN or infinity"),
        (torch.zeros(3, 3), "the kernel is zero"),
        (torch.tensor([[1.0, 0.5], [0.1, 1.0]]), "not symmetric"),
        (-torch.eye(3), "kernel"),
    ],
)
def test_kernels_that_are_none(K, message):
    with pytest.raises(InputError, match=message):
        wm.spectrum(K)

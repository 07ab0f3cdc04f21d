"""The spectrum of a kernel and what follows from it."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import whichmin as wm
from whichmin.errors import InputError
from whichmin.kernels.modes import rank_cutoff, rounding_unit
from whichmin.kernels.spectrum import decompose


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("multiple", "rank"), [(0.5, 2), (1.0, 2), (5.0, 3), (20.0, 3)])
def test_the_rank_counts_eigenvalues_above_ten_rounding_units_of_the_largest(dtype, multiple, rank):
    largest, cutoff = 8.0, 10 * torch.finfo(dtype).eps * 8.0
    assert rank_cutoff(largest, torch.finfo(dtype).eps) == cutoff
    K = torch.diag(torch.tensor([1.0, largest, multiple * cutoff], dtype=dtype))
    found = wm.spectrum(K)
    assert found.rank == rank
    assert found.discarded == pytest.approx(multiple * cutoff if rank == 2 else 0.0, rel=1e-6, abs=0)
    assert decompose(K.double(), 1.0, torch.finfo(dtype).eps).rank == rank
    assert decompose(K.double(), 1.0, torch.finfo(torch.float64).eps).rank == (rank if dtype == torch.float64 else 3)


def test_what_is_discarded_is_the_largest_magnitude():
    found = wm.spectrum(torch.diag(torch.tensor([1.0, 1e-17, -3e-15], dtype=torch.float64)))
    assert found.discarded == pytest.approx(3e-15, rel=1e-9, abs=0)
    assert found.eigenvalues.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_rounding_unit_is_that_of_the_type(dtype):
    assert rounding_unit(dtype) == torch.finfo(dtype).eps
    assert rounding_unit(torch.int64) == torch.finfo(torch.float64).eps


def test_what_follows_from_the_eigenvectors():
    K, Q = kernel([6.0, 2.0, 0.0, 0.0])
    found, v = wm.spectrum(K), torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
    inverse, onto = torch.linalg.pinv(K, rtol=1e-10), Q[:, :2] @ Q[:, :2].T
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
    close(torch.from_numpy(found.solve(v.numpy())), inverse @ v)
    close(torch.from_numpy(found.apply(v.numpy())), K @ v)
    close(torch.from_numpy(found.kernel), K)
    close(torch.from_numpy(found.rotate_back(found.rotate(v.numpy()))), v)
    close(found.project(v), onto @ v)
    close(found.project(torch.stack([v, 2 * v], dim=1)), torch.stack([onto @ v, 2 * onto @ v], dim=1))


def test_a_change_is_suppressed_as_far_as_the_residual_was():
    K, Q = kernel([6.0, 2.0, 1.0, 0.0])
    found, change = wm.spectrum(K), torch.tensor([1.0, -2.0, 0.5, 3.0]).double()
    before = torch.tensor([2.0, -1.0, 4.0, 1.0]).double()
    left = torch.tensor([0.0, 0.25, -1.5, 1.0]).double()  # of each mode: all gone, a quarter left, grown, out of range
    c = torch.from_numpy(found.suppressed(change.numpy(), (Q @ before).numpy(), (Q @ (left * before)).numpy()))
    gone = torch.tensor([1.0, 0.75, 0.0, 0.0]).double()
    torch.testing.assert_close(K @ c, -Q @ (gone * (Q.T @ change)), rtol=0, atol=1e-12)


def test_a_change_that_comes_about_by_and_by_is_suppressed_from_each_time_on():
    K, Q = kernel([6.0, 2.0, 1.0])
    found, change = wm.spectrum(K), torch.tensor([1.0, -2.0, 0.5]).double()
    before = torch.tensor([[2.0, -1.0, 4.0], [1.0, 0.5, -4.0]]).double()
    after = torch.tensor([0.0, 0.25, 8.0]).double()
    residuals, shares = (before @ Q.T).numpy(), np.array([0.3, 0.7])
    c = torch.from_numpy(found.suppressed(change.numpy(), residuals, (Q @ after).numpy(), shares))
    gone = torch.tensor([1.0, 1.0 - (0.3 * 0.25 + 0.7 * 0.5), 0.0], dtype=torch.float64)
    torch.testing.assert_close(K @ c, -Q @ (gone * (Q.T @ change)), rtol=0, atol=1e-12)


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
        (-torch.eye(3), "not positive semidefinite"),
        (torch.diag(torch.tensor([1.0, 1.0, -1e-3])), r"not positive semidefinite: its smallest eigenvalue is -0.001"),
        (torch.ones(2, 2, dtype=torch.int64), "the kernel is torch.int64; expected a floating-point type"),
    ],
)
def test_kernels_that_are_none(K, message):
    with pytest.raises(InputError, match=message):
        wm.spectrum(K)

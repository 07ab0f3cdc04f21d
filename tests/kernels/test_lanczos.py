"""Lanczos spaces and Cholesky's factor against the eigendecomposition, in float64."""

import math

import numpy as np
import pytest
import torch

import whichmin as wm
from whichmin.errors import InputError, SingularKernelError
from whichmin.kernels.cholesky import Cholesky
from whichmin.kernels.lanczos import LanczosSpace
from whichmin.kernels.large import LargeSpectrum
from whichmin.kernels.spectrum import decompose, undecomposed

EPS = float(np.finfo(np.float64).eps)


def kernel(n=60, *, smallest=1e-4, rank=None, seed=0):
    """A kernel with eigenvalues from 1 down to the smallest, those beyond the rank zero."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    values = np.geomspace(1.0, smallest, n)
    values[n if rank is None else rank :] = 0.0
    return (Q * values) @ Q.T, values, Q


def large(K, eps=EPS):
    """A spectrum that is not decomposed."""
    return undecomposed(torch.from_numpy(K), 2.0 / len(K), eps, most=8)


@pytest.mark.parametrize("vectors", [1, 3])
def test_functions_of_a_kernel_act_in_a_space(vectors):
    K, values, Q = kernel()
    B = np.random.default_rng(1).standard_normal((vectors, len(K)))
    space = LanczosSpace.of(lambda v: K @ v, B, 45 * vectors)
    theta, S = np.linalg.eigh(space.projected)
    for b in B:
        expected = Q @ (np.exp(-20 * values) * (Q.T @ b))
        found = space.basis @ (S @ (np.exp(-20 * theta) * (S.T @ (b @ space.basis))))
        assert np.abs(found - expected).max() < 1e-12


def test_the_basis_is_orthonormal_and_the_defect_is_what_is_missed():
    K, _, _ = kernel(smallest=1e-9)
    b = np.random.default_rng(1).standard_normal((2, len(K)))
    space = LanczosSpace.of(lambda v: K @ v, b, 20)
    assert space.size == 20
    assert not space.is_invariant
    assert np.abs(space.basis.T @ space.basis - np.eye(20)).max() < 1e-13
    assert np.abs(space.projected - space.basis.T @ K @ space.basis).max() < 1e-13
    for y in np.eye(20):
        missed = K @ space.basis @ y - space.basis @ space.projected @ y
        assert abs(space.defect(y) - np.linalg.norm(missed)) < 1e-13
        assert np.abs(space.missed(y) - missed).max() < 1e-13


def test_a_space_that_is_invariant_says_so():
    K, _, Q = kernel(rank=5)
    space = LanczosSpace.of(lambda v: K @ v, np.stack([Q[:, 0] + Q[:, 3], 2 * Q[:, 3], np.zeros(len(K))]), 40)
    assert space.is_invariant
    assert space.size == 2
    assert space.defect(np.ones(2)) == 0


def test_growing_is_as_beginning_larger():
    K, _, _ = kernel()
    b = np.random.default_rng(1).standard_normal((1, len(K)))
    grown = LanczosSpace.of(lambda v: K @ v, b, 10).grown(lambda v: K @ v, 25)
    whole = LanczosSpace.of(lambda v: K @ v, b, 25)
    assert np.abs(grown.projected - whole.projected).max() < 1e-12


def test_cholesky_and_the_smallest_eigenvalue():
    K, values, _ = kernel()
    factor = Cholesky.of(torch.from_numpy(K))
    assert factor is not None
    v = np.random.default_rng(2).standard_normal((len(K), 3))
    assert np.abs(K @ factor.solve(v) - v).max() < 1e-11
    assert factor.smallest == pytest.approx(values[-1], rel=1e-3)
    assert Cholesky.of(torch.from_numpy(-K)) is None


def test_a_large_kernel_answers_as_a_decomposed_one():
    K, values, _ = kernel(80)
    small, big = decompose(torch.from_numpy(K), 2.0 / 80, EPS), large(K)
    assert isinstance(big, LargeSpectrum)
    assert not isinstance(small, LargeSpectrum)
    v = np.random.default_rng(3).standard_normal(80)
    after = np.exp(-3 * values)[::-1] * v
    assert np.abs(big.solve(v) - small.solve(v)).max() < 1e-9 * np.abs(small.solve(v)).max()
    assert torch.allclose(big.project(torch.from_numpy(v)), small.project(torch.from_numpy(v)), atol=1e-10)
    assert np.abs(big.outside(v)).max() < 1e-10
    assert torch.allclose(big.eigenvalues, small.eigenvalues, atol=1e-13)
    assert (big.largest, big.smallest, big.condition) == pytest.approx((small.largest, small.smallest, small.condition))
    assert abs(big.top_vector @ small.top_vector) == pytest.approx(1.0, abs=1e-9)
    assert (big.rank, big.max_lr, big.best_lr) == pytest.approx((small.rank, small.max_lr, small.best_lr))
    above = 0.5 * (small.eigenvalues[2] + small.eigenvalues[3])
    for spectrum in (small, big):
        found, Q = spectrum.above(float(above))
        assert found == pytest.approx(values[:3])
        assert np.abs(K @ Q - Q * found).max() < 1e-6
        assert not spectrum.above(2.0)[1].shape[1]
    change = np.random.default_rng(4).standard_normal(80)
    difference = np.abs(K @ (big.suppressed(change, v, after) - small.suppressed(change, v, after))).max()
    assert difference < 1e-5 * np.abs(change).max()


def test_a_large_singular_kernel_is_inverted_in_its_range(monkeypatch):
    K, _, _ = kernel(70, rank=30)
    small, big = decompose(torch.from_numpy(K), 2.0 / 70, EPS), large(K)
    v = np.random.default_rng(5).standard_normal((70, 2))
    assert big.rank == small.rank == 30
    assert np.abs(K @ (big.solve(v) - small.solve(v))).max() < 1e-9
    monkeypatch.setattr("whichmin.kernels.large.COMPLETE", 8)
    monkeypatch.setattr("whichmin.kernels.large.SHOWN", 8)  # nor are all its modes affordable
    assert not large(K).is_affordable
    assert np.abs(K @ (large(K).solve(v) - small.solve(v))).max() < 1e-9
    assert np.abs(large(K).outside(v[:, 0]) - small.outside(v[:, 0])).max() < 1e-9


@pytest.mark.parametrize("rank", [30, 70], ids=str)
def test_zeros_are_solved_too(monkeypatch, rank):
    """As of a network that starts at zero, beside other right-hand sides."""
    monkeypatch.setattr("whichmin.kernels.large.COMPLETE", 8)
    monkeypatch.setattr("whichmin.kernels.large.SHOWN", 8)
    K, _, _ = kernel(70, rank=rank)
    v = np.zeros((70, 2))
    assert not large(K).solve(v).any()
    v[:, 1] = K @ np.arange(70.0)
    found = large(K).solve(v)
    assert not found[:, 0].any()
    assert np.abs(K @ found[:, 1] - v[:, 1]).max() < 1e-9 * np.abs(v).max()


def test_more_modes_beyond_a_limit_than_are_told():
    K, values, _ = kernel(60, smallest=0.5)
    found, Q = large(K).above(0.6)
    assert len(found) == int((values > 0.6).sum()) > 32
    assert np.abs(K @ Q - Q * found).max() < 1e-6


def test_what_cannot_be_inverted_is_refused(monkeypatch):
    monkeypatch.setattr("whichmin.kernels.large.COMPLETE", 8)
    monkeypatch.setattr("whichmin.kernels.large.SHOWN", 8)
    monkeypatch.setattr("whichmin.kernels.large.LARGEST_SPACE", 30)
    K, _, _ = kernel(200, smallest=1e-17)
    with pytest.raises(SingularKernelError, match="cannot be inverted") as refused:
        large(K).solve(np.ones(200))
    assert "model.double()" not in str(refused.value), "it is double already"
    single = LargeSpectrum(torch.from_numpy(K).float(), 1.0, 2.0**-23)
    with pytest.raises(SingularKernelError, match=r"beyond 1e\+07.*model\.double\(\), conditions up to 6e\+15"):
        single.solve(np.ones(200))


def test_the_largest_eigenvalues_of_a_kernel_without_all(monkeypatch):
    monkeypatch.setattr("whichmin.kernels.large.COMPLETE", 8)
    monkeypatch.setattr("whichmin.kernels.large.SHOWN", 8)
    K, values, _ = kernel(300)
    found = large(K)
    assert len(found.eigenvalues) == len(found.vectors.T) == 32
    assert found.eigenvalues.numpy() == pytest.approx(values[:32], abs=1e-9)
    assert found.smallest == pytest.approx(values[-1], rel=1e-3)
    assert found.rank == 300
    assert found.discarded == 0
    p = values / values.sum()
    exact = math.exp(-float((p * np.log(p)).sum()))
    assert abs(found.effective_rank - exact) < 4 * found.effective_rank_error < 0.2 * exact


def test_a_matrix_that_is_not_positive_is_refused_at_any_size():
    K, _, Q = kernel(60)
    bad = K - 2.0 * np.outer(Q[:, 7], Q[:, 7])
    with pytest.raises(InputError, match=r"not positive semidefinite: its smallest eigenvalue is -1\."):
        decompose(torch.from_numpy(bad), 1.0, EPS)
    with pytest.raises(InputError, match="not positive semidefinite"):
        _ = large(bad).largest


def test_products_block_by_block(monkeypatch):
    K, _, _ = kernel(70)
    single = torch.from_numpy(K).float()
    monkeypatch.setattr("whichmin.kernels.large.HELD", 8)
    monkeypatch.setattr("whichmin.kernels.large.ROWS", 16)
    v = np.random.default_rng(6).standard_normal((70, 2))
    assert np.abs(LargeSpectrum(single, 1.0, 1e-7).apply(v) - single.double().numpy() @ v).max() < 1e-14


def test_spectrum_of_a_large_kernel_is_public(monkeypatch):
    for module in ("large", "spectrum"):
        monkeypatch.setattr(f"whichmin.kernels.{module}.COMPLETE", 8)
    monkeypatch.setattr("whichmin.kernels.large.SHOWN", 8)
    K, values, _ = kernel(60)
    found = wm.spectrum(K)
    assert found.eigenvalues.numpy() == pytest.approx(values[:32], abs=1e-9)
    assert found.max_lr == pytest.approx(2.0 / (2.0 / 60 * values[0]))

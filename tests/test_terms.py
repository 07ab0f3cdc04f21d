"""The interpolator and the terms beside their formulas with dense pseudo-inverses."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from oracles.finite_networks import normal
from whichmin.kernels.spectrum import decompose
from whichmin.terms import LINEARIZED_TERMS, Interpolator, linearized_terms

close = partial(torch.testing.assert_close, rtol=0, atol=1e-11)


def interpolator(rank=6, metric=None):
    """A of random features on six training and four test rows, and the same as a matrix."""
    J, J_test = normal(6, rank) @ normal(rank, 20, seed=1), normal(4, 20, seed=2)
    D = torch.ones(20).double() if metric is None else metric
    K, cross = (J * D) @ J.T, (J_test * D) @ J.T
    return Interpolator(cross, decompose(K, 2 / 6, torch.finfo(torch.float64).eps)), cross @ torch.linalg.pinv(
        K, rtol=1e-10, hermitian=True
    )


@pytest.mark.parametrize("rank", [6, 4])
def test_the_interpolator_is_the_cross_kernel_times_the_pseudo_inverse(rank):
    A, matrix = interpolator(rank)
    v, columns = normal(6, seed=3), normal(6, 3, seed=4)
    close(A(v), matrix @ v)
    close(A(columns), matrix @ columns)
    part = torch.linspace(1, 0, 6).double()
    Q = A.spectrum.vectors
    close(A.filtered(part), matrix @ Q @ torch.diag(part) @ Q.T)
    close(A.filtered(torch.ones(6).double()), matrix)


VECTORS = {"y": normal(6, seed=5), "f0": normal(6, seed=6), "f0_test": normal(4, seed=7), "train": normal(6, seed=8)}
TEST, DECAY = normal(4, seed=9), (normal(6, seed=10), normal(4, seed=11))
METRIC = torch.linspace(0.1, 3, 20).double()


@pytest.mark.parametrize("with_metric", [False, True])
@pytest.mark.parametrize("decay", [None, DECAY])
@pytest.mark.parametrize("rank", [6, 4])
def test_each_term_is_its_formula(with_metric, decay, rank):
    plain, A = interpolator(rank)
    in_metric, A_D = interpolator(rank, METRIC) if with_metric else (None, A)
    y, f0, f0_test, train = VECTORS.values()
    terms = linearized_terms(plain, **VECTORS, in_metric=in_metric, decay=decay)
    expected = {
        "interpolant": A @ y,
        "initialization": f0_test - A @ f0,
        "unconverged": A @ (train - y),
    }
    if with_metric:
        expected["geometry"] = (A_D - A) @ (train - f0)
    if decay is not None:
        expected["decay"] = decay[1] - A_D @ decay[0]
    assert terms.keys() == expected.keys()
    assert list(terms) == [name for name in LINEARIZED_TERMS if name in terms]
    for name, term in expected.items():
        close(terms[name], term)


@pytest.mark.parametrize("remainder", ["history", "unconverged", "geometry"])
@pytest.mark.parametrize("with_metric", [False, True])
def test_the_remainder_is_the_rest_and_the_others_are_their_formulas(remainder, with_metric):
    plain, _ = interpolator()
    in_metric = interpolator(metric=METRIC)[0] if with_metric else None
    bare = linearized_terms(plain, **VECTORS, in_metric=in_metric, decay=DECAY)
    terms = linearized_terms(plain, **VECTORS, in_metric=in_metric, decay=DECAY, test=TEST, remainder=remainder)
    close(sum(terms.values()), TEST)
    assert terms.keys() == bare.keys() | {remainder}
    assert list(terms) == [name for name in LINEARIZED_TERMS if name in terms]
    for name in bare.keys() - {remainder}:
        close(terms[name], bare[name])


def test_of_a_linearized_network_nothing_is_left_over():
    plain, A = interpolator()
    _, f0, f0_test, train = VECTORS.values()
    terms = linearized_terms(plain, **VECTORS, test=f0_test + A @ (train - f0))
    close(terms["history"], torch.zeros(4).double())

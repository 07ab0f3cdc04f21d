"""Initializations have the properties that they are named for."""

import pytest
import torch

from oracles.linear_networks import problem
from whichmin import linear


def test_entries_have_the_variance_of_the_exponent():
    for a in (0.3, 0.5):
        U, V = linear.initialize(40, 500, 20, exponent=a)
        assert float(U.std()) == pytest.approx(500**-a, rel=0.02)
        assert float(V.std()) == pytest.approx(500**-a, rel=0.02)


def test_a_seed_is_a_network():
    one, same, other = (linear.initialize(4, 5, 2, seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("h", "m"), [(20, 3), (20, 8), (2, 3)])
def test_balanced_has_no_imbalance(h, m):
    _, _, X, Y = problem(d=9, h=5, m=m, points=4, rank=4)
    U, V = linear.initialize(9, h, m, X=X, balanced=True)
    known = linear.analyze_weights(U, V, X, Y)
    assert float(known.imbalance.abs().max()) < 1e-13
    assert known.imbalance_level == 0
    assert known.invariant_distance > 0
    U, V = linear.initialize(9, h, m, balanced=True)
    torch.testing.assert_close(U.T @ U, V.T @ V)


@pytest.mark.parametrize("h", [3, 7, 40])
def test_orthogonal_is_on_the_set_and_near_is_at_its_distance(h):
    _, _, X, Y = problem(d=9, h=5, m=2, points=4, rank=4)
    U, V = linear.initialize(9, h, 2, X=X, orthogonal=True)
    assert linear.analyze_weights(U, V, X, Y).on_invariant_set
    plain, _ = linear.initialize(9, h, 2)
    torch.testing.assert_close(X @ U, X @ plain)
    for near in (1e-8, 1e-3, 5.0):
        U, V = linear.initialize(9, h, 2, X=X, near=near)
        known = linear.analyze_weights(U, V, X, Y)
        assert known.invariant_distance == pytest.approx(near, rel=1e-6 if near < 1e-6 else 1e-10)
        assert not known.on_invariant_set


def test_balanced_and_orthogonal_go_together():
    _, _, X, Y = problem(d=9, h=5, m=2, points=4, rank=4)
    known = linear.analyze_weights(*linear.initialize(9, 20, 2, X=X, balanced=True, orthogonal=True), X, Y)
    assert known.on_invariant_set
    assert known.imbalance_level == 0


def test_full_column_rank_is_always_on_the_set():
    _, _, X, Y = problem(d=4, h=5, m=2, points=9, rank=4)
    assert linear.analyze_weights(*linear.initialize(4, 20, 2, X=X, orthogonal=True), X, Y).on_invariant_set

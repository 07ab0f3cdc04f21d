"""The guaranteed rates and the bounds on loss and travel against their formulas, evaluated another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

from oracles.linear_networks import problem
from whichmin.linear import _checks, imbalance
from whichmin.linear._problem import pose, reduce
from whichmin.linear.loss_bounds import LossBounds


def posed(d, h, m, points, *, spread=1.0, size=1.0, seed=0):
    """Bounds of a random problem whose inputs have singular values from 1 to ``spread``, and what they are made of."""
    U, V, X, Y = problem(d=d, h=h, m=m, points=points, rank=min(d, points), size=size, seed=seed)
    left, sigma, right = np.linalg.svd(X.numpy(), full_matrices=False)
    sigma = np.geomspace(spread, 1.0, len(sigma))
    data = _checks.data((left * sigma) @ right, Y)
    diagonal = pose(data)
    network = reduce(diagonal, *_checks.network(U, V, data))
    eigenvalues = imbalance.spectrum(diagonal, network.state, h)
    levels = imbalance.levels(diagonal, network.state, eigenvalues)
    return LossBounds(diagonal, levels, float(diagonal.gap(network.state))), left.T @ Y.numpy(), sigma, eigenvalues


def guaranteed(y, A, sigma, eigenvalues):
    """2σ_n² s(y), written out, and which of the two bounds on the product's singular value was the larger."""
    n, m = A.shape
    k, h = min(n, m) - 1, len(eigenvalues)
    by_targets = (np.linalg.svd(A)[1][k] - math.sqrt(2 * y)) / sigma[0]
    by_solution = np.linalg.svd(A / sigma[:, None])[1][k] - math.sqrt(2 * y) / sigma[-1]
    product = max(by_targets, by_solution, 0.0)

    def root(level, opposite, value):
        return (level - opposite + math.sqrt((level + opposite) ** 2 + 4 * value**2)) / 2

    upper, lower = max(eigenvalues[n - 1], 0.0), max(-eigenvalues[h - m], 0.0)
    top, bottom = max(eigenvalues[0], 0.0), max(-eigenvalues[-1], 0.0)
    s = root(upper, bottom, product if n <= m else 0.0) + root(lower, top, product if m <= n else 0.0)
    return 2 * sigma[-1] ** 2 * s, "targets" if by_targets == product else "solution" if product > 0 else "neither"


@pytest.mark.parametrize(("m", "points"), [(3, 3), (2, 4), (4, 2)])
def test_the_rates_are_their_formula(m, points):
    larger = set()
    for spread in (1.0, 3.0, 30.0):
        bounds, *parts = posed(6, 8, m, points, spread=spread, size=3.0)
        for y in np.geomspace(1e-6, 10 * bounds.gap, 25):
            rate, which = guaranteed(y, *parts)
            larger.add(which)
            assert float(bounds.rate_from(y)) == pytest.approx(rate, rel=1e-10)
    assert larger == {"targets", "solution", "neither"}


def test_the_loss_falls_as_fast_as_the_rates_allow():
    """The bound is that of dy/dt = −rate(y)·y, up to the steps in which the rate is taken."""
    bounds, *_ = posed(6, 8, 2, 3, size=0.5)
    times = np.linspace(0, 3 / float(bounds.rate_from(bounds.gap)), 30)
    run = solve_ivp(
        lambda _, y: -bounds.rate_from(y) * y, (0, times[-1]), [bounds.gap], "DOP853", times, rtol=1e-10, atol=0
    )
    bound = bounds.gap_bound(times)
    assert bound[0] == bounds.gap
    np.testing.assert_allclose(bound, run.y[0], rtol=0.05)
    assert (bound >= run.y[0] * (1 - 1e-9)).all(), "rates are rounded down"
    assert (np.diff(bound) < 0).all()


def test_the_travel_is_the_integral():
    bounds, _, sigma, _ = posed(6, 8, 2, 3, spread=2.0)

    def slowness(root):  # with y = root², dy/√(2y) = √2 d root
        return math.sqrt(2) * 2 * sigma[-1] / float(bounds.rate_from(root**2))

    exact, _ = quad(slowness, 0, math.sqrt(bounds.gap), limit=200)
    assert exact <= bounds.travel() <= 1.02 * exact

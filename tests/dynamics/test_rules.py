"""The closed forms mode by mode, and the search for a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whichmin.dynamics.gradient_descent import GradientDescent
from whichmin.dynamics.search import first_time


@settings(deadline=None)
@given(z=st.floats(1e-12, 1.999), t=st.integers(0, 60))
def test_a_mode_of_descent(z, t):
    modes = GradientDescent(1.0).modes(np.array([z]), 1.0)
    x, phi = 1.0, 0.0
    for _ in range(t):
        x, phi = (1 - z) * x, phi + x
    assert modes.residual(t)[0] == pytest.approx(x, rel=1e-10, abs=1e-14)
    assert modes.coefficient(t)[0] == pytest.approx(phi, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("z", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("t", [1, 2, 3, 10, 11])
def test_a_mode_that_overshoots(z, t):
    modes = GradientDescent(1.0).modes(np.array([z]), 1.0)
    assert modes.residual(t)[0] == pytest.approx((1 - z) ** t, abs=1e-15)


@settings(deadline=None)
@given(z=st.floats(1e-12, 1e3), t=st.floats(0, 1e6))
def test_a_mode_of_flow(z, t):
    modes = GradientDescent(1.0, flow=True).modes(np.array([z]), 1.0)
    assert modes.residual(t)[0] == pytest.approx(math.exp(-z * t), rel=1e-9, abs=1e-300)
    assert modes.coefficient(t)[0] == pytest.approx(-math.expm1(-z * t) / z, rel=1e-9)


def test_a_mode_of_eigenvalue_zero_never_moves():
    for flow in (False, True):
        modes = GradientDescent(0.1, flow).modes(np.array([2.0, 0.0]), 1.0)
        for t in (0, 1, 50, math.inf):
            assert modes.residual(t)[1] == 1
            assert modes.coefficient(t)[1] == 0


def test_the_limit_of_time():
    modes = GradientDescent(0.1).modes(np.array([4.0, 2.0]), 1.0)
    assert modes.residual(math.inf).tolist() == [0, 0]
    assert modes.coefficient(math.inf).tolist() == [0.25, 0.5]
    assert modes.residual(0).tolist() == [1, 1]
    assert modes.coefficient(0).tolist() == [0, 0]


def test_the_limit_of_stability():
    assert GradientDescent(0.1).limit(4.0, 0.5) == 1.0
    assert GradientDescent(0.1, flow=True).limit(4.0, 0.5) == math.inf


@settings(deadline=None)
@given(k=st.integers(1, 10**12))
def test_the_first_whole_step(k):
    assert first_time(lambda t: t >= k, flow=False) == k


@settings(deadline=None)
@given(t=st.floats(1e-9, 1e12))
def test_the_first_moment(t):
    assert first_time(lambda s: s >= t, flow=True) == pytest.approx(t, rel=2e-9)


def test_what_never_happens():
    assert first_time(lambda _: False, flow=False) == math.inf
    assert first_time(lambda _: False, flow=True) == math.inf

"""Motions in Lanczos spaces against those in all modes of the kernel."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from oracles.frozen import COURSES, DECAYED, LR, RULES, SGD, rule
from whichmin.dynamics.motion.lanczos import LanczosMotion
from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.rules.registry import rule_of
from whichmin.errors import SingularKernelError
from whichmin.kernels.spectrum import undecomposed
from whichmin.losses import MeanSquaredError
from whichmin.optimizers import Nesterov

N = 150
EVERY = pytest.mark.parametrize("name", RULES | DECAYED)


@pytest.fixture(autouse=True)
def small_spaces(monkeypatch):
    """Spaces begin small, so that they have to grow, and are used however large they get."""
    monkeypatch.setattr("whichmin.dynamics.motion.lanczos.FIRST_SPACE", 4)
    monkeypatch.setattr("whichmin.dynamics.motion.lanczos.PART", 1.0)


def start_of(rule, *, most, seed=0, moving=False, smallest=1e-3, rank=N):
    """From rest, or in motion: (N,) outputs, λ_max γ = 1.6."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((N, N)))[0]
    values = np.geomspace(1.0, smallest, N) * 1.6 * N / 2
    values[rank:] = 0
    J = Q * np.sqrt(values)
    spectrum = undecomposed(torch.from_numpy(J @ J.T), 2.0 / N, float(np.finfo(np.float64).eps), most)
    objective = MeanSquaredError().objective(torch.zeros(N, 1, dtype=torch.float64), 1)
    state = rng.standard_normal((1 + rule.state_vectors, N)) * (1.0 if moving else 0.0)
    state[0] = rng.standard_normal(N) if rule.weight_decay else 0.0
    gram = state[1:] @ state[1:].T
    return Start(spectrum, objective, rng.standard_normal(N), 7.0 * moving, state @ J.T, gram)


def pair(described, **given):
    """The motion in all modes and in a Lanczos space."""
    dense, large = (described.motion(start_of(described, most=most, **given)) for most in (10**6, 8))
    assert isinstance(large, LanczosMotion)
    assert not isinstance(dense, LanczosMotion)
    return dense, large


def assert_alike(dense, large, times, tolerance=1e-10):
    for t in times:
        scale = np.abs(dense.start.residual).max()
        assert np.abs(dense.residual(t) - large.residual(t)).max() < tolerance * scale
        K = dense.start.spectrum.matrix
        moved = dense.coefficients(t)[0]
        assert np.abs(K @ (moved - large.coefficients(t)[0])).max() < tolerance * max(1, np.abs(K @ moved).max())
        assert np.abs(dense.weights(t) - large.weights(t)).max() < tolerance
        assert large.loss(t) == pytest.approx(dense.loss(t), rel=1e-8, abs=1e-20)
        assert large.displacement(t) == pytest.approx(dense.displacement(t), rel=1e-8, abs=1e-10)


@EVERY
@pytest.mark.parametrize("course", ["full", "scheduled"])
@pytest.mark.parametrize("moving", [False, True])
def test_it_is_the_motion_of_all_modes(name, course, moving):
    dense, large = pair(rule((RULES | DECAYED)[name], course), moving=moving)
    assert_alike(dense, large, (60, 0, 1, 5, 200, 33))


@pytest.mark.parametrize("factory", [SGD, partial(SGD, momentum=0.9), partial(Nesterov, lr=LR)], ids=repr)
def test_flows(factory):
    described = rule_of(factory([nn.Parameter(torch.ones(1))]), flow=True)
    assert_alike(*pair(described), (0.0, 0.3, 7.5, 40.0))


@pytest.mark.parametrize("name", RULES)
def test_the_first_time_below_a_loss(name):
    dense, large = pair(rule(RULES[name]))
    for part in (0.7, 0.1):
        until = part * dense.loss(0)
        assert large.first_below(until) == dense.first_below(until)
    assert large.first_below(1e-300) == dense.first_below(1e-300)


def test_where_nothing_moves():
    described = rule(RULES["heavy ball"])
    start = start_of(described, most=8)
    motion = described.motion(replace(start, residual=np.zeros(N)))
    assert isinstance(motion, LanczosMotion)
    for t in (0, 5, math.inf):
        assert not motion.residual(t).any()
        assert not motion.coefficients(t).any()
    assert motion.displacement(5) == 0
    assert not start.spectrum.suppressed(np.zeros(N), start.residual, start.residual).any()


def test_lengths():
    dense, large = pair(rule(RULES["heavy ball"]), moving=True)
    for found, expected in zip(large.travelled(100.0), dense.travelled(100.0), strict=True):
        assert found == pytest.approx(expected, rel=1e-9)
    length = dense.travelled(100.0)[1][-1] / 3
    assert large.first_travelled(length, 100.0, None) == dense.first_travelled(length, 100.0, None)
    assert large.first_moved(length / 3, 100.0, False) == dense.first_moved(length / 3, 100.0, False)


@pytest.mark.parametrize("name", RULES)
def test_the_limit(name):
    dense, large = pair(rule(RULES[name]), rank=100)
    assert_alike(dense, large, (math.inf,), 1e-9)
    unseen = dense.start.spectrum.outside(dense.start.residual)
    assert np.abs(large.residual(math.inf) - unseen).max() < 1e-8


@pytest.mark.parametrize("name", RULES)
def test_modes_beyond_the_limit_of_stability(name):
    """They are damped, in batches too."""
    for course in COURSES:
        described = rule(RULES[name], course)
        starts = [start_of(described, most=most) for most in (10**6, 8)]
        factor = 3.0 * described.largest_stable(0, 2.0 / N) / starts[0].spectrum.largest
        spectra = [undecomposed(factor * starts[0].spectrum.of, 2.0 / N, 2e-16, most) for most in (10**6, 8)]
        raised = [replace(s, spectrum=spectrum) for s, spectrum in zip(starts, spectra, strict=True)]
        if course in ("batches", "both"):
            half = lambda k: np.arange(N)[k % 2 :: 2]  # noqa: E731
            described = replace(described, schedule=replace(described.schedule, batches=half))
        dense, large = (described.motion(s) for s in raised)
        assert np.abs(dense.residual(6) - large.residual(6)).max() < 1e-9 * np.abs(dense.residual(6)).max()


def test_where_a_space_is_a_large_part_of_all_modes_these_are_used(monkeypatch):
    monkeypatch.setattr("whichmin.dynamics.motion.lanczos.PART", 0.1)
    dense, large = pair(rule(RULES["descent"]), smallest=1e-8)
    assert_alike(dense, large, (10**6,), 1e-12)
    assert large._space is None


def test_what_no_space_holds_is_refused(monkeypatch):
    monkeypatch.setattr("whichmin.dynamics.motion.lanczos.LARGEST_SPACE", 30)
    _, large = pair(rule(RULES["descent"]), smallest=1e-8)
    large.residual(10)
    with pytest.raises(SingularKernelError, match=r"1e\+09 steps .* misses"):
        large.residual(10**9)

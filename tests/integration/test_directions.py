"""Losses without a finite minimizer: training of linear features diverges in the direction of a largest margin."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

import whichmin as wm

DECADES = (100, 1_000, 10_000, 100_000)


def features(n, outputs, parameters, seed):
    """J, (n, C, P), class numbers, and the largest-margin θ̂, (P,)."""
    generator = np.random.default_rng(seed)
    J = generator.standard_normal((n, outputs, parameters))
    y = np.arange(n) % max(outputs, 2)
    K = torch.from_numpy(np.einsum("iap,jbp->ijab", J, J))
    found = wm.minimizers.max_margin(K, K, torch.from_numpy(y))
    return J, y, np.einsum("icp,ic->p", J, found.coefficients.numpy())


def gradient(J, y):
    """∇L(θ) of the mean cross-entropy of C outputs, or logistic loss of one."""
    n, outputs, parameters = J.shape
    F = J.reshape(n * outputs, parameters)
    if outputs == 1:
        return lambda theta: F.T @ (1 / (1 + np.exp(-(F @ theta))) - y) / n
    hot = np.eye(outputs)[y]

    def of(theta):
        p = np.exp((F @ theta).reshape(n, outputs))
        return F.T @ (p / p.sum(axis=1, keepdims=True) - hot).ravel() / n

    return of


def descend(gradient, theta, rate, decades=DECADES):
    """θ after each of these numbers of steps of gradient descent."""
    passed = []
    for step in range(1, decades[-1] + 1):
        theta = theta - rate * gradient(theta)
        if step in decades:
            passed.append(theta)
    return passed


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("outputs", "parameters", "seed"), [(1, 20, 1), (3, 30, 3)])
def test_gradient_descent_diverges_along_the_largest_margin(outputs, parameters, seed):
    J, y, separator = features(12, outputs, parameters, seed)
    F = J.reshape(-1, parameters)
    rate = 4 * len(J) / np.linalg.norm(F, 2) ** 2
    start = 0.5 * np.random.default_rng(2).standard_normal(parameters)
    passed = descend(gradient(J, y), start, rate)
    cosines = [cosine(theta, separator) for theta in passed]
    assert all(a < b for a, b in pairwise(cosines)), cosines
    assert cosines[-1] > 0.98, cosines
    # θ_t = θ̂ log t + what stays bounded, so that every decade adds θ̂ log 10, the more exactly the later it is.
    added = [(b - a) / math.log(10) for a, b in pairwise(passed)]
    apart = [np.linalg.norm(each - separator) / np.linalg.norm(separator) for each in added]
    assert all(b < a for a, b in pairwise(apart)), apart
    assert apart[-1] < 0.02, apart


def largest_in_the_largest_coordinate(D):
    """The direction θ, (P,), of the largest min(Dθ)/‖θ‖_∞, and that margin, by a linear program."""
    m, p = D.shape
    identity, one = np.eye(p), np.ones((p, 1))
    answer = linprog(
        np.r_[np.zeros(p), 1.0],
        A_ub=np.block([[-D, np.zeros((m, 1))], [identity, -one], [-identity, -one]]),
        b_ub=np.r_[-np.ones(m), np.zeros(2 * p)],
        bounds=[(None, None)] * p + [(0, None)],
    )
    return answer.x[:p], 1.0 / answer.x[-1]


def test_adam_without_epsilon_goes_for_the_margin_in_the_largest_coordinate():
    generator = np.random.default_rng(3)
    J = generator.standard_normal((12, 6))
    y = (J @ generator.standard_normal(6) > 0).astype(np.int64)
    D = (2 * y - 1)[:, None] * J
    direction, largest = largest_in_the_largest_coordinate(D)
    K = torch.from_numpy(J @ J.T)
    separator = J.T @ wm.minimizers.max_margin(K, K, torch.from_numpy(y)).coefficients[:, 0].numpy()

    def margin(theta):
        return float((D @ theta).min() / np.abs(theta).max()) / largest

    parameter = torch.zeros(6, dtype=torch.float64)
    optimizer = torch.optim.Adam([parameter], lr=0.3, betas=(0.9, 0.95), eps=0.0)
    slope, passed = gradient(J[:, None], y), []
    for step in range(1, 3_001):
        optimizer.param_groups[0]["lr"] = 0.3 / math.sqrt(step)
        parameter.grad = torch.from_numpy(slope(parameter.numpy()))
        optimizer.step()
        if step in (30, 300, 3_000):
            passed.append(parameter.numpy().copy())
    margins, cosines = [margin(theta) for theta in passed], [cosine(theta, direction) for theta in passed]
    assert all(a < b for a, b in pairwise(margins)), margins
    assert all(a < b for a, b in pairwise(cosines)), cosines
    assert 0.95 < margins[-1] <= 1, margins
    assert cosines[-1] > 0.998, cosines
    assert margin(separator) < 0.9, "the direction of gradient descent is another one"
    assert cosine(passed[-1], separator) < 0.99

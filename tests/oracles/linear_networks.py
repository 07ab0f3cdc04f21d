"""Random problems for the tests of linear networks."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from whichmin import linear
from whichmin.linear import initialize


def problem(d, h, m, points, rank, condition=4.0, size=1.0, exponent=0.5, seed=0, balanced=False):
    """(U, V, X, Y): data of the given rank and condition number, targets of the given size, a random network."""
    generator = np.random.default_rng(seed)
    rank = min(rank, points, d)
    left, _ = np.linalg.qr(generator.standard_normal((points, rank)))
    right, _ = np.linalg.qr(generator.standard_normal((d, rank)))
    X = (left * np.exp(generator.uniform(0, np.log(condition), rank))) @ right.T
    Y = size * generator.standard_normal((points, m))
    U, V = initialize(d, h, m, X=X, exponent=exponent, seed=seed + 1, balanced=balanced)
    return U, V, torch.as_tensor(X), torch.as_tensor(Y)


@cache
def study() -> linear.LinearStudy:
    """A study with all its parts, made once for all tests; nobody may change it."""
    return linear.study(*linear.example(4, 9, 2), width=40, widths=(20, 40, 80), exponents=(0.4, 0.5), seeds=2)


@cache
def study_without_sweep() -> linear.LinearStudy:
    """More points than inputs: the minimizer is unique, and no width matters."""
    return linear.study(*linear.example(12, 4, 1), width=10, widths=(20, 40))

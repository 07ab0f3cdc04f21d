"""Whether two ways to train differ systematically: a permutation test on differences at the same initialization.

d_s(x) = f_A,s(x) − f_B,s(x) is the difference at initialization s, and E d the systematic difference. Its mean square
is estimated without bias by products of different initializations, T = mean over s ≠ s' of ⟨d_s, d_s'⟩, ⟨·,·⟩ the mean
over test points and outputs. Where A and B are exchangeable at every initialization, d_s and −d_s have one law, and T
is as likely as that of any other signs ε_s d_s: p is the share of sign patterns whose T is no smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: The most seeds whose sign patterns are all enumerated, 2^(S−1) of them; beyond, so many are drawn.
EXACT = 15
DRAWN = 9_999


@dataclass(frozen=True)
class Estimate:
    """A mean over initializations with its confidence interval (Student's t); bounds are nan for a single one."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Array, level: float) -> Estimate:
        """Of coverage 1 − ``level``; of the values that are finite."""
        from scipy.special import stdtrit

        values = values[np.isfinite(values)]
        if len(values) == 0:
            return cls(math.nan, math.nan, math.nan)
        mean = float(values.mean())
        if len(values) < 2:
            return cls(mean, math.nan, math.nan)
        half = float(stdtrit(len(values) - 1, 1 - level / 2) * values.std(ddof=1) / math.sqrt(len(values)))
        return cls(mean, mean - half, mean + half)

    def within(self, low: float, high: float) -> Estimate:
        """With bounds that are no further out than what is possible."""
        return Estimate(self.mean, *(float(np.clip(bound, low, high)) for bound in (self.low, self.high)))


@dataclass(frozen=True)
class Effect:
    """What the difference of two ways to train amounts to, over the S initializations that both have.

    All but ``p``, ``flips`` and ``seeds`` are root mean squares over test points and outputs, in the outputs' units.

    Attributes:
        rms_distance: between the two minimizers of one initialization: mean and confidence interval.
        systematic: √max(T, 0), the size of the difference that all initializations share.
        error: √(e_A² + e_B²), what the predictions may be off by; 0 for trained networks.
        seed_std: standard deviation over initializations of one way's outputs, the two ways averaged.
        p: the share of sign patterns with as large a T; at least ``smallest_p``.
        flips: share of test points that the two decide differently, mean over initializations.
        seeds: S.
        level: the level that p is held against.
    """

    rms_distance: Estimate
    systematic: float
    error: float
    seed_std: float
    p: float
    flips: float
    seeds: int
    level: float

    @property
    def significant(self) -> bool | None:
        """Whether p ≤ level and systematic > error; None where S is too small for p to come down to the level."""
        if not self.systematic > self.error:
            return False
        return None if smallest_p(self.seeds) > self.level else self.p <= self.level


def smallest_p(seeds: int) -> float:
    """The smallest p that the test can give: 2^−(S−1), or 1/10,000 where signs are drawn."""
    return 2.0 ** (1 - seeds) if seeds <= EXACT else 1 / (DRAWN + 1)


def least_seeds(level: float) -> int:
    """The fewest initializations with which p can come down to a level."""
    return max(2, 1 + math.ceil(-math.log2(level) - 1e-9))


def systematic_difference(differences: Array) -> tuple[float, float]:
    """T, the unbiased estimate of the mean square of E d, and p.

    Args:
        differences: d_s, (S, M), S ≥ 2.

    Cost: 2^(S−1)·S² operations for S ≤ 15, and 9,999·S² beyond, with signs from a generator of a fixed seed.
    """
    count = len(differences)
    gram = differences @ differences.T / differences.shape[1]
    own = float(np.trace(gram))

    def statistic(signs: NDArray[Any]) -> NDArray[Any]:
        return (np.einsum("ks,ks->k", signs @ gram, signs) - own) / (count * (count - 1))

    T = float(statistic(np.ones((1, count)))[0])
    as_large = T - 1e-12 * own  # ties are ties in spite of rounding
    if count <= EXACT:
        at_least = int((statistic(_all_signs(count)) >= as_large).sum())
        return T, at_least / 2 ** (count - 1)
    signs = np.random.default_rng(0).integers(0, 2, (DRAWN, count)) * 2.0 - 1.0
    return T, (1 + int((statistic(signs) >= as_large).sum())) / (DRAWN + 1)


def _all_signs(count: int) -> Array:
    """Every sign pattern, up to a common sign: (2^(count−1), count)."""
    patterns = np.arange(2 ** (count - 1))[:, None] >> np.arange(count) & 1
    return 1.0 - 2.0 * patterns


def effect_of(
    one: Array, other: Array, error: float, level: float, labels: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Effect:
    """The effect between outputs (S, n, C) of the same initializations, decided as ``labels`` (S, n) say."""
    count = len(one)
    differences = (one - other).reshape(count, -1)
    squared, p = systematic_difference(differences)
    variance = (one.var(axis=0, ddof=1).mean() + other.var(axis=0, ddof=1).mean()) / 2
    return Effect(
        Estimate.of(np.sqrt(np.square(differences).mean(axis=1)), level),
        math.sqrt(max(squared, 0.0)),
        error,
        math.sqrt(float(variance)),
        p,
        float((labels[0] != labels[1]).mean()),
        count,
        level,
    )

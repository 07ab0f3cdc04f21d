"""Whether two ways to train reach different minimizers: from the same initialization, and beyond the initialization.

d_s(x) = f_A,s(x) − f_B,s(x) is the difference at initialization s, of size D_s = √⟨d_s, d_s⟩, ⟨·,·⟩ the mean over test
points and outputs, and e_s what both outputs may be off by.

*Paired*: do A and B reach different minimizers from the same initialization? Student's t, one-sided, of D_s − e_s over
the initializations; d_s may point anywhere at each of them.

*Systematic*: do they differ beyond the initialization, in what all initializations share, E d? Its mean square is
estimated without bias by products of different initializations, T = mean over s ≠ s' of ⟨d_s, d_s'⟩. Where A and B are
exchangeable at every initialization, d_s and −d_s have one law, and T is as likely as that of any other signs ε_s d_s:
p is the share of sign patterns whose T is no smaller. Its standard error is the jackknife's over initializations.

Of several pairs each question's p are corrected by Holm's step-down procedure, which keeps the chance that any of the
pairs without a difference is called significant below the level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

    @classmethod
    def of_square(cls, square: float, scatter: float, count: int, level: float) -> Estimate:
        """Of √max(T, 0), from T and its standard error over ``count`` initializations."""
        from scipy.special import stdtrit

        half = float(stdtrit(count - 1, 1 - level / 2)) * scatter
        low, high = (math.nan if math.isnan(half) else math.sqrt(max(square + by, 0.0)) for by in (-half, half))
        return cls(math.sqrt(max(square, 0.0)), low, high)

    def within(self, low: float, high: float) -> Estimate:
        """With bounds that are no further out than what is possible."""
        return Estimate(self.mean, *(float(np.clip(bound, low, high)) for bound in (self.low, self.high)))


@dataclass(frozen=True)
class Answer:
    """To one of the two questions about a pair.

    Attributes:
        distance: root mean square over test points and outputs, in the outputs' units, with its confidence interval.
        error: what it may be off by, √(e_A² + e_B²), in the same units.
        p: of this pair alone.
        p_adjusted: corrected for the number of pairs.
        p_least: the smallest that ``p_adjusted`` can be with so few seeds.
        level: the level that it is held against.
    """

    distance: Estimate
    error: float
    p: float
    p_adjusted: float
    p_least: float
    level: float

    @property
    def significant(self) -> bool | None:
        """Whether the distance exceeds its error and ``p_adjusted`` ≤ ``level``; None of too few seeds for that."""
        if not self.distance.mean > self.error:
            return False
        return None if self.p_least > self.level else self.p_adjusted <= self.level

    def among(self, pairs: int, p_adjusted: float) -> Answer:
        """The same as one of several pairs."""
        return replace(self, p_adjusted=p_adjusted, p_least=min(1.0, pairs * self.p_least))


@dataclass(frozen=True)
class Effect:
    """What the difference of two ways to train amounts to, over the S initializations that both have.

    Attributes:
        paired: between the two minimizers of one initialization: D_s, its mean over initializations.
        systematic: what all initializations share of the difference, √max(T, 0).
        seed_std: standard deviation over initializations of one way's outputs, the two ways averaged; a root mean
            square over test points and outputs.
        flips: share of test points that the two decide differently, mean over initializations.
        seeds: S.
    """

    paired: Answer
    systematic: Answer
    seed_std: float
    flips: float
    seeds: int


def holm(p: Sequence[float]) -> list[float]:
    """Several p adjusted for their number: the k-th smallest of m times m − k + 1, and no smaller than those before.

    Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    adjusted, least = [0.0] * len(p), 0.0
    for before, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, (len(p) - before) * p[i]))
        adjusted[i] = least
    return adjusted


def together(effects: Sequence[Effect]) -> list[Effect]:
    """Effects of several pairs, each question's p corrected for their number."""
    count = len(effects)
    paired, systematic = (holm([getattr(e, name).p for e in effects]) for name in ("paired", "systematic"))
    return [
        replace(e, paired=e.paired.among(count, one), systematic=e.systematic.among(count, other))
        for e, one, other in zip(effects, paired, systematic, strict=True)
    ]


def smallest_p(seeds: int) -> float:
    """The smallest p that the test can give: 2^−(S−1), or 1/10,000 where signs are drawn."""
    return 2.0 ** (1 - seeds) if seeds <= EXACT else 1 / (DRAWN + 1)


def least_seeds(level: float) -> int | None:
    """The fewest initializations with which p can come down to a level; None where drawn signs cannot."""
    count = max(2, 1 + math.ceil(-math.log2(level) - 1e-9))
    if count <= EXACT:
        return count
    return EXACT + 1 if smallest_p(EXACT + 1) <= level else None


def paired_p(distances: Array, errors: Array) -> float:
    """Of Student's t, one-sided: that the mean of D_s − e_s, (S,) each, S ≥ 2, is not positive."""
    from scipy.special import stdtr

    margins = distances - errors
    if not np.isfinite(margins).all():
        return 1.0
    mean, scatter = float(margins.mean()), float(margins.std(ddof=1))
    if scatter == 0:
        return float(mean <= 0)
    return float(stdtr(len(margins) - 1, -mean * math.sqrt(len(margins)) / scatter))


def systematic_difference(differences: Array) -> tuple[float, float, float]:
    """T, the unbiased estimate of the mean square of E d, its standard error (nan of two initializations), and p.

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
    scatter = _jackknife(gram)
    as_large = T - 1e-12 * own  # ties are ties in spite of rounding
    if count <= EXACT:
        at_least = int((statistic(_all_signs(count)) >= as_large).sum())
        return T, scatter, at_least / 2 ** (count - 1)
    signs = np.random.default_rng(0).integers(0, 2, (DRAWN, count)) * 2.0 - 1.0
    return T, scatter, (1 + int((statistic(signs) >= as_large).sum())) / (DRAWN + 1)


def _jackknife(gram: Array) -> float:
    """The standard error of T from ⟨d_s, d_s'⟩, (S, S), with one initialization left out at a time."""
    count = len(gram)
    if count < 3:
        return math.nan
    others = gram.sum(axis=1) - gram.diagonal()
    without = (others.sum() - 2 * others) / ((count - 1) * (count - 2))
    return math.sqrt((count - 1) / count * float(np.square(without - without.mean()).sum()))


def _all_signs(count: int) -> Array:
    """Every sign pattern, up to a common sign: (2^(count−1), count)."""
    patterns = np.arange(2 ** (count - 1))[:, None] >> np.arange(count) & 1
    return 1.0 - 2.0 * patterns


def effect_of(
    one: Array, other: Array, errors: Array, level: float, labels: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> Effect:
    """The effect between outputs of the same initializations.

    Args:
        one: (S, n, C), S ≥ 2.
        other: likewise.
        errors: e_s, (S,), what D_s may be off by.
        level: of the tests, and 1 − ``level`` the coverage of the intervals.
        labels: what the two decide, (S, n) each.
    """
    count = len(one)
    differences = (one - other).reshape(count, -1)
    distances, error = np.sqrt(np.square(differences).mean(axis=1)), math.sqrt(float(np.square(errors).mean()))
    squared, scatter, p_systematic = systematic_difference(differences)
    p_paired = paired_p(distances, errors)
    paired = Answer(Estimate.of(distances, level).within(0.0, math.inf), error, p_paired, p_paired, 0.0, level)
    shared = Estimate.of_square(squared, scatter, count, level)
    variance = (one.var(axis=0, ddof=1).mean() + other.var(axis=0, ddof=1).mean()) / 2
    return Effect(
        paired,
        Answer(shared, error, p_systematic, p_systematic, smallest_p(count), level),
        math.sqrt(float(variance)),
        float((labels[0] != labels[1]).mean()),
        count,
    )

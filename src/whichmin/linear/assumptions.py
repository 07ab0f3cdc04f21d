"""What the theorems need, and what still holds where it is missing."""

from __future__ import annotations

from dataclasses import dataclass

from whichmin.linear._problem import Problem
from whichmin.linear.imbalance import Levels
from whichmin.shown import Shown


@dataclass(frozen=True)
class Assumption(Shown):
    """One hypothesis.

    Attributes:
        name: ``width``, ``imbalance``, ``rank`` or ``invariant set``.
        holds: whether it holds here.
        detail: a sentence with the numbers: what it gives, or what still holds without it.
    """

    name: str
    holds: bool
    detail: str


def check(problem: Problem, levels: Levels, width: int, on_set: bool, tight_rate: float) -> tuple[Assumption, ...]:
    """The four hypotheses on width, imbalance, rank and initialization."""
    return (
        _width(problem, width),
        _imbalance(levels, tight_rate),
        _overparametrized(problem),
        _invariant(problem, on_set),
    )


def _width(problem: Problem, width: int) -> Assumption:
    n, m = problem.rank, problem.outputs
    needed = n + m - 1
    if width >= needed:
        detail = f"width {width} ≥ n + m − 1 = {needed}: a random initialization is imbalanced almost surely."
        return Assumption("width", True, detail)
    detail = (
        f"width {width} is below n + m − 1 = {needed} (n the rank of X, m outputs): a random initialization need not "
        "have a positive level of imbalance. Λ and U₂ are still conserved, and the rates reported hold as they are."
    )
    if width < min(n, m):
        detail += f" A width below min(n, m) = {min(n, m)} also limits the rank: the optimum may be out of reach."
    return Assumption("width", False, detail)


def _imbalance(levels: Levels, tight_rate: float) -> Assumption:
    if levels.total > 0:
        return Assumption(
            "imbalance", True, f"level of imbalance c = {levels.total:.4g} > 0: the loss falls exponentially."
        )
    detail = "the level of imbalance is zero: the rate is 0 and the bound on the distance is infinite (vacuous)."
    if tight_rate > 0:
        detail += f" The product's singular values still guarantee the rate {tight_rate:.4g} and the tight bound."
    else:
        detail += " The loss still never rises and Λ and U₂ are conserved; whether it reaches L* is not guaranteed."
    return Assumption("imbalance", False, detail)


def _overparametrized(problem: Problem) -> Assumption:
    n, d = problem.rank, problem.inputs
    if n < d:
        return Assumption("rank", True, f"rank {n} < {d} inputs: many minimizers, of which Θ̂ is the smallest.")
    detail = (
        f"X has full column rank {d}: least squares has one minimizer, Θ̂, and every run that reaches L* ends there."
    )
    return Assumption("rank", False, detail)


def _invariant(problem: Problem, on_set: bool) -> Assumption:
    if on_set:
        return Assumption("invariant set", True, "VU₂ᵀ and U₁U₂ᵀ are zero: a run that reaches L* ends at Θ̂.")
    detail = "the initialization is off the invariant set: training ends within the bound of Θ̂, in general not at it."
    return Assumption("invariant set", False, detail)

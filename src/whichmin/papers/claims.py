"""What a paper claims, and whether what was measured agrees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal, TypeAlias

#: A data frame of pandas, whose own annotations do not know what a selection of it is.
Table: TypeAlias = Any
Answer = Literal["agrees", "disagrees", "undecided"]
#: Standard errors of the mean that a measurement must be away from a threshold to decide.
CLEAR = 2.0


@dataclass(frozen=True)
class Claim:
    """One claim of a figure.

    Attributes:
        says: what the paper says, in our own words.
        quantity: what is measured for it.
        measure: its values in the figure's table, one for each seed, network or pair; empty where it cannot be had.
        relation: how the mean of these has to stand to ``value``.
        value: the number that the paper gives, or that its inequality has.
        margin: how far on the wrong side of ``value`` still counts as the paper's claim; set before the run.
        exact: whether the values are no samples, so that one is enough and none of them has a spread.
        of_all: whether networks that training left unfitted count as well; they came to no minimizer that a claim could
            be about.
    """

    says: str
    quantity: str
    measure: Callable[[Table], Sequence[float]]
    relation: Literal["at least", "at most", "equal to"]
    value: float
    margin: float = 0.0
    exact: bool = False
    of_all: bool = False

    @property
    def expected(self) -> str:
        """The number or inequality in words."""
        granted = "" if not self.margin else f" (± {self.margin:g})" if self.relation == "equal to" else ""
        if self.margin and self.relation != "equal to":
            granted = f" (granted {self.margin:g})"
        return f"{self.relation} {self.value:g}{granted}"

    def judge(self, table: Table) -> Verdict:
        """Whether the table agrees.

        The mean m of the values has the slack m − (value − margin) for "at least", (value + margin) − m for "at most",
        margin − |m − value| for "equal to". It agrees where the slack is two standard errors of the mean above 0 or
        more, disagrees where it is as far below, and is undecided between, and where fewer than two values are there.
        """
        unfitted = [] if self.of_all or "fitted" not in table else table.index[table["fitted"].eq(False)]
        values = [float(v) for v in self.measure(table.drop(index=unfitted))]
        known = [v for v in values if math.isfinite(v)]
        if not known or (len(known) < 2 and not self.exact):
            mean = fmean(known) if known else math.nan
            return Verdict(self, "undecided", mean, math.nan, len(known), math.nan, len(unfitted))
        mean = fmean(known)
        spread = stdev(known) if len(known) > 1 else 0.0
        doubt = 0.0 if self.exact else CLEAR * spread / math.sqrt(len(known))
        slack = {
            "at least": mean - (self.value - self.margin),
            "at most": (self.value + self.margin) - mean,
            "equal to": self.margin - abs(mean - self.value),
        }[self.relation]
        answer: Answer = "agrees" if slack >= doubt else "disagrees" if slack < -doubt else "undecided"
        return Verdict(self, answer, mean, spread, len(known), slack, len(unfitted))


@dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Attributes:
        claim: the claim.
        answer: "agrees", "disagrees" or "undecided".
        mean: of the values.
        spread: their standard deviation; not a number for a single one.
        count: how many there are.
        slack: how far the mean is on the right side of the threshold; negative on the wrong one.
        unfitted: how many networks of the table were left out, because training left them unfitted.
    """

    claim: Claim
    answer: Answer
    mean: float
    spread: float
    count: int
    slack: float
    unfitted: int = 0

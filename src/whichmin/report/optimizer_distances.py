"""How far apart the minimizers of several optimizers are, as trained and as predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from whichmin.report.entry_view import EntryView, by_optimizer, mse, present
from whichmin.report.numbers import number, percent

Matrix = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class OptimizerDistances:
    """Root mean square distances between test outputs, means over members that two optimizers share.

    Attributes:
        names: of the optimizers.
        trained: (optimizers, optimizers), None on the diagonal and where nothing is shared; None without training.
        predicted: the same of the relinearized predictions, or of the linearized ones where there are no others.
    """

    names: tuple[str, ...]
    trained: Matrix | None
    predicted: Matrix | None

    @property
    def tables(self) -> list[tuple[str, list[tuple[str, list[tuple[str, str]]]]]]:
        """Title and rows of each matrix that there is: full values, for machines, and their texts."""
        both = (("As trained", self.trained), ("As predicted", self.predicted))
        return [
            (
                title,
                [
                    (name, [("" if v is None else repr(v), number(v)) for v in row])
                    for name, row in zip(self.names, matrix, strict=True)
                ],
            )
            for title, matrix in both
            if matrix is not None
        ]

    @property
    def sentence(self) -> str:
        """The pair that is furthest apart, and what was predicted of it."""
        matrix = self.trained or self.predicted
        assert matrix is not None
        pairs = [(v, i, j) for i, row in enumerate(matrix) for j, v in enumerate(row) if v is not None and i < j]
        if not pairs:
            return ""
        size, i, j = max(pairs)
        verb = "are" if self.trained is not None else "are predicted to be"
        apart = f"{number(size, 2)} apart (root mean square of outputs on the test points)"
        text = f"{self.names[i]} and {self.names[j]} {verb} {apart}"
        if len(pairs) > 1:
            text = f"Furthest from each other, {text}"
        also = self.predicted[i][j] if self.trained is not None and self.predicted is not None else None
        return f"{text}; predicted were {number(also, 2)}." if also is not None else f"{text}."

    @property
    def miss(self) -> str:
        """By how much the predicted distances miss the trained ones."""
        if self.trained is None or self.predicted is None:
            return ""
        misses = [
            abs(p - t) / t
            for row, other in zip(self.trained, self.predicted, strict=True)
            for t, p in zip(row, other, strict=True)
            if t is not None and p is not None and t > 0
        ]
        return f"The predicted distances are off by {percent(fmean(misses))} on average." if misses else ""


def optimizer_distances(entries: Sequence[EntryView]) -> OptimizerDistances | None:
    """The distances between optimizers; None where there are none to compare."""
    groups = by_optimizer(entries)
    trained = _matrix(groups, ["trained"])
    predicted = _matrix(groups, ["relinearized", "linearized"])
    return OptimizerDistances(tuple(groups), trained, predicted) if trained or predicted else None


def _matrix(groups: dict[str, list[EntryView]], kinds: Sequence[str]) -> Matrix | None:
    rows = tuple(
        tuple(None if i == j else _between(a, b, kinds) for j, b in enumerate(groups.values()))
        for i, a in enumerate(groups.values())
    )
    return rows if any(v is not None for row in rows for v in row) else None


def _between(one: Sequence[EntryView], other: Sequence[EntryView], kinds: Sequence[str]) -> float | None:
    """The mean over shared members of the root mean square distance, in the first kind of outputs that both have."""
    members = {view.member: view for view in other}
    for kind in kinds:
        gaps = present(
            mse(view.outputs.get(kind), members[view.member].outputs.get(kind))
            for view in one
            if view.member in members
        )
        if gaps:
            return fmean(math.sqrt(gap) for gap in gaps)
    return None

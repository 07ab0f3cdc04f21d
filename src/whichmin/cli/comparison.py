"""A comparison as a table on the terminal, and as an object for machines."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from whichmin.cli.tables import aligned, print_notes

if TYPE_CHECKING:
    from torch import Tensor

    from whichmin.studies.comparison import Comparison
    from whichmin.studies.effects import Effect, Estimate


def print_comparison(comparison: Comparison) -> None:
    """Test errors, pairs, the finding and the notes."""
    from whichmin.report.comparison import (
        by_size,
        decides,
        failure_sentences,
        finding,
        interval,
        reused_sentence,
        runs_of,
        verdict,
    )
    from whichmin.report.numbers import MISSING, number, percent

    kinds = ("predicted",) if comparison.trained is None else ("predicted", "trained")
    outputs = [getattr(comparison, kind) for kind in kinds]
    tables = {f"test error ({comparison.task.loss.label})": [comparison.test_error_of(of) for of in outputs]}
    tables["accuracy"] = [comparison.accuracy_of(of) for of in outputs]
    for title, columns in tables.items():
        known = [column for column in columns if column is not None]
        if known:
            rows = [[title, *kinds], *([name, *(interval(of[name]) for of in known)] for name in comparison.names)]
            print(*aligned(rows), "", sep="\n")
    flips = ["flips"] if decides(comparison) else []
    rows = [["distance of outputs", *kinds, "error", "p", "different", "shared", "p", "beyond the seed", *flips]]
    for (one, other), pair in by_size(comparison):
        effect = pair.best
        assert effect is not None
        ways = [interval(way and way.paired.distance) for way in (getattr(pair, kind) for kind in kinds)]
        off = MISSING if pair.predicted is None else number(pair.predicted.paired.error)
        paired = [off, number(effect.paired.p_adjusted), verdict(effect.paired)]
        shared = effect.systematic
        beyond = [interval(shared.distance), number(shared.p_adjusted), verdict(shared)]
        rows.append([f"{one} – {other}", *ways, *paired, *beyond, *(percent(effect.flips) for _ in flips)])
    print(*aligned(rows), sep="\n")
    print("\n" + textwrap.fill(" ".join(finding(comparison)), 100))
    reused = reused_sentence(comparison.reused, runs_of(comparison))
    print(*([reused] if reused else []), sep="\n", end="\n" if reused else "")
    print_notes([*failure_sentences(comparison), *comparison.notes])


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The same numbers as plain values."""

    def plain(of: Any) -> dict[str, Any]:
        return dict(vars(of))

    def effect(of: Effect | None) -> dict[str, Any] | None:
        if of is None:
            return None
        answers = {"different": of.paired.significant, "significant": of.systematic.significant}
        return dataclasses.asdict(of) | answers

    kinds = {"predicted": comparison.predicted} | (
        {} if comparison.trained is None else {"trained": comparison.trained}
    )

    def of_recipes(numbers: Callable[[dict[str, Tensor]], dict[str, Estimate] | None]) -> dict[str, Any]:
        found = {kind: numbers(outputs) or {} for kind, outputs in kinds.items()}
        return {kind: {name: plain(e) for name, e in estimates.items()} for kind, estimates in found.items()}

    return {
        "test_error": of_recipes(comparison.test_error_of),
        **({} if comparison.accuracy is None else {"accuracy": of_recipes(comparison.accuracy_of)}),
        "pairs": [
            {"one": one, "other": other, "predicted": effect(pair.predicted), "trained": effect(pair.trained)}
            for (one, other), pair in comparison.pairs.items()
        ],
        "failures": [plain(failure) for failure in comparison.failures],
        "reused": comparison.reused,
        "notes": list(comparison.notes),
    }

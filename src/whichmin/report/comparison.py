"""What came out of a comparison, in sentences and in the cells of its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from whichmin.report.numbers import MISSING, number, percent
from whichmin.studies.comparison import Comparison, Failure, Pair
from whichmin.studies.effects import Effect, Estimate

Names = tuple[str, str]


def finding(comparison: Comparison) -> str:
    """The answer in two sentences."""
    effects = {names: pair.best for names, pair in comparison.pairs.items() if pair.best is not None}
    if not effects:
        return "No two of these recipes can be compared: see what failed."
    what = "trained" if comparison.trained is not None else "predicted"
    count = f"{len(effects)} pair{'s' * (len(effects) != 1)}"
    significant = {names: effect for names, effect in effects.items() if effect.significant}
    if not significant and any(effect.significant is None for effect in effects.values()):
        return "Whether these recipes reach different minimizers cannot be told from so few seeds."
    if not significant:
        return f"No significant difference between the {what} minimizers is found in {count}."
    (one, other), effect = max(significant.items(), key=lambda item: item[1].systematic)
    return (
        f"The {what} minimizers differ significantly in {len(significant)} of {count}, most between {one} and {other}: "
        f"they are {number(effect.rms_distance.mean, 2)} apart, {number(effect.systematic, 2)} of it shared by all "
        f"seeds, and decide {percent(effect.flips)} of the test points differently."
    )


def interval(estimate: Estimate | None) -> str:
    """A mean with its bounds."""
    if estimate is None or math.isnan(estimate.mean):
        return MISSING
    if math.isnan(estimate.low):
        return number(estimate.mean)
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"


def verdict(effect: Effect | None) -> str:
    """Significant, not significant, or not known."""
    if effect is None:
        return MISSING
    return {True: "significant", False: "not significant", None: "too few seeds"}[effect.significant]


def failure_sentences(comparison: Comparison) -> list[str]:
    """Of each recipe that failed the first seed with its message, and which other seeds failed."""
    grouped: dict[Names, list[Failure]] = {}
    for failure in comparison.failures:
        grouped.setdefault((failure.recipe, failure.kind), []).append(failure)
    sentences = []
    for first, *others in grouped.values():
        seeds = ", ".join(str(failure.seed) for failure in others)
        sentences.append(f"{first}" + (f" Failed as well: seed{'s' * (len(others) > 1)} {seeds}." if seeds else ""))
    return sentences


def by_size(comparison: Comparison) -> list[tuple[Names, Pair]]:
    """The pairs of which anything is known, those with the largest shared difference first."""
    effects = [
        (best.systematic, names, pair) for names, pair in comparison.pairs.items() if (best := pair.best) is not None
    ]
    return [(names, pair) for _, names, pair in sorted(effects, key=lambda item: -item[0])]


def recipe_columns(comparison: Comparison) -> dict[str, Callable[[str], str]]:
    """The columns of the table of recipes: what each says of the recipe of a name."""
    kinds = {"predicted": comparison.predicted} | (
        {} if comparison.trained is None else {"trained": comparison.trained}
    )

    def of_kinds(
        title: str, numbers: Callable[[dict[str, Tensor]], dict[str, Estimate] | None]
    ) -> dict[str, Callable[[str], str]]:
        known = {kind: found for kind, outputs in kinds.items() if (found := numbers(outputs)) is not None}
        return {f"{title}, {kind}": (lambda name, of=found: interval(of[name])) for kind, found in known.items()}

    def mean(of: Mapping[str, object], name: str) -> float:
        return Estimate.of(of[name].numpy(), comparison.level).mean  # type: ignore[attr-defined]

    def steps(name: str) -> str:
        value = mean(comparison.steps, name)
        return number(None if math.isnan(value) else float(round(value)))

    columns = of_kinds("test error", comparison.test_error_of)
    columns |= of_kinds("accuracy", comparison.accuracy_of)
    columns["steps, predicted"] = steps
    columns["error of the prediction"] = lambda name: number(mean(comparison.errors, name))
    return columns


def pair_columns(comparison: Comparison) -> dict[str, Callable[[Pair], str]]:
    """The columns of the table of pairs; those after the distances are of the trained networks where there are any."""

    def of_best(text: Callable[[Effect], str]) -> Callable[[Pair], str]:
        return lambda pair: MISSING if pair.best is None else text(pair.best)

    columns: dict[str, Callable[[Pair], str]] = {
        "distance, predicted": lambda pair: interval(pair.predicted and pair.predicted.rms_distance)
    }
    if comparison.trained is not None:
        columns["distance, trained"] = lambda pair: interval(pair.trained and pair.trained.rms_distance)
    return columns | {
        "shared by all seeds": of_best(lambda effect: number(effect.systematic)),
        "error of the predictions": lambda pair: number(pair.predicted and pair.predicted.error),
        "standard deviation over seeds": of_best(lambda effect: number(effect.seed_std)),
        "p": of_best(lambda effect: number(effect.p)),
        "flips": of_best(lambda effect: percent(effect.flips)),
        "": of_best(verdict),
    }

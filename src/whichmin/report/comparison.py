"""What came out of a comparison, in sentences and in the cells of its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from whichmin.decision import Decision
from whichmin.report.numbers import MISSING, number, percent
from whichmin.studies.comparison import Comparison, Failure, Pair
from whichmin.studies.effects import Answer, Effect, Estimate

Names = tuple[str, str]


def finding(comparison: Comparison) -> list[str]:
    """The answers to the two questions, a sentence or two for each."""
    effects = {names: pair.best for names, pair in comparison.pairs.items() if pair.best is not None}
    if not effects:
        return ["No two of these recipes can be compared: see what failed."]
    return [_same_seed(effects, comparison), _beyond_seed(effects)]


def shared_start(comparison: Comparison) -> str:
    """What two of a comparison have in common: of different networks it is the seed alone."""
    return "seed" if comparison.networks else "initialization"


def decides(comparison: Comparison) -> bool:
    """Whether outputs decide for classes, so that it is worth a word where they flip."""
    return Decision.of(comparison.task).classes


def _same_seed(effects: Mapping[Names, Effect], comparison: Comparison) -> str:
    trained, start = comparison.trained is not None, shared_start(comparison)
    what = "trained" if trained else "predicted"
    different = {names: effect for names, effect in effects.items() if effect.paired.significant}
    if not different:
        known = "rounding" if trained else "what the predictions may be off by"
        return f"From the same {start} no {what} minimizers differ by significantly more than {known}."
    (one, other), effect = max(different.items(), key=lambda item: item[1].paired.distance.mean)
    furthest = f"{one} and {other} are" if len(effects) == 1 else f"{one} and {other}, the furthest of them, are"
    error = "" if trained else f", where the predictions may be off by {number(effect.paired.error, 2)}"
    decided = f", and decide {percent(effect.flips)} of the test points differently"
    return (
        f"From the same {start} the {what} minimizers differ{_share(different, effects)}: {furthest} "
        f"{interval(effect.paired.distance, 2)} apart{error}{decided if decides(comparison) else ''}."
    )


def _beyond_seed(effects: Mapping[Names, Effect]) -> str:
    significant = {names: effect for names, effect in effects.items() if effect.systematic.significant}
    unknown = sum(effect.systematic.significant is None for effect in effects.values())
    if significant:
        (one, other), effect = max(significant.items(), key=lambda item: item[1].systematic.distance.mean)
        between = "" if len(effects) == 1 else f" between {one} and {other}"
        return (
            f"Beyond the seed they differ significantly{_share(significant, effects)}: of the "
            f"{number(effect.paired.distance.mean, 2)}{between}, {interval(effect.systematic.distance, 2)} is a "
            "difference that all initializations share."
            + (f" Of {unknown} it cannot be told from so few seeds." if unknown else "")
        )
    if unknown:
        return "Whether they differ beyond the seed cannot be told from so few seeds."
    (one, other), effect = max(effects.items(), key=lambda item: item[1].systematic.distance.mean)
    return (
        f"Beyond the seed no difference is significant: at most {interval(effect.systematic.distance, 2)}, between "
        f"{one} and {other}, is shared by all initializations."
    )


def _share(some: Mapping[Names, Effect], effects: Mapping[Names, Effect]) -> str:
    return "" if len(effects) == 1 else f" in {len(some)} of {len(effects)} pairs"


def interval(estimate: Estimate | None, digits: int = 3) -> str:
    """A mean with its bounds."""
    if estimate is None or math.isnan(estimate.mean):
        return MISSING
    if math.isnan(estimate.low):
        return number(estimate.mean, digits)
    return f"{number(estimate.mean, digits)} [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def verdict(answer: Answer) -> str:
    """Yes, no, or not known."""
    return {True: "yes", False: "no", None: "too few seeds"}[answer.significant]


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


def reused_sentence(reused: int, runs: int) -> str:
    """How many runs were not done again; nothing of none."""
    was = "run was" if runs == 1 else "runs was" if reused == 1 else "runs were"
    return f"{reused} of {runs} {was} finished before and read back." if reused else ""


def runs_of(comparison: Comparison) -> int:
    """How many runs there were, predicted and trained."""
    return len(comparison.names) * comparison.seeds * (1 if comparison.trained is None else 2)


def by_size(comparison: Comparison) -> list[tuple[Names, Pair]]:
    """The pairs of which anything is known, those that are furthest apart first."""
    effects = [
        (best.paired.distance.mean, names, pair)
        for names, pair in comparison.pairs.items()
        if (best := pair.best) is not None
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
        return number(None if math.isnan(value) else round(value))

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
        "distance, predicted": lambda pair: interval(pair.predicted and pair.predicted.paired.distance)
    }
    if comparison.trained is not None:
        columns["distance, trained"] = lambda pair: interval(pair.trained and pair.trained.paired.distance)
    return columns | {
        "error of the predictions": lambda pair: number(pair.predicted and pair.predicted.paired.error),
        "p, same seed": of_best(lambda effect: number(effect.paired.p_adjusted)),
        "different": of_best(lambda effect: verdict(effect.paired)),
        "shared by all seeds": of_best(lambda effect: interval(effect.systematic.distance)),
        "p, beyond the seed": of_best(lambda effect: number(effect.systematic.p_adjusted)),
        "beyond the seed": of_best(lambda effect: verdict(effect.systematic)),
        "standard deviation over seeds": of_best(lambda effect: number(effect.seed_std)),
        **({"flips": of_best(lambda effect: percent(effect.flips))} if decides(comparison) else {}),
    }

"""A comparison as one self-contained HTML file."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import Any

from whichmin.report.numbers import MISSING, number, percent
from whichmin.report.page import template
from whichmin.studies.comparison import Comparison, Failure, Pair
from whichmin.studies.effects import Effect, Estimate

#: More choices than this are also shown as a matrix.
FEW = 3
TITLE = "Do these ways to train reach different minimizers?"


def render(comparison: Comparison) -> str:
    """The page as text."""
    import torch
    from markupsafe import Markup

    from whichmin._version import __version__
    from whichmin.report.figures.distances import SHOWN, distances_figure
    from whichmin.report.svg import inline_svg

    caption = (
        "Distance between the test outputs of two ways to train from the same initialization, mean over seeds with "
        "confidence intervals; the upright lines are what the two predictions may be off by."
    )
    if len(comparison.pairs) > SHOWN:
        caption += f" The {SHOWN} largest."
    drawn = distances_figure(comparison)
    return template("comparison.html.j2").render(
        title=TITLE,
        finding=finding(comparison),
        asked=_asked(comparison),
        names=comparison.names,
        choices=_choices(comparison),
        trained=comparison.trained is not None,
        matrix=_matrix(comparison) if len(comparison.names) > FEW else None,
        pairs=[_row(one, other, pair) for (one, other), pair in by_size(comparison)],
        figure=None
        if drawn is None
        else {"svg": Markup(inline_svg(drawn, "fig-distances", caption)), "caption": caption},
        level=f"{comparison.level:g}",
        coverage=percent(1 - comparison.level),
        count=len(comparison.pairs),
        failures=failed(comparison),
        notes=comparison.notes,
        versions=[("whichmin", __version__), ("torch", torch.__version__), ("python", platform.python_version())],
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def finding(comparison: Comparison) -> str:
    """The answer in two sentences."""
    pairs = {names: pair.best for names, pair in comparison.pairs.items() if pair.best is not None}
    if not pairs:
        return "No two of these choices can be compared: see what failed."
    what = "trained" if comparison.trained is not None else "predicted"
    significant = {names: effect for names, effect in pairs.items() if effect.significant}
    if not significant and any(effect.significant is None for effect in pairs.values()):
        return "Whether these choices reach different minimizers cannot be told from so few seeds."
    if not significant:
        return f"No significant difference between the {what} minimizers is found in {_count(len(pairs), 'pair')}."
    (one, other), effect = max(significant.items(), key=lambda item: item[1].systematic)
    return (
        f"The {what} minimizers differ significantly in {len(significant)} of {_count(len(pairs), 'pair')}, most between {one} and "
        f"{other}: they are {number(effect.rms_distance.mean, 2)} apart, {number(effect.systematic, 2)} of it shared by "
        f"all seeds, and decide {percent(effect.flips)} of the test points differently."
    )


def interval(estimate: Estimate | None) -> str:
    """A mean with its bounds."""
    if estimate is None or estimate.mean != estimate.mean:
        return MISSING
    if estimate.low != estimate.low:
        return number(estimate.mean)
    return f"{number(estimate.mean)} [{number(estimate.low)}, {number(estimate.high)}]"


def verdict(effect: Effect | None) -> str:
    """Significant, not significant, or not known."""
    if effect is None:
        return MISSING
    return {True: "significant", False: "not significant", None: "too few seeds"}[effect.significant]


def failed(comparison: Comparison) -> list[str]:
    """What could not be had: of each choice the first seed with its message, and which others there are."""
    told: dict[tuple[str, str], list[Failure]] = {}
    for failure in comparison.failures:
        told.setdefault((failure.choice, failure.kind), []).append(failure)
    said = []
    for failures in told.values():
        seeds = ", ".join(str(failure.seed) for failure in failures[1:])
        said.append(f"{failures[0]}" + (f" Failed as well: seed{'s' * (len(failures) > 2)} {seeds}." if seeds else ""))
    return said


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def by_size(comparison: Comparison) -> list[tuple[tuple[str, str], Pair]]:
    """The pairs of which anything is known, those with the largest shared difference first."""
    known = [(names, pair) for names, pair in comparison.pairs.items() if pair.best is not None]
    return sorted(known, key=lambda item: -(item[1].best.systematic if item[1].best else 0.0))


def _asked(comparison: Comparison) -> list[tuple[str, str]]:
    task = comparison.task
    facts: dict[str, Any] = {"seeds": comparison.seeds, "training points": task.n, "test points": task.n_test}
    facts |= {"trained": "yes" if comparison.trained is not None else "no", "level": comparison.level}
    return [
        (name, "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in (facts | comparison.settings).items()
    ]


def _choices(comparison: Comparison) -> list[tuple[str, list[str]]]:
    predicted = comparison.test_error_of(comparison.predicted) or {}
    trained = comparison.test_error_of(comparison.trained) if comparison.trained is not None else {}
    rows = []
    for name in comparison.names:
        steps, errors = (
            Estimate.of(of[name].numpy(), comparison.level).mean for of in (comparison.steps, comparison.errors)
        )
        cells = [interval(predicted.get(name))]
        cells += [interval((trained or {}).get(name))] if comparison.trained is not None else []
        rows.append((name, [*cells, number(float(round(steps)) if steps == steps else None), number(errors)]))
    return rows


def _matrix(comparison: Comparison) -> list[tuple[str, list[tuple[str, str]]]]:
    """Of each choice the distances to those after it, and what is known of them."""
    names, rows = comparison.names, []
    for i, one in enumerate(names[:-1]):
        cells = [("", "")] * i
        for other in names[i + 1 :]:
            best = comparison.pairs[one, other].best
            cells.append((MISSING, "") if best is None else (number(best.rms_distance.mean, 2), verdict(best)))
        rows.append((one, cells))
    return rows


def _row(one: str, other: str, pair: Pair) -> tuple[str, list[str]]:
    p, t = pair.predicted, pair.trained
    cells = [interval(p and p.rms_distance), interval(t and t.rms_distance)]
    best = pair.best
    if best is None:
        return f"{one} – {other}", [*cells, *[MISSING] * 6]
    off = MISSING if p is None else number(p.error)
    rest = [number(best.systematic), off, number(best.seed_std), number(best.p), percent(best.flips), verdict(best)]
    return f"{one} – {other}", [*cells, *rest]

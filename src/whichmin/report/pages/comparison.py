"""A page of a comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whichmin.report.comparison import (
    by_size,
    failure_sentences,
    finding,
    pair_columns,
    recipe_columns,
    reused_sentence,
    runs_of,
    shared_start,
    verdict,
)
from whichmin.report.figures import sections_of
from whichmin.report.numbers import MISSING, number, percent
from whichmin.report.page import render
from whichmin.report.settings import asked_beside
from whichmin.studies.comparison import Comparison
from whichmin.studies.effects import Effect

#: More recipes than this are also shown as a matrix.
FEW = 3
#: Of the matrix: the text, what is known of the pair, and the classes of its style.
Cell = tuple[str, str, str]
EMPTY_CELL, MISSING_CELL = ("", "", ""), (MISSING, "", "")
TITLE = "Do these ways to train reach different minimizers?"


def comparison_page(comparison: Comparison, title: str | None = None, asked: Mapping[str, Any] | None = None) -> str:
    """The page as text.

    Args:
        comparison: what is shown.
        title: the heading.
        asked: what was asked, before what the result tells of it.
    """
    recipes, pairs = recipe_columns(comparison), pair_columns(comparison)
    return render(
        "comparison.html.j2",
        {
            "title": title or TITLE,
            "finding": finding(comparison),
            "asked": asked_beside(asked or {}, _asked(comparison)),
            "names": comparison.names,
            "recipes": {
                "columns": list(recipes),
                "rows": [(name, [text(name) for text in recipes.values()]) for name in comparison.names],
            },
            "pairs": {
                "columns": list(pairs),
                "rows": [
                    (f"{one} – {other}", [text(pair) for text in pairs.values()])
                    for (one, other), pair in by_size(comparison)
                ],
            },
            "loss": comparison.task.loss.label,
            "start": shared_start(comparison),
            "classes": comparison.accuracy is not None,
            "trained": comparison.trained is not None,
            "matrix": _matrix(comparison) if len(comparison.names) > FEW else None,
            "figures": sections_of("comparison", comparison),
            "level": f"{comparison.level:g}",
            "coverage": percent(1 - comparison.level),
            "reused": reused_sentence(comparison.reused, runs_of(comparison)),
            "failures": failure_sentences(comparison),
            "notes": comparison.notes,
        },
    )


def _asked(comparison: Comparison) -> dict[str, Any]:
    task = comparison.task
    facts: dict[str, Any] = {"seeds": comparison.seeds, "training points": task.n, "test points": task.n_test}
    facts |= {"loss": repr(task.loss), "trained": comparison.trained is not None, "level": comparison.level}
    return facts | comparison.settings


def _matrix(comparison: Comparison) -> list[tuple[str, list[Cell]]]:
    """Of each recipe the distances to those after it, and what is known of them."""
    names, rows = comparison.names, []
    for i, one in enumerate(names[:-1]):
        cells = [EMPTY_CELL] * i
        for other in names[i + 1 :]:
            best = comparison.pairs[one, other].best
            cells.append(MISSING_CELL if best is None else _cell(best))
        rows.append((one, cells))
    return rows


def _cell(effect: Effect) -> Cell:
    said = f"different: {verdict(effect.paired)}; beyond the seed: {verdict(effect.systematic)}"
    kind = {True: " significant", False: "", None: ""}[effect.systematic.significant]
    return number(effect.paired.distance.mean, 2), said, kind if effect.paired.significant else f"{kind} alike"

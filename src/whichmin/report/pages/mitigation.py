"""A page of a search for a better minimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whichmin.mitigation.mitigation import Mitigation
from whichmin.mitigation.outcome import title_of
from whichmin.mitigation.registry import METHODS
from whichmin.report.figures import sections_of
from whichmin.report.mitigation import failures, finding, remedy_columns, remedy_rows, search_rows
from whichmin.report.page import render
from whichmin.report.settings import asked_beside

TITLE = "Which remedy brings a better minimizer?"


def mitigation_page(mitigation: Mitigation, title: str | None = None, asked: Mapping[str, Any] | None = None) -> str:
    """The page as text.

    Args:
        mitigation: what is shown.
        title: the heading.
        asked: what was asked, before what the result tells of it.
    """
    label = mitigation.task.loss.label
    searched = next((r for r in mitigation.remedies if r.search is not None), None)
    searches = []
    if searched is not None:
        kinds = {"predicted": searched.search, "trained": searched.trained_search}
        searches = [(kind, search_rows(of, label), of.reason) for kind, of in kinds.items() if of is not None]
    return render(
        "mitigation.html.j2",
        {
            "title": title or TITLE,
            "finding": finding(mitigation),
            "asked": asked_beside(asked or {}, _asked(mitigation)),
            "remedies": {"columns": list(remedy_columns(mitigation)), "rows": remedy_rows(mitigation)},
            "methods": [(title_of(r.name), METHODS[r.name].summary) for r in mitigation.remedies],
            "loss": label,
            "level": f"{mitigation.level:g}",
            "figures": {section.id: section for section in sections_of("mitigation", mitigation)},
            "searches": searches,
            "failures": failures(mitigation),
            "notes": mitigation.notes,
        },
    )


def _asked(mitigation: Mitigation) -> dict[str, Any]:
    task = mitigation.task
    facts: dict[str, Any] = {
        "training points": task.n,
        "validation points": mitigation.validation.n_test,
        "held out of training": mitigation.held_out is not None,
        "test points": task.n_test,
        "loss": repr(task.loss),
        "level": mitigation.level,
    }
    return facts | mitigation.settings

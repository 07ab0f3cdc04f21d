"""A page of predicted retraining without groups of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whichmin.report.figures import sections_of
from whichmin.report.leave_out import columns_of, finding, point_views, strongest
from whichmin.report.page import render
from whichmin.report.settings import asked_beside
from whichmin.studies.left_out import LeftOut

TITLE = "What would be without these rows?"


def leave_out_page(found: LeftOut, title: str | None = None, asked: Mapping[str, Any] | None = None) -> str:
    """The page as text.

    Args:
        found: what is shown.
        title: the heading.
        asked: what was asked, before what the result tells of it.
    """
    columns, shown = columns_of(found), strongest(found)
    points = point_views(found)
    return render(
        "leave_out.html.j2",
        {
            "title": title or TITLE,
            "finding": finding(found),
            "asked": asked_beside(asked or {}, _asked(found)),
            "figures": sections_of("leave-out", found),
            "groups": {
                "columns": list(columns),
                "rows": [(f"{i}", [text(i) for text in columns.values()]) for i in shown],
            },
            "count": len(found.sizes),
            "targets": found.task.y_test is not None,
            "kept": found.batches == "kept",
            "mean": getattr(found.task.loss, "reduction", "mean") == "mean",
            "single": bool((found.sizes == 1).all()),
            "points": points,
            "failures": list(map(str, found.failures)),
            "notes": found.notes,
        },
    )


def _asked(found: LeftOut) -> dict[str, Any]:
    task = found.task
    facts = {"training points": task.n, "test points": task.n_test, "groups": len(found.sizes), "loss": repr(task.loss)}
    return facts | {"batches": found.batches} | found.settings

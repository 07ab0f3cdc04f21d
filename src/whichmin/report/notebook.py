"""Panels that notebooks show: what an object is, what came out, a figure or a table, notes."""

from __future__ import annotations

import hashlib
from typing import Any

from markupsafe import Markup

from whichmin.errors import ResultError
from whichmin.report.page import fill
from whichmin.report.svg import inline_svg
from whichmin.report.tables import cells_of
from whichmin.results import Result
from whichmin.shown import Shown, brief
from whichmin.studies.swept import Sweep

#: Rows of a table that a panel shows.
ROWS = 5


def panel_of(shown: Shown) -> str:
    """The panel of an object, HTML that leaves the page around it as it is."""
    finding = list(shown._finding())
    drawn = _figure(shown) if isinstance(shown, Result) else None
    return fill(
        "notebook.html.j2",
        {
            "name": type(shown).__name__,
            "finding": finding,
            "drawn": drawn,
            "table": _table(shown) if isinstance(shown, Result | Sweep) and drawn is None else None,
            "facts": [(name, brief(value)) for name, value in shown._facts().items()],
            "notes": list(shown._remarks()),
        },
    )


def _figure(result: Result) -> Markup | None:
    """What ``plot`` draws; None where it has nothing to draw. Figures of one page share no identifiers."""
    try:
        figure = result.plot()
    except ResultError:
        return None
    name = type(result).__name__
    svg = inline_svg(figure, name, name)
    unique = f"{name}-{hashlib.sha256(svg.encode()).hexdigest()[:12]}"
    return Markup(inline_svg(figure, unique, name))


def _table(result: Result | Sweep) -> dict[str, Any] | None:
    """The first rows of the result's table; None where it has none."""
    try:
        return cells_of(result.to_frame().head(ROWS))
    except ResultError:
        return None

"""Each term's value at each test point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from whichmin.decomposition.explanation import Explanation
from whichmin.report.axes import WIDTH, plain, rows_height, spread_out
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import EntryView, array, term_names
from whichmin.report.palette import BLUE, MUTED, SKY, styled
from whichmin.report.panel import panels

#: The most dots that are drawn for a term.
POINTS = 233


@styled
def terms_figure(entries: Sequence[EntryView]) -> Figure | None:
    """Of the first entry that is explained; None where there is none."""
    first = next((v for v in entries if v.explanation is not None), None)
    if first is None or first.explanation is None:
        return None
    names = term_names([first])
    figure, (ax,) = panels(None, (WIDTH, rows_height(len(names) + 1)))
    draw_terms(ax, first.explanation, names)
    return figure


def draw_terms(ax: Axes, explanation: Explanation, names: Sequence[str]) -> None:
    """One row of dots per term: its value at each test point and output."""
    rows = {name: array(explanation.terms[name]).ravel() for name in names}
    rows["sum"] = array(explanation.total).ravel()
    for k, (name, values) in enumerate(rows.items()):
        values = values[spread_out(len(values), POINTS)]
        offsets = 0.26 * np.sin(2.4 * np.arange(len(values)))
        colour = MUTED if name == "sum" else (SKY if k == 0 else BLUE)
        ax.plot(values, k + offsets, "o", color=colour, markersize=2.6, alpha=0.6, mew=0)
    ax.axvline(0, color=MUTED, linewidth=0.7)
    ax.set_yticks(range(len(rows)), [plain(n) for n in rows])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x")
    ax.set_xlabel("value at each test point")


def _caption(entries: Sequence[EntryView]) -> str:
    text = "What each term adds to the output at each test point; a row around zero is a term that hardly matters."
    label = next((v.label for v in entries if v.explanation is not None), "")
    return f"{text} Shown for {label}." if len(entries) > 1 else text


register(
    PageFigure(
        "terms", "optimizer", "terms", 2, terms_figure, lambda _: "Value of each term at each test point", _caption
    )
)

"""Predicted minus trained against trained test outputs."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import EntryView
from whichmin.report.palette import styled
from whichmin.report.scatter import predicted_against_true


@styled
def difference_figure(entries: Sequence[EntryView]) -> Figure | None:
    """See :func:`whichmin.report.scatter.predicted_against_true`."""
    return predicted_against_true(entries, "predicted − trained", difference=True)


register(
    PageFigure(
        "difference",
        "entries",
        "agreement",
        2,
        difference_figure,
        lambda _: "Predicted minus trained test outputs",
        lambda _: "The same points as the difference from the line. The closer to zero, the better the prediction.",
    )
)

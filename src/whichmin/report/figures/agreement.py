"""Predicted against trained test outputs, with the identity."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import EntryView
from whichmin.report.palette import styled
from whichmin.report.scatter import predicted_against_true

_TITLE = "Predicted against trained test outputs"


@styled
def agreement_figure(entries: Sequence[EntryView]) -> Figure | None:
    """See :func:`whichmin.report.scatter.predicted_against_true`."""
    return predicted_against_true(entries, "predicted output", difference=False)


register(
    PageFigure(
        "agreement",
        "entries",
        "agreement",
        1,
        agreement_figure,
        lambda _: _TITLE,
        lambda _: f"{_TITLE}. On the line, prediction and training agree.",
    )
)

"""Predicted minus trained test outputs against trained ones."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import EntryView, way_of_all
from whichmin.report.palette import styled
from whichmin.report.scatter import predicted_against_true, truth_of


@styled
def difference_figure(entries: Sequence[EntryView]) -> Figure | None:
    """See :func:`whichmin.report.scatter.predicted_against_true`."""
    return predicted_against_true(entries, difference=True)


def _title(entries: Sequence[EntryView]) -> str:
    if truth_of(entries) == "trained":
        return "Predicted minus trained test outputs"
    return f"Test outputs by one linearization minus those {way_of_all(entries)}"


def _caption(entries: Sequence[EntryView]) -> str:
    better = "prediction" if truth_of(entries) == "trained" else "one linearization"
    return f"The same points as the difference from the line. The closer to zero, the better the {better}."


register(
    PageFigure(
        "difference",
        "entries",
        "agreement",
        2,
        difference_figure,
        _title,
        _caption,
    )
)

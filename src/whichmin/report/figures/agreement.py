"""Predicted against trained test outputs, with the identity."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import EntryView, way_of_all
from whichmin.report.palette import styled
from whichmin.report.scatter import predicted_against_true, truth_of


@styled
def agreement_figure(entries: Sequence[EntryView]) -> Figure | None:
    """See :func:`whichmin.report.scatter.predicted_against_true`."""
    return predicted_against_true(entries, difference=False)


def _title(entries: Sequence[EntryView]) -> str:
    if truth_of(entries) == "trained":
        return "Predicted against trained test outputs"
    return f"Test outputs as one linearization predicts them against those {way_of_all(entries)}"


def _caption(entries: Sequence[EntryView]) -> str:
    both = "prediction and training" if truth_of(entries) == "trained" else "the two predictions"
    return f"{_title(entries)}. On the line, {both} agree."


register(
    PageFigure(
        "agreement",
        "entries",
        "agreement",
        1,
        agreement_figure,
        _title,
        _caption,
    )
)

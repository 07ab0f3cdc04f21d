"""Figures of several panels, which show a result at a glance."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.decomposition.explanation import Explanation
from whichmin.linear.study import LinearStudy
from whichmin.report.axes import WIDTH, rows_height
from whichmin.report.entry_view import entry_views, term_names
from whichmin.report.figures.drift import draw_drift
from whichmin.report.figures.invariant import draw_invariant
from whichmin.report.figures.loss import draw_loss
from whichmin.report.figures.terms import draw_terms
from whichmin.report.figures.waterfall import draw_waterfall
from whichmin.report.figures.width import draw_width
from whichmin.report.palette import styled
from whichmin.report.panel import HEIGHT, panels
from whichmin.studies.experiment.entry import Entry


@styled
def explanation_figure(explanation: Explanation, axes: Sequence[Axes] | None = None) -> Figure:
    """The waterfall of the test error, where there are test targets, and each term at each test point."""
    views = entry_views([Entry("", explanation=explanation)])
    names = term_names(views)
    count = 1 if explanation.task.y_test is None else 2
    figure, drawn = panels(axes, (WIDTH * count, rows_height(len(names) + 1)), 1, count)
    if count == 2:
        draw_waterfall(drawn[0], views, names)
    draw_terms(drawn[-1], explanation, names)
    return figure


@styled
def study_figure(study: LinearStudy, axes: Sequence[Axes] | None = None) -> Figure:
    """The loss with its bounds, the drift of the imbalance, the distance by initialization, and by width if known."""
    figure, drawn = panels(axes, (2 * WIDTH, 2 * HEIGHT), 2, 2)
    draw_loss(drawn[0], study)
    draw_drift(drawn[1], study)
    draw_invariant(drawn[2], study)
    if study.sweep is not None:
        draw_width(drawn[3], study.sweep)
    elif axes is None:
        drawn[3].remove()
    return figure

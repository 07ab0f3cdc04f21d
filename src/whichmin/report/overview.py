"""Figures of several panels, which show a result at a glance."""

from __future__ import annotations

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
from whichmin.report.panel import HEIGHT
from whichmin.studies.experiment.entry import Entry


@styled
def explanation_figure(explanation: Explanation) -> Figure:
    """The waterfall of the test error, where there are test targets, and each term at each test point."""
    views = entry_views([Entry("", explanation=explanation)])
    names = term_names(views)
    panels = 1 if explanation.task.y_test is None else 2
    figure = Figure(figsize=(WIDTH * panels, rows_height(len(names) + 1)))
    axes = figure.subplots(1, panels, squeeze=False)[0]
    if panels == 2:
        draw_waterfall(axes[0], views, names)
    draw_terms(axes[-1], explanation, names)
    return figure


@styled
def study_figure(study: LinearStudy) -> Figure:
    """The loss with its bounds, the drift of the imbalance, the distance by initialization, and by width if known."""
    figure = Figure(figsize=(2 * WIDTH, 2 * HEIGHT))
    axes = figure.subplots(2, 2)
    draw_loss(axes[0, 0], study)
    draw_drift(axes[0, 1], study)
    draw_invariant(axes[1, 0], study)
    if study.sweep is None:
        axes[1, 1].remove()
    else:
        draw_width(axes[1, 1], study.sweep)
    return figure

"""What each remedy brings: the validation loss, predicted and trained, beside the interpolator's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.mitigation.mitigation import Mitigation
from whichmin.mitigation.outcome import title_of
from whichmin.mitigation.significance import standard_error
from whichmin.report.axes import WIDTH, legend, logarithmic_fine, rows_height
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import GREEN, RELINEARIZED, TRAINED, styled
from whichmin.report.panel import panels


@styled
def remedies_figure(mitigation: Mitigation, axes: Sequence[Axes] | None = None) -> Figure | None:
    """A row for each method that was predicted; bars are standard errors over validation points."""
    remedies = [remedy for remedy in reversed(mitigation.remedies) if remedy.predicted is not None]
    if not remedies:
        return None
    validation = mitigation.validation
    figure, (ax,) = panels(axes, (WIDTH, rows_height(len(remedies))))
    kinds = {"predicted": RELINEARIZED, "trained": TRAINED}
    for i, (kind, colour) in enumerate(kinds.items()):
        rows = [(y, o) for y, r in enumerate(remedies) if (o := getattr(r, kind)) is not None]
        if not rows:
            continue
        losses = np.array([validation.test_loss(outcome.validation.double()) for _, outcome in rows])
        off = np.nan_to_num([standard_error(validation, outcome.validation) for _, outcome in rows])
        below = np.minimum(off, 0.9 * losses)  # a logarithmic axis has no zero
        y = np.array([at for at, _ in rows]) + 0.14 * (1 - 2 * i)
        ax.errorbar(losses, y, xerr=[below, off], fmt="o", ms=4, lw=1.2, color=colour, label=kind)
    floor = validation.test_loss(mitigation.interpolant.validation.double())
    ax.axvline(floor, color=GREEN, lw=1.2, linestyle=(0, (4, 2)), label="interpolator")
    ax.set_yticks(range(len(remedies)), [title_of(remedy.name) for remedy in remedies])
    ax.set_ylim(-0.6, len(remedies) - 0.4)
    ax.set_xlabel(f"validation {mitigation.task.loss.label}")
    if floor > 0:
        logarithmic_fine(ax, "x")
    legend(ax, 3)
    return figure


def _caption(mitigation: Mitigation) -> str:
    return (
        f"The {mitigation.task.loss.label} on the validation points, as predicted and, where trained, as measured, "
        "with standard errors over points; the interpolator is what the training data alone say."
    )


register(PageFigure("remedies", "mitigation", "remedies", 1, remedies_figure, _caption, _caption))

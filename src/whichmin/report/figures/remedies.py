"""What each remedy brings: the validation loss, predicted and trained, beside the interpolator's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.mitigation.mitigation import Mitigation
from whichmin.mitigation.outcome import Outcome, title_of
from whichmin.mitigation.significance import standard_error
from whichmin.report.axes import WIDTH, is_positive, legend, logarithmic_fine, rows_height
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import GREEN, RELINEARIZED, TRAINED, styled
from whichmin.report.panel import panels
from whichmin.task import Task


@styled
def remedies_figure(mitigation: Mitigation, axes: Sequence[Axes] | None = None) -> Figure | None:
    """A row for each method that was predicted; bars are standard errors over validation points."""
    remedies = [remedy for remedy in reversed(mitigation.remedies) if remedy.predicted is not None]
    if not remedies:
        return None
    validation = mitigation.validation
    figure, (ax,) = panels(axes, (WIDTH, rows_height(len(remedies))))
    kinds = {"predicted": RELINEARIZED, "trained": TRAINED}
    outcomes = {kind: [(y, o) for y, r in enumerate(remedies) if (o := getattr(r, kind)) is not None] for kind in kinds}
    losses = {kind: np.array([_loss(validation, outcome) for _, outcome in rows]) for kind, rows in outcomes.items()}
    floor = _loss(validation, mitigation.interpolant)
    is_logarithmic = is_positive(floor, *losses.values())
    for i, (kind, colour) in enumerate(kinds.items()):
        rows = outcomes[kind]
        if not rows:
            continue
        off = np.nan_to_num([standard_error(validation, outcome.validation) for _, outcome in rows])
        below = np.minimum(off, 0.9 * losses[kind]) if is_logarithmic else off  # a logarithmic axis has no zero
        y = np.array([at for at, _ in rows]) + 0.14 * (1 - 2 * i)
        ax.errorbar(losses[kind], y, xerr=[below, off], fmt="o", ms=4, lw=1.2, color=colour, label=kind)
    ax.axvline(floor, color=GREEN, lw=1.2, linestyle=(0, (4, 2)), label="interpolator")
    ax.set_yticks(range(len(remedies)), [title_of(remedy.name) for remedy in remedies])
    ax.set_ylim(-0.6, len(remedies) - 0.4)
    ax.set_xlabel(f"validation {mitigation.task.loss.label}")
    if is_logarithmic:
        logarithmic_fine(ax, "x")
    legend(ax, 3)
    return figure


def _loss(validation: Task, outcome: Outcome) -> float:
    return validation.test_loss(outcome.validation.double())


def _caption(mitigation: Mitigation) -> str:
    return (
        f"The {mitigation.task.loss.label} on the validation points, as predicted and, where trained, as measured, "
        "with standard errors over points; the interpolator is what the training data alone say."
    )


register(PageFigure("remedies", "mitigation", "remedies", 1, remedies_figure, _caption, _caption))

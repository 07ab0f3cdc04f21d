"""How far the imbalance of a linear network drifts."""

from __future__ import annotations

from matplotlib.axes import Axes

from whichmin.linear.study import OFF, LinearStudy
from whichmin.report.axes import legend, logarithmic_fine
from whichmin.report.drawing import PageFigure, register
from whichmin.report.numbers import number
from whichmin.report.palette import BLUE, GREEN, INK, ORANGE, RED
from whichmin.report.panel import panel

_CAPTION = (
    "How far the imbalance moved. The flow conserves it up to the integrator’s error; gradient descent lets it drift "
    "in proportion to the step."
)


def draw_drift(ax: Axes, study: LinearStudy) -> None:
    """Of the flow, which is the integrator's error, and of gradient descent at several steps."""
    descents = study.descents.values()
    rates = [float(run.times[-1]) / run.evaluations for run in descents]
    runs = {"flow": study.flows[OFF]} | {f"lr {number(lr, 2)}": run for lr, run in zip(rates, descents, strict=True)}
    for (label, run), colour in zip(runs.items(), (INK, BLUE, GREEN, ORANGE, RED), strict=False):
        times, drift = run.times.numpy(), run.imbalance_drift.numpy()
        ax.plot(times[drift > 0], drift[drift > 0], color=colour, linewidth=1.5, label=label)
    logarithmic_fine(ax, "y")
    ax.set(xlabel="time (steps × lr)", ylabel="drift of the imbalance")
    legend(ax, 2)


register(PageFigure("drift", "study", "convergence", 2, panel(draw_drift), lambda _: _CAPTION, lambda _: _CAPTION))

"""Loss above the optimum along a flow of a linear network, with its bounds."""

from __future__ import annotations

from matplotlib.axes import Axes

from whichmin.linear.study import OFF, LinearStudy
from whichmin.report.axes import legend, logarithmic_fine
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import BLUE, INK, ORANGE
from whichmin.report.panel import panel

_CAPTION = "Loss above the optimum. The flow may fall faster than the bounds, never slower."


def draw_loss(ax: Axes, study: LinearStudy) -> None:
    """L − L* from the random initialization, with the bound by imbalance and the tight bound."""
    analysis, run = study.analysis, study.flows[OFF]
    times = run.times.numpy()
    bound = (analysis.loss_bound(times) - analysis.optimum).numpy()
    tight = analysis.tight_gap_bound(times).numpy()
    floor = max(1e-12 * float(run.gaps[0]), 1e-300)
    for label, values, colour, dash in (
        ("bound", bound, ORANGE, (0, (4, 2))),
        ("tight bound", tight, BLUE, (0, (1.5, 1.5))),
        ("flow", run.gaps.numpy(), INK, "-"),
    ):
        above = values > floor
        ax.plot(times[above], values[above], color=colour, linestyle=dash, linewidth=1.6, label=label)
    logarithmic_fine(ax, "y")
    ax.set(xlabel="time", ylabel="loss above the optimum")
    legend(ax, 3)


register(PageFigure("loss", "study", "convergence", 1, panel(draw_loss), lambda _: _CAPTION, lambda _: _CAPTION))

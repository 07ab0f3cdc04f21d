"""Distance to the minimum-norm solution along flows on and off the invariant set."""

from __future__ import annotations

from matplotlib.axes import Axes

from whichmin.linear.study import LinearStudy
from whichmin.report.axes import legend, logarithmic_fine
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import BLUE, GREEN, INK, ORANGE, RED
from whichmin.report.panel import panel

_CAPTION = (
    "Distance to the minimum-norm solution. On the invariant set training ends there; the further off it starts, the "
    "further away it ends."
)


def draw_invariant(ax: Axes, study: LinearStudy) -> None:
    """One line for each flow of the study."""
    for (label, run), colour in zip(study.flows.items(), (GREEN, BLUE, ORANGE, RED, INK), strict=False):
        distances = run.solution_distances.numpy()
        above = distances > 1e-9 * float(distances[0])
        ax.plot(run.times.numpy()[above], distances[above], color=colour, linewidth=1.6, label=label)
    logarithmic_fine(ax, "y")
    ax.set(xlabel="time", ylabel="distance to minimum norm")
    legend(ax, 1 if len(study.flows) > 3 else len(study.flows))


register(PageFigure("invariant", "study", "bias", 1, panel(draw_invariant), lambda _: _CAPTION, lambda _: _CAPTION))

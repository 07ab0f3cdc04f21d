"""Loss above the optimum along one trajectory of a linear network, and what is guaranteed before it starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.linear.analysis import LinearAnalysis
from whichmin.linear.deep import DeepFlow
from whichmin.linear.flow import LinearFlow
from whichmin.report.axes import legend, logarithmic_fine
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import BLUE, INK, ORANGE
from whichmin.report.panel import panel

_FLOW = "Loss above the optimum, and the distance to the minimum-norm solution."
_GUARANTEE = "What the loss above the optimum is guaranteed to stay below, by the imbalance alone and with the product."
#: Guarantees are drawn over so many of their time constants.
CONSTANTS = 12.0


def draw_flow(ax: Axes, flow: LinearFlow | DeepFlow) -> None:
    """L − L* and ‖Θ − Θ̂‖ over time."""
    times = flow.times.numpy()
    for label, values, colour, dash in (
        ("loss above the optimum", flow.gaps.numpy(), INK, "-"),
        ("distance to minimum norm", flow.solution_distances.numpy(), BLUE, (0, (4, 2))),
    ):
        above = values > max(1e-12 * float(values[0]), 1e-300)
        ax.plot(times[above], values[above], color=colour, linestyle=dash, linewidth=1.6, label=label)
    logarithmic_fine(ax, "y")
    ax.set(xlabel="time")
    legend(ax, 2)


def draw_guarantee(ax: Axes, analysis: LinearAnalysis) -> None:
    """The bounds on L − L* over time."""
    times = np.linspace(0.0, CONSTANTS / analysis.tight_rate, 200)
    for label, values, colour in (
        ("bound", (analysis.loss_bound(times) - analysis.optimum).numpy(), ORANGE),
        ("tight bound", analysis.tight_gap_bound(times).numpy(), BLUE),
    ):
        ax.plot(times, values, color=colour, linewidth=1.6, label=label)
    logarithmic_fine(ax, "y")
    ax.set(xlabel="time", ylabel="loss above the optimum")
    legend(ax, 2)


def guarantee_figure(analysis: LinearAnalysis, axes: Sequence[Axes] | None = None) -> Figure | None:
    """The bounds; None where nothing is guaranteed."""
    return panel(draw_guarantee)(analysis, axes) if analysis.tight_rate > 0 else None


flow_figure = panel(draw_flow)
register(PageFigure("trajectory", "flow", "convergence", 1, flow_figure, lambda _: _FLOW, lambda _: _FLOW))
register(
    PageFigure("guarantee", "analysis", "convergence", 1, guarantee_figure, lambda _: _GUARANTEE, lambda _: _GUARANTEE)
)

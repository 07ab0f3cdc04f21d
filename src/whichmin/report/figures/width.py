"""Distance to the minimum-norm solution at the end of training against the width."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.linear.study import LinearStudy
from whichmin.linear.sweep import WidthSweep
from whichmin.report.axes import legend, logarithmic_fine
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import BLUE, GREEN, INK, ORANGE, RED, SKY
from whichmin.report.panel import panel

_CAPTION = (
    "Distance to the minimum-norm solution at the end of training against the width, geometric means and standard "
    "deviations over seeds, for entries N(0, 1/h²ᵃ). Slopes of the fits, in brackets the theory’s."
)


def draw_width(ax: Axes, sweep: WidthSweep) -> None:
    """Geometric means over seeds with standard deviations, and fitted powers."""
    widths = sweep.widths.numpy()
    for i, fit in enumerate(sweep.fits()):
        colour = (INK, BLUE, GREEN, ORANGE, RED, SKY)[i % 6]
        logs = np.log(sweep.solution_distances[i].numpy())
        mean, std = logs.mean(axis=1), logs.std(axis=1)
        middle = np.exp(mean)
        ends = np.stack([middle - np.exp(mean - std), np.exp(mean + std) - middle])
        ax.errorbar(widths, middle, ends, fmt="o", color=colour, markersize=4, linewidth=0.8)
        label = f"a = {fit.exponent:g}: {_power(fit.slope)}"
        if math.isfinite(fit.expected):
            label += f" ({_power(fit.expected)})"
        ax.plot(widths, fit.prefactor * widths**fit.slope, color=colour, linewidth=1.3, label=label)
    logarithmic_fine(ax, "x")
    logarithmic_fine(ax, "y")
    ax.set(xlabel="width h", ylabel="distance to minimum norm")
    legend(ax, 2)


def _power(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _of_study(study: LinearStudy) -> Figure | None:
    return None if study.sweep is None else width_figure(study.sweep)


width_figure = panel(draw_width)
register(PageFigure("width", "study", "bias", 2, _of_study, lambda _: _CAPTION, lambda _: _CAPTION))
register(PageFigure("width", "sweep", "bias", 1, width_figure, lambda _: _CAPTION, lambda _: _CAPTION))

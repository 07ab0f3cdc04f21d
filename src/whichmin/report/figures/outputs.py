"""Mean and standard deviation over initializations of the outputs at each test point."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from whichmin.infinite.predict import InfinitePrediction
from whichmin.report.axes import spread_out
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import Array
from whichmin.report.palette import BLUE, MUTED
from whichmin.report.panel import panel
from whichmin.studies.seed_spread import SeedSpread

#: The most outputs that are drawn.
POINTS = 400
_CAPTION = (
    "The output at each test point, in ascending order: the mean over initializations, and one standard deviation to "
    "either side. Where the bar crosses the threshold, the decision is the seed’s."
)


def draw_outputs(ax: Axes, outputs: tuple[Array, Array]) -> None:
    """Means and standard deviations, (M,) each, in ascending order of the means."""
    mean, std = outputs
    order = np.argsort(mean)
    order = order[np.sort(spread_out(len(order), POINTS))]
    at = np.arange(len(order))
    ax.errorbar(at, mean[order], std[order], fmt="o", color=BLUE, ecolor=MUTED, markersize=2.4, linewidth=0.7)
    ax.set(xlabel="outputs at test points, ascending", ylabel="mean ± standard deviation")
    ax.grid(axis="y")


_outputs_panel = panel(draw_outputs)


def seeds_figure(spread: SeedSpread) -> Figure:
    """Of predicted seeds."""
    return _outputs_panel((_flat(spread.mean), _flat(spread.seed_std)))


def infinite_figure(prediction: InfinitePrediction) -> Figure:
    """Of infinitely wide networks."""
    std = prediction.std[:, None].expand_as(prediction.mean)
    return _outputs_panel((_flat(prediction.mean), _flat(std)))


def _flat(values: Tensor) -> Array:
    return values.detach().double().cpu().numpy().ravel()


register(PageFigure("outputs", "seeds", "outputs", 1, seeds_figure, lambda _: _CAPTION, lambda _: _CAPTION))
register(PageFigure("outputs", "infinite", "outputs", 1, infinite_figure, lambda _: _CAPTION, lambda _: _CAPTION))

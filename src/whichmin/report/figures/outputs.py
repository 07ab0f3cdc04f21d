"""Mean and standard deviation over initializations of the outputs at each test point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from whichmin.decision import Decision
from whichmin.infinite.predict import InfinitePrediction
from whichmin.report.axes import spread_out
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import Array
from whichmin.report.palette import BLUE, INK, MUTED
from whichmin.report.panel import panel
from whichmin.studies.seed_spread import SeedSpread

#: The most outputs that are drawn.
POINTS = 400
_CAPTION = (
    "The output at each test point, in ascending order: the mean over initializations, and one standard deviation to "
    "either side. Where the bar crosses the threshold, the decision is the seed’s."
)


_MARGINS = (
    "By how much the output of the true class exceeds all others at each test point, in ascending order: the mean over "
    "initializations, and one standard deviation to either side. Below zero the decision is wrong; where the bar "
    "crosses zero, it is the seed’s."
)


@dataclass(frozen=True)
class _Drawn:
    """Means and standard deviations, (M,) each, what they are of, and whether zero is where decisions change."""

    mean: Array
    std: Array
    of: str = "outputs at test points"
    threshold: bool = False


def draw_outputs(ax: Axes, drawn: _Drawn) -> None:
    """In ascending order of the means."""
    mean, std = drawn.mean, drawn.std
    order = np.argsort(mean)
    order = order[np.sort(spread_out(len(order), POINTS))]
    at = np.arange(len(order))
    ax.errorbar(at, mean[order], std[order], fmt="o", color=BLUE, ecolor=MUTED, markersize=2.4, linewidth=0.7)
    ax.set(xlabel=f"{drawn.of}, ascending", ylabel="mean ± standard deviation")
    ax.grid(axis="y")
    if drawn.threshold:
        ax.axhline(0, color=INK, linewidth=0.8)


_outputs_panel = panel(draw_outputs)


def seeds_figure(spread: SeedSpread, axes: Sequence[Axes] | None = None) -> Figure:
    """Of predicted seeds: margins of the true class, or outputs where there are no such."""
    if not _has_margins(spread):
        return _outputs_panel(_Drawn(_flat(spread.mean), _flat(spread.seed_std)), axes)
    assert spread.task.y_test is not None
    margins = Decision.of(spread.task).margins(spread.task, spread.test, spread.task.y_test)
    drawn = _Drawn(margins.mean(axis=0), margins.std(axis=0, ddof=1), "margins at test points", threshold=True)
    return _outputs_panel(drawn, axes)


def _has_margins(spread: SeedSpread) -> bool:
    decision = Decision.of(spread.task)
    return spread.task.y_test is not None and decision.classes and spread.task.outputs > decision.positions


def infinite_figure(prediction: InfinitePrediction, axes: Sequence[Axes] | None = None) -> Figure:
    """Of infinitely wide networks."""
    std = prediction.std[:, None].expand_as(prediction.mean)
    return _outputs_panel(_Drawn(_flat(prediction.mean), _flat(std)), axes)


def _flat(values: Tensor) -> Array:
    return values.detach().double().cpu().numpy().ravel()


def _caption(spread: SeedSpread) -> str:
    return _MARGINS if _has_margins(spread) else _CAPTION


register(PageFigure("outputs", "seeds", "outputs", 1, seeds_figure, _caption, _caption))
register(PageFigure("outputs", "infinite", "outputs", 1, infinite_figure, lambda _: _CAPTION, lambda _: _CAPTION))

"""How far apart every two recipes of a comparison are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from whichmin.report.axes import legend, plain
from whichmin.report.comparison import shared_start
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import MUTED, RELINEARIZED, TRAINED, styled
from whichmin.report.panel import panels
from whichmin.studies.comparison import Comparison
from whichmin.studies.effects import Effect, Estimate

#: More pairs than this are not drawn; those that are furthest apart are.
MOST = 15


@styled
def distances_figure(comparison: Comparison, axes: Sequence[Axes] | None = None) -> Figure | None:
    """Distances with confidence intervals, predicted and trained, the part all seeds share, and the error."""
    best = {names: pair.best for names, pair in comparison.pairs.items() if pair.best is not None}
    if not best:
        return None
    names = sorted(best, key=lambda pair: best[pair].paired.distance.mean)[-MOST:]
    above, row = (1.3, 0.3) if comparison.trained is None else (1.5, 0.52)  # inches: the legend and axis, each pair
    figure, (ax,) = panels(axes, (7.2, above + row * len(names)))
    at = np.arange(len(names), dtype=float)
    kinds = {"predicted": RELINEARIZED} | ({} if comparison.trained is None else {"trained": TRAINED})
    for i, (kind, colour) in enumerate(kinds.items()):
        effects: list[Effect | None] = [getattr(comparison.pairs[pair], kind) for pair in names]
        effects_at = [(y, e) for y, e in zip(at, effects, strict=True) if e is not None]
        if not effects_at:
            continue
        y = np.array([y for y, _ in effects_at]) + (0.2 * (1 - 2 * i) if len(kinds) > 1 else 0.0)
        _bars(ax, y, [e.paired.distance for _, e in effects_at], colour, "o", kind)
        _bars(ax, y - 0.13, [e.systematic.distance for _, e in effects_at], colour, "D", f"{kind}, shared by all seeds")
        if kind == "predicted":
            errors = [e.paired.error for _, e in effects_at]
            ax.plot(errors, y, "|", ms=9, mew=1.4, color=MUTED, label="error of the predictions")
    ax.set_yticks(at, [plain(f"{one} – {other}") for one, other in names])
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlim(left=0)
    ax.set_xlabel("root mean square distance of outputs")
    ax.grid(axis="x")
    legend(ax, 3)
    return figure


def _bars(ax: Axes, y: NDArray[np.float64], estimates: Sequence[Estimate], colour: str, mark: str, label: str) -> None:
    d = np.array([[e.mean, e.low, e.high] for e in estimates])
    low, high = np.nan_to_num(d[:, 0] - d[:, 1]), np.nan_to_num(d[:, 2] - d[:, 0])
    face = colour if mark == "o" else "none"
    ax.errorbar(d[:, 0], y, xerr=[low, high], fmt=mark, ms=4, lw=1.2, color=colour, mfc=face, label=label)


def _caption(comparison: Comparison) -> str:
    text = (
        f"Dots: distance between the test outputs of two ways to train from the same {shared_start(comparison)}, mean "
        "over seeds. "
        "Open diamonds: the part of it that all seeds share. Bars are confidence intervals; the upright lines are what "
        "the two predictions may be off by."
    )
    return f"{text} The {MOST} largest." if len(comparison.pairs) > MOST else text


register(PageFigure("distances", "comparison", "pairs", 1, distances_figure, _caption, _caption))

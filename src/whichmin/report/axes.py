"""What the figures share: logarithmic axes, legends, and fewer points where there are too many to draw."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import NDArray

from whichmin.dynamics.prediction import Curve
from whichmin.report.numbers import number, superscript
from whichmin.report.entry_view import Array, array
from whichmin.training.run import Run


def legend(ax: Axes, columns: int) -> None:
    """A legend above the axes, its samples opaque."""
    drawn = ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=columns, markerscale=1.4)
    for handle in drawn.legend_handles:
        if handle is not None:
            handle.set_alpha(None)


def logarithmic(ax: Axes, which: str) -> None:
    """A logarithmic axis, its ticks written with superscripts that any font has."""
    getattr(ax, f"set_{which}scale")("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(LogLocator(base=10, numticks=6))
    axis.set_major_formatter(FuncFormatter(_power_of_ten))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.grid(axis=which)  # type: ignore[arg-type]


def _power_of_ten(value: float, _: object) -> str:
    exponent = round(math.log10(value)) if value > 0 else 0
    return number(int(value)) if 0 <= exponent <= 3 else f"10{superscript(exponent)}"


def thin(steps: Array, mse: Array, points: int) -> tuple[Array, Array]:
    """At most so many points of a curve, evenly on a logarithmic axis, without what it cannot show."""
    good = (steps >= 1) & np.isfinite(steps) & np.isfinite(mse) & (mse > 0)
    x, y = steps[good], mse[good]
    if len(x) <= points:
        return x, y
    at = np.unique(np.searchsorted(x, np.geomspace(x[0], x[-1], max(40, points))).clip(max=len(x) - 1))
    return x[at], y[at]


def in_sight(curve: Curve, run: Run | None) -> tuple[Array, Array]:
    """A predicted curve as far as it can be compared: around the run, or else down eight orders of magnitude."""
    steps, mse = array(curve.steps), array(curve.mse)
    if not len(steps):
        return steps, mse
    if run is not None:
        losses = array(run.losses)
        last, floor = 3 * max(1, run.steps), 0.01 * losses[losses > 0].min(initial=np.inf)
    else:
        last, floor = np.inf, 1e-8 * mse.max()
    seen = (steps <= last) & (mse >= (floor if np.isfinite(floor) else 0))
    return steps[seen], mse[seen]


def every(n: int, most: int) -> NDArray[np.int64]:
    """Some of n rows, at most ``most``, spread evenly without a period that could fall in with that of the outputs."""
    if n <= most:
        return np.arange(n)
    return np.unique(np.floor(n * ((np.arange(most) * 0.6180339887498949) % 1.0)).astype(np.int64))


def plain(text: str) -> str:
    """A label in which nothing is read as mathematics."""
    return text.replace("$", r"\$")

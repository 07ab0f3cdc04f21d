"""What the figures share: logarithmic axes, legends, and fewer points where there are too many to draw."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from whichmin.report.entry_view import Array
from whichmin.report.numbers import number, superscript

#: Inches that a figure is wide, so that two stand side by side on a page and one is legible on a phone.
WIDTH = 4.6


def rows_height(rows: int) -> float:
    """Inches that a figure of horizontal bars or rows of dots is high."""
    return 0.9 + 0.37 * rows


def legend(ax: Axes, columns: int) -> None:
    """A legend above the axes, its samples opaque.

    Args:
        ax: the axes.
        columns: how many at most: fewer where the legend would be wider than the axes.
    """
    room = ax.get_window_extent().width
    drawn = _legend(ax, columns)
    while columns > 1 and drawn.get_window_extent().width > room:
        columns -= 1
        drawn = _legend(ax, columns)
    for handle in drawn.legend_handles:
        if handle is not None:
            handle.set_alpha(None)


def _legend(ax: Axes, columns: int) -> Legend:
    return ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=columns, markerscale=1.4)


def is_positive(*losses: ArrayLike) -> bool:
    """Whether a logarithmic axis can show all of these; losses such as Poisson's may be below zero."""
    return not any(bool((np.asarray(some) <= 0).any()) for some in losses)


def logarithmic(ax: Axes, which: str) -> None:
    """A logarithmic axis, its ticks written with superscripts that any font has: powers of ten, or finer ones."""
    getattr(ax, f"set_{which}scale")("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = axis.get_view_interval()
    if high < 100 * low:
        logarithmic_fine(ax, which)
        return
    axis.set_major_locator(LogLocator(base=10, numticks=6))
    axis.set_major_formatter(FuncFormatter(_power_of_ten))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.grid(axis=which)  # type: ignore[arg-type]


def _power_of_ten(value: float, _: object) -> str:
    exponent = round(math.log10(value)) if value > 0 else 0
    return number(int(value)) if 0 <= exponent <= 3 else f"10{superscript(exponent)}"


def logarithmic_fine(ax: Axes, which: str) -> None:
    """A logarithmic axis whose few ticks are written out: with 2 and 5 where it spans little, evenly where less."""
    getattr(ax, f"set_{which}scale")("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = axis.get_view_interval()
    span = high / max(low, 1e-300)
    even, subs = MaxNLocator(4), (1.0, 2.0, 5.0) if span < 300 else (1.0,)
    axis.set_major_locator(even if span < 5 else LogLocator(base=10, subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(_written_out))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.grid(axis=which)  # type: ignore[arg-type]


def _written_out(value: float, _: object) -> str:
    if 1e-3 < value < 1e5:
        return f"{value:,.10g}"
    exponent = math.floor(math.log10(value) + 1e-9) if value > 0 else 0
    lead = round(value / 10.0**exponent)
    return ("" if lead == 1 else f"{lead}·") + f"10{superscript(exponent)}"


def thin(steps: Array, losses: Array, points: int) -> tuple[Array, Array]:
    """At most so many points of a curve, evenly on a logarithmic axis, without what it cannot show."""
    good = (steps >= 1) & np.isfinite(steps) & np.isfinite(losses) & (losses > 0)
    x, y = steps[good], losses[good]
    if len(x) <= points:
        return x, y
    at = np.unique(np.searchsorted(x, np.geomspace(x[0], x[-1], max(40, points))).clip(max=len(x) - 1))
    return x[at], y[at]


def spread_out(n: int, most: int) -> NDArray[np.int64]:
    """Some of n rows, at most ``most``, spread evenly without a period that could fall in with that of the outputs."""
    if n <= most:
        return np.arange(n)
    return np.unique(np.floor(n * ((np.arange(most) * 0.6180339887498949) % 1.0)).astype(np.int64))


def plain(text: str) -> str:
    """A label in which nothing is read as mathematics."""
    return text.replace("$", r"\$")

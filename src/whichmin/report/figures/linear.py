"""Figures of linear networks: loss against its bounds, distance against width, trajectories on and off the set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from whichmin.linear.analysis import LinearAnalysis
from whichmin.linear.flow import LinearFlow
from whichmin.linear.sweep import WidthSweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (4.6, 3.3)


def loss_figure(analysis: LinearAnalysis, run: LinearFlow) -> Figure:
    """L − L* along a flow, with the bound by imbalance and the tight bound.

    Args:
        analysis: of the network that the flow starts from.
        run: the flow.
    """
    from whichmin.report.palette import BLUE, INK, ORANGE, style

    with style():
        figure, ax = _figure()
        times = run.times.numpy()
        bound = (analysis.loss_bound(times) - analysis.optimum).numpy()
        tight = analysis.tight_gap_bound(times).numpy()
        floor = max(1e-12 * float(run.gaps[0]), 1e-300)
        for label, values, colour, dash in (
            ("bound", bound, ORANGE, (0, (4, 2))),
            ("tight bound", tight, BLUE, (0, (1.5, 1.5))),
            ("flow", run.gaps.numpy(), INK, "-"),
        ):
            shown = values > floor
            ax.plot(times[shown], values[shown], color=colour, linestyle=dash, linewidth=1.6, label=label)
        _log(ax, "y")
        ax.set(xlabel="time", ylabel="loss above the optimum")
        _legend(ax, 3)
    return figure


def width_figure(sweep: WidthSweep) -> Figure:
    """The end's distance to the minimum-norm solution against the width: geometric means over seeds, and fits.

    Args:
        sweep: of :func:`whichmin.linear.width_sweep`.
    """
    from whichmin.report.palette import BLUE, GREEN, INK, ORANGE, RED, SKY, style

    with style():
        figure, ax = _figure()
        widths = sweep.widths.numpy()
        for i, fit in enumerate(sweep.fits()):
            colour = (INK, BLUE, GREEN, ORANGE, RED, SKY)[i % 6]
            logs = np.log(sweep.distances[i].numpy())
            mean, spread = logs.mean(axis=1), logs.std(axis=1)
            middle = np.exp(mean)
            ends = np.stack([middle - np.exp(mean - spread), np.exp(mean + spread) - middle])
            ax.errorbar(widths, middle, ends, fmt="o", color=colour, markersize=4, linewidth=0.8)
            label = f"a = {fit.exponent:g}: {_number(fit.slope)}"
            if math.isfinite(fit.expected):
                label += f" ({_number(fit.expected)})"
            ax.plot(widths, fit.prefactor * widths**fit.slope, color=colour, linewidth=1.3, label=label)
        _log(ax, "x")
        _log(ax, "y")
        ax.set(xlabel="width h", ylabel="distance to minimum norm")
        _legend(ax, 2)
    return figure


def invariant_figure(runs: Mapping[str, LinearFlow]) -> Figure:
    """Distance to the minimum-norm solution along flows from several initializations.

    Args:
        runs: flows by label, such as ``"on the invariant set"``.
    """
    from whichmin.report.palette import BLUE, GREEN, INK, ORANGE, RED, style

    with style():
        figure, ax = _figure()
        for (label, run), colour in zip(runs.items(), (GREEN, BLUE, ORANGE, RED, INK), strict=False):
            distances = run.distances.numpy()
            shown = distances > 1e-9 * float(distances[0])
            ax.plot(run.times.numpy()[shown], distances[shown], color=colour, linewidth=1.6, label=label)
        _log(ax, "y")
        ax.set(xlabel="time", ylabel="distance to minimum norm")
        _legend(ax, 1 if len(runs) > 3 else len(runs))
    return figure


def drift_figure(flow: LinearFlow, descents: Mapping[str, LinearFlow]) -> Figure:
    """How far the imbalance drifts: the flow (the integrator's error) and gradient descent at several steps.

    Args:
        flow: the flow.
        descents: gradient descent by label, such as ``"lr 0.01"``.
    """
    from whichmin.report.palette import BLUE, GREEN, INK, ORANGE, RED, style

    with style():
        figure, ax = _figure()
        runs = {"flow": flow, **descents}
        for (label, run), colour in zip(runs.items(), (INK, BLUE, GREEN, ORANGE, RED), strict=False):
            times, drift = run.times.numpy(), run.imbalance_drift.numpy()
            ax.plot(times[drift > 0], drift[drift > 0], color=colour, linewidth=1.5, label=label)
        _log(ax, "y")
        ax.set(xlabel="time (steps × lr)", ylabel="drift of the imbalance")
        _legend(ax, 2)
    return figure


def _figure() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE)
    return figure, figure.subplots()


def _legend(ax: Axes, columns: int) -> None:
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.02), ncols=columns)


def _log(ax: Axes, which: str) -> None:
    """A logarithmic axis whose few ticks are written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    getattr(ax, f"set_{which}scale")("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = axis.get_view_interval()
    narrow = high / max(low, 1e-300) < 300
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if narrow else (1.0,), numticks=8))
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.grid(axis=which)  # type: ignore[arg-type]


def _tick(value: float, _: object) -> str:
    from whichmin.report.numbers import superscript

    if 1e-3 < value < 1e5:
        return f"{value:,.10g}"
    exponent = math.floor(math.log10(value) + 1e-9) if value > 0 else 0
    lead = round(value / 10.0**exponent)
    return ("" if lead == 1 else f"{lead}·") + f"10{superscript(exponent)}"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")

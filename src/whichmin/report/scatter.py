"""Predicted outputs against what stands for the truth, for the figures that compare them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from whichmin.report.axes import WIDTH, legend, spread_out
from whichmin.report.entry_view import EntryView, way_of_all
from whichmin.report.palette import INK, LINEARIZED, RELINEARIZED
from whichmin.report.panel import panels

#: The most dots that are drawn for each kind of prediction.
POINTS = 700
#: Kind of prediction: colour and size of the marker, whether it is hollow.
_KINDS = {"linearized": (LINEARIZED, 4.2, True), "relinearized": (RELINEARIZED, 2.4, False)}


def truth_of(entries: Sequence[EntryView]) -> str:
    """What stands for the truth: the trained network, or else the relinearized prediction."""
    return "trained" if any("trained" in v.outputs for v in entries) else "relinearized"


def predicted_against_true(entries: Sequence[EntryView], *, difference: bool) -> Figure | None:
    """Both predictions against the truth, see :func:`truth_of`; None where there are no two of them.

    Args:
        entries: what is shown.
        difference: whether their difference to the truth is drawn in place of themselves.
    """
    truth = truth_of(entries)
    figure, (ax,) = panels(None, (WIDTH, 3.5))
    labels, way = [], way_of_all(entries)
    for kind, (colour, size, hollow) in _KINDS.items():
        label = "one linearization" if kind == "linearized" else way
        both = [v for v in entries if kind != truth and truth in v.outputs and kind in v.outputs]
        both = [v for v in both if v.outputs[kind].shape == v.outputs[truth].shape]
        if not both:
            continue
        x = np.concatenate([v.outputs[truth].ravel() for v in both])
        y = np.concatenate([v.outputs[kind].ravel() for v in both])
        chosen = spread_out(len(x), POINTS)
        face = {"markerfacecolor": "none" if hollow else colour, "markeredgewidth": 0.8 if hollow else 0}
        height = (y - x if difference else y)[chosen]
        ax.plot(x[chosen], height, "o", color=colour, markersize=size, alpha=0.75, label=label, zorder=3, **face)
        labels.append(label)
    if not labels:
        return None
    if difference:
        ax.axhline(0, color=INK, linewidth=0.8)
    else:
        ax.axline((0, 0), slope=1, color=INK, linewidth=0.8)
    if truth == "trained":
        ax.set(xlabel="trained output", ylabel="predicted − trained" if difference else "predicted output")
    else:
        one = "output by one linearization"
        ax.set(xlabel=f"output {way}", ylabel=f"difference from the output {way}" if difference else one)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.grid()
    legend(ax, len(labels))
    return figure

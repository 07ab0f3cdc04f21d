"""Training loss above the lowest that any outputs have, against steps, predicted and real."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.dynamics.prediction import Curve
from whichmin.report.axes import WIDTH, legend, logarithmic, plain, thin
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import Array, EntryView, array, by_optimizer, labelled, way_of_all
from whichmin.report.numbers import number
from whichmin.report.palette import FONT, INK, LINEARIZED, RELINEARIZED, TRAINED, styled
from whichmin.report.panel import HEIGHT, panels

#: The most points that are drawn of all curves of a kind together.
POINTS = 900
#: Losses in float64 are off by about this part of the lowest one, of which many terms are added up.
ROUNDING = 1e-14


@styled
def curves_figure(entries: Sequence[EntryView], axes: Sequence[Axes] | None = None) -> Figure | None:
    """On logarithmic axes, a panel per optimizer; None where there is no curve."""
    parts = by_optimizer(entries) or {"": list(entries)}
    alone = len(parts) == 1
    height = HEIGHT if alone else 0.9 + 1.5 * len(parts)
    figure, column = panels(axes, (WIDTH, height), len(parts), sharex=True, sharey=True)
    names: dict[str, bool] = {}
    for ax, (name, part) in zip(column, parts.items(), strict=True):
        _draw_curves(ax, part, names, way_of_all(entries))
        logarithmic(ax, "x")
        logarithmic(ax, "y")
        if not alone:
            ax.annotate(plain(name), (0.02, 0.06), xycoords="axes fraction")
    if not names:
        return None
    column[-1].set(xlabel="steps")
    if alone:
        column[0].set(ylabel=_drawn(entries))
    else:
        figure.supylabel(_drawn(entries), fontsize=FONT, color=INK)
    legend(column[0], len(names))
    return figure


def _drawn(entries: Sequence[EntryView]) -> str:
    """What the vertical axis shows: losses whose lowest value is 0 are above it as they are."""
    return labelled(f"training loss{_above(entries)}", entries)


def _above(entries: Sequence[EntryView]) -> str:
    return " above the lowest" if any(view.lowest for view in entries) else ""


def _draw_curves(ax: Axes, entries: Sequence[EntryView], drawn: dict[str, bool], way: str) -> None:
    """The curves of entries into one panel; those in ``drawn`` have their line in the legend.

    Args:
        ax: the panel.
        entries: whose curves.
        drawn: what is in the legend.
        way: that of the relinearized predictions.
    """
    alpha = max(0.25, 1 / math.sqrt(len(entries)))
    for view in entries:
        lines = {}
        if view.run is not None:
            real = _excess(view, array(view.run.losses))
            lines["trained"] = (array(view.run.loss_steps), real, TRAINED, "-", 2.2, 0.55 * alpha)
        for name, p, colour, dash in (
            ("one linearization", view.linearized, LINEARIZED, (0, (4, 2))),
            (way, view.relinearized, RELINEARIZED, "-"),
        ):
            if p is not None:
                lines[name] = (*_in_sight(p.curve, view), colour, dash, 1.2, alpha)
        for name, (steps, losses, colour, dash, width, opacity) in lines.items():
            x, y = thin(steps, losses, POINTS // len(entries))
            if len(x) > 1:
                label = name if name not in drawn else None
                ax.plot(x, y, color=colour, linestyle=dash, linewidth=width, alpha=opacity, label=label)
                drawn[name] = True


def _excess(view: EntryView, losses: Array) -> Array:
    """How far losses are above the lowest one; 0 where that is less than their rounding."""
    above = losses - view.lowest
    return np.where(above > ROUNDING * abs(view.lowest), above, 0.0) if view.lowest else losses


def _in_sight(curve: Curve, view: EntryView) -> tuple[Array, Array]:
    """A predicted curve as far as it can be compared: around the run, or else down eight orders of magnitude."""
    steps, losses = array(curve.steps), _excess(view, array(curve.losses))
    if not len(steps):
        return steps, losses
    if view.run is not None:
        real = _excess(view, array(view.run.losses))
        last, floor = 3 * max(1, view.run.steps), 0.01 * real[real > 0].min(initial=np.inf)
    else:
        last, floor = np.inf, 1e-8 * losses.max()
    visible = (steps <= last) & (losses >= (floor if np.isfinite(floor) else 0))
    return steps[visible], losses[visible]


def _caption(entries: Sequence[EntryView]) -> str:
    text = f"{_title(entries)}, both axes logarithmic."
    lowest = {number(view.lowest) for view in entries if view.lowest}
    if lowest:
        text += f" No outputs have a loss below {' or '.join(sorted(lowest))}."
    if any(v.run is not None for v in entries):
        text += (
            " A coloured line on the dark one is a prediction that got the course of training right, not only its end."
        )
    text += " One line per entry." if len(entries) > 1 else ""
    return f"{text} One panel per optimizer." if by_optimizer(entries) else text


def _title(entries: Sequence[EntryView]) -> str:
    return f"Training loss{_above(entries)} against steps"


register(PageFigure("curves", "entries", "training", 1, curves_figure, _title, _caption))

"""Training loss against steps, predicted and real."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.dynamics.prediction import Curve
from whichmin.report.axes import WIDTH, legend, logarithmic, plain, thin
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import Array, EntryView, array, by_optimizer, labelled
from whichmin.report.palette import INK, LINEARIZED, RELINEARIZED, TRAINED, styled
from whichmin.report.panel import HEIGHT, panels
from whichmin.training.run import Run

#: The most points that are drawn of all curves of a kind together.
POINTS = 900


@styled
def curves_figure(entries: Sequence[EntryView], axes: Sequence[Axes] | None = None) -> Figure | None:
    """On logarithmic axes, a panel per optimizer; None where there is no curve."""
    parts = by_optimizer(entries) or {"": list(entries)}
    alone = len(parts) == 1
    height = HEIGHT if alone else 0.9 + 1.5 * len(parts)
    figure, column = panels(axes, (WIDTH, height), len(parts), sharex=True, sharey=True)
    names: dict[str, bool] = {}
    for ax, (name, part) in zip(column, parts.items(), strict=True):
        _draw_curves(ax, part, names)
        logarithmic(ax, "x")
        logarithmic(ax, "y")
        if not alone:
            ax.annotate(plain(name), (0.02, 0.06), xycoords="axes fraction")
    if not names:
        return None
    column[-1].set(xlabel="steps")
    if alone:
        column[0].set(ylabel=labelled("training loss", entries))
    else:
        figure.supylabel(labelled("training loss", entries), fontsize=9.5, color=INK)
    legend(column[0], len(names))
    return figure


def _draw_curves(ax: Axes, entries: Sequence[EntryView], drawn: dict[str, bool]) -> None:
    """The curves of entries into one panel; those in ``drawn`` have their line in the legend."""
    alpha = max(0.25, 1 / math.sqrt(len(entries)))
    for view in entries:
        lines = {}
        if view.run is not None:
            real = array(view.run.losses)
            lines["trained"] = (array(view.run.loss_steps), real, TRAINED, "-", 2.2, 0.55 * alpha)
        for name, p, colour, dash in (
            ("linearized", view.linearized, LINEARIZED, (0, (4, 2))),
            ("along the path", view.relinearized, RELINEARIZED, "-"),
        ):
            if p is not None:
                lines[name] = (*_in_sight(p.curve, view.run), colour, dash, 1.2, alpha)
        for name, (steps, losses, colour, dash, width, opacity) in lines.items():
            x, y = thin(steps, losses, POINTS // len(entries))
            if len(x):
                label = name if name not in drawn else None
                ax.plot(x, y, color=colour, linestyle=dash, linewidth=width, alpha=opacity, label=label)
                drawn[name] = True


def _in_sight(curve: Curve, run: Run | None) -> tuple[Array, Array]:
    """A predicted curve as far as it can be compared: around the run, or else down eight orders of magnitude."""
    steps, losses = array(curve.steps), array(curve.losses)
    if not len(steps):
        return steps, losses
    if run is not None:
        real = array(run.losses)
        last, floor = 3 * max(1, run.steps), 0.01 * real[real > 0].min(initial=np.inf)
    else:
        last, floor = np.inf, 1e-8 * losses.max()
    visible = (steps <= last) & (losses >= (floor if np.isfinite(floor) else 0))
    return steps[visible], losses[visible]


def _caption(entries: Sequence[EntryView]) -> str:
    text = "Training loss against steps, both axes logarithmic."
    if any(v.run is not None for v in entries):
        text += (
            " A coloured line on the dark one is a prediction that got the course of training right, not only its end."
        )
    text += " One line per entry." if len(entries) > 1 else ""
    return f"{text} One panel per optimizer." if by_optimizer(entries) else text


register(
    PageFigure("curves", "entries", "training", 1, curves_figure, lambda _: "Training loss against steps", _caption)
)

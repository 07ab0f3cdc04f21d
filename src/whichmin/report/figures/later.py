"""How the error of one linearization falls with the step at which it is made."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.decomposition.later import LaterLinearizations
from whichmin.report.axes import WIDTH, legend, logarithmic_fine
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import EntryView
from whichmin.report.palette import LINEARIZED, MUTED, styled
from whichmin.report.panel import HEIGHT, panels

#: Where a linearization before the first step stands on the logarithmic axis of steps.
BEFORE_FIRST = 0.5


@styled
def later_figure(entries: Sequence[EntryView]) -> Figure | None:
    """Misses and estimates by T₀, and what was still to come; None where they are not known of any entry."""
    known = [v.explanation.later for v in entries if v.explanation is not None and v.explanation.later is not None]
    known = [later for later in known if len(later.steps)]
    if not known:
        return None
    figure, (ax,) = panels(None, (WIDTH, HEIGHT))
    for i, later in enumerate(known):
        draw_later(ax, later, labelled=i == 0)
    for step in {v.explanation.from_step for v in entries if v.explanation is not None}:
        ax.axvline(max(step, BEFORE_FIRST), color=MUTED, linewidth=0.7)
    logarithmic_fine(ax, "x")
    logarithmic_fine(ax, "y")
    ax.set(xlabel="step T₀ of the linearization", ylabel="distance to the trained outputs")
    legend(ax, 3)
    return figure


def draw_later(ax: Axes, later: LaterLinearizations, *, labelled: bool) -> None:
    """One training's misses, estimates, and the distance of its own outputs at T₀ to those at the end."""
    x = later.steps.double().clamp(min=BEFORE_FIRST).numpy()
    for label, distances, colour, line in (
        ("one linearization", later.misses, LINEARIZED, "o-"),
        ("as estimated", later.estimates, LINEARIZED, ":"),
        ("the network at T₀", later.remaining, MUTED, "--"),
    ):
        ax.plot(x, distances.numpy(), line, color=colour, ms=3.5, lw=1.3, label=label if labelled else None)


def _caption(_: Sequence[EntryView]) -> str:
    return (
        "Root mean square distance, over the test points, between the trained network and one linearization at step T₀ "
        "that is run to the end; beside it what the prediction estimates, and how far the network’s own outputs at T₀ "
        f"are from the end. The upright line is the step that is explained from; a point at {BEFORE_FIRST:g} is step 0."
    )


register(
    PageFigure(
        "later", "entries", "training", 4, later_figure, lambda _: "Error of one linearization by its step", _caption
    )
)

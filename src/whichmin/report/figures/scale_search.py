"""The search curve: the validation loss at smaller and smaller scales."""

from __future__ import annotations

from matplotlib.figure import Figure

from whichmin.mitigation.mitigation import Mitigation
from whichmin.mitigation.outcome import Search
from whichmin.report.axes import WIDTH, is_positive, legend, logarithmic_fine
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import GREEN, MUTED, RELINEARIZED, TRAINED, styled
from whichmin.report.panel import HEIGHT


@styled
def search_figure(mitigation: Mitigation) -> Figure | None:
    """Losses by scale, predicted and trained, with the chosen scale; None where no scales were searched."""
    remedy = next((r for r in mitigation.remedies if r.search is not None), None)
    if remedy is None:
        return None
    figure = Figure(figsize=(WIDTH, HEIGHT))
    ax = figure.subplots()
    searches: dict[str, Search | None] = {"predicted": remedy.search, "trained": remedy.trained_search}
    for (kind, search), colour in zip(searches.items(), (RELINEARIZED, TRAINED), strict=True):
        if search is None:
            continue
        ax.plot(search.scales, search.losses, "o-", ms=4, lw=1.4, color=colour, label=kind)
        at, loss = search.scale, search.losses[search.chosen]
        ax.plot([at], [loss], "o", ms=9, mfc="none", mew=1.4, color=colour)
    if remedy.trained is not None and remedy.trained_search is None and remedy.search is not None:
        loss = mitigation.validation.test_loss(remedy.trained.validation.double())
        ax.plot([remedy.search.scale], [loss], "s", ms=5, color=TRAINED, label="trained")
    floor = mitigation.validation.test_loss(mitigation.interpolant.validation.double())
    ax.axhline(floor, color=GREEN, lw=1.2, linestyle=(0, (4, 2)), label="interpolator")
    is_logarithmic = is_positive(*(line.get_ydata() for line in ax.lines))
    ax.axvline(1.0, color=MUTED, lw=0.7)
    logarithmic_fine(ax, "x")
    if is_logarithmic:
        logarithmic_fine(ax, "y")
    ax.set(xlabel="scale of every layer", ylabel=f"validation {mitigation.task.loss.label}")
    legend(ax, 3)
    return figure


def _caption(_: Mitigation) -> str:
    return (
        "The validation loss of the same network trained at smaller and smaller scales of every layer; 1 is the "
        "network as it is, the ring the scale that is chosen."
    )


register(PageFigure("scale-search", "mitigation", "search", 1, search_figure, _caption, _caption))

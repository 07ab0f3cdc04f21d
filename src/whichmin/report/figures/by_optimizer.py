"""The test errors of several optimizers, and how far apart their minimizers are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from whichmin.report.axes import WIDTH, legend, plain, rows_height
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import EntryView, by_optimizer, labelled, present
from whichmin.report.optimizer_distances import optimizer_distances
from whichmin.report.palette import RELINEARIZED, TRAINED, styled
from whichmin.report.panel import panels

#: More pairs than this are not drawn; those that are furthest apart are.
MOST = 12
#: How far trained and predicted marks of one row stand from its middle.
OFFSET = 0.16
_COLOURS = {"trained": TRAINED, "predicted": RELINEARIZED}


@styled
def errors_figure(entries: Sequence[EntryView]) -> Figure | None:
    """A row for each optimizer, a dot for each entry and a line at their mean; None without test errors."""
    groups = by_optimizer(entries)
    errors = {kind: {name: _errors(part, kind) for name, part in groups.items()} for kind in _COLOURS}
    drawn = [kind for kind in _COLOURS if any(errors[kind].values())]
    if not drawn:
        return None
    figure, (ax,) = panels(None, (WIDTH, rows_height(len(groups))))
    for kind, at in _rows(drawn):
        for row, values in enumerate(errors[kind].values()):
            if values:
                ax.plot(values, [row + at] * len(values), "o", ms=3.6, mew=0, alpha=0.6, color=_COLOURS[kind])
                ax.plot([float(np.mean(values))], [row + at], "|", ms=11, mew=1.8, color=_COLOURS[kind])
        ax.plot([], [], "o", ms=3.6, mew=0, color=_COLOURS[kind], label=kind)
    _finish(ax, list(groups), len(drawn), labelled("test error", entries))
    return figure


@styled
def apart_figure(entries: Sequence[EntryView]) -> Figure | None:
    """A row for each pair of optimizers, the furthest apart on top; None where there are none to compare."""
    distances = optimizer_distances(entries)
    if distances is None:
        return None
    matrices = {"trained": distances.trained, "predicted": distances.predicted}
    drawn = [kind for kind in _COLOURS if matrices[kind] is not None]
    first = matrices[drawn[0]]
    assert first is not None
    count = len(distances.names)
    pairs = [(first[i][j] or 0.0, i, j) for i in range(count) for j in range(i + 1, count) if first[i][j] is not None]
    pairs = sorted(pairs, reverse=True)[:MOST]
    if not pairs:
        return None
    figure, (ax,) = panels(None, (WIDTH, rows_height(len(pairs))))
    for kind, at in _rows(drawn):
        matrix = matrices[kind]
        assert matrix is not None
        known = [(row, value) for row, (_, i, j) in enumerate(pairs) if (value := matrix[i][j]) is not None]
        ax.plot([v for _, v in known], [row + at for row, _ in known], "o", ms=4.6, color=_COLOURS[kind], label=kind)
    _finish(
        ax,
        [f"{distances.names[i]} – {distances.names[j]}" for _, i, j in pairs],
        len(drawn),
        "root mean square of outputs",
    )
    ax.set_xlim(left=0)
    return figure


def _errors(part: Sequence[EntryView], kind: str) -> list[float]:
    """The test errors of the trained networks, or those that the better prediction says."""
    if kind == "trained":
        return present(view.test_error("trained") for view in part)
    return present(view.test_error("relinearized" if view.relinearized else "linearized") for view in part)


def _rows(drawn: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Each kind, and how far below the middle of a row its marks stand."""
    for place, kind in enumerate(drawn):
        yield kind, (2 * place - 1) * OFFSET if len(drawn) > 1 else 0.0


def _finish(ax: Axes, names: Sequence[str], kinds: int, label: str) -> None:
    ax.set_yticks(range(len(names)), [plain(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlabel(label, loc="right")  # names are long: it may go on below them
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.margins(x=0.08)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
    legend(ax, kinds)


def _errors_caption(_: Sequence[EntryView]) -> str:
    return "Test error of each optimizer’s networks: a dot for each entry, an upright line at their mean."


def _apart_caption(entries: Sequence[EntryView]) -> str:
    distances = optimizer_distances(entries)
    text = (
        "Distance between the test outputs of two optimizers from the same initialization, mean over initializations."
    )
    count = 0 if distances is None else len(distances.names)
    return f"{text} The {MOST} largest." if count * (count - 1) // 2 > MOST else text


register(
    PageFigure(
        "errors",
        "entries",
        "apart",
        1,
        errors_figure,
        lambda _: "Test errors by optimizer",
        _errors_caption,
    )
)
register(
    PageFigure(
        "apart",
        "entries",
        "apart",
        2,
        apart_figure,
        lambda _: "Distances between optimizers",
        _apart_caption,
    )
)

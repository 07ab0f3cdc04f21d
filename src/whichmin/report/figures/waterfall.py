"""The test error of the partial sums of the terms, one bar each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from whichmin.report.axes import WIDTH, plain, rows_height
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import EntryView, labelled, term_names
from whichmin.report.numbers import number, percent, signed
from whichmin.report.palette import GREEN, INK, MUTED, RED, SKY, styled
from whichmin.report.panel import panels


@styled
def waterfall_figure(entries: Sequence[EntryView]) -> Figure | None:
    """Bars are means over entries, each entry a dot; None without test targets."""
    entries = [v for v in entries if v.explanation is not None and v.explanation.task.y_test is not None]
    if not entries:
        return None
    names = term_names(entries)
    figure, (ax,) = panels(None, (WIDTH, rows_height(len(names) + 1)))
    draw_waterfall(ax, entries, names)
    return figure


def draw_waterfall(ax: Axes, entries: Sequence[EntryView], names: Sequence[str]) -> None:
    """Horizontal bars from one partial sum's error to the next, numbers in a column on the right."""
    partial = np.stack([errors for v in entries if (errors := v.partial_errors(names)) is not None])
    ends = partial.mean(axis=0)
    starts = np.concatenate([[0.0], ends[:-1]])
    total = len(names)
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        colour = SKY if k == 0 else (RED if end >= start else GREEN)
        ax.barh(k, end - start, left=start, height=0.62, color=colour)
        ax.plot([end, end], [k - 0.31, k + 1.31], color=MUTED, linewidth=0.7)
        text = number(end, 2) if k == 0 else signed(end - start, 2)
        if ends[-1] > 0:
            text += f" ({percent((end - start) / ends[-1])})"
        ax.annotate(text, (1.02, k), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    ax.barh(total, ends[-1], height=0.62, color=MUTED)
    ax.annotate(
        number(float(ends[-1]), 2), (1.02, total), xycoords=("axes fraction", "data"), va="center", fontweight="bold"
    )
    if len(partial) > 1:
        _draw_dots(ax, partial)
    last = "trained network" if all(v.run is not None for v in entries) else "network"
    ax.set_yticks(range(total + 1), [plain(n) for n in names] + [last])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.invert_yaxis()
    ax.set_xlim(min(0.0, 1.05 * float(partial.min())), max(1.05 * float(partial.max()), 1e-300))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="x")
    ax.set_xlabel(f"{labelled('test error', entries)} of the sum so far")


def _draw_dots(ax: Axes, partial: np.ndarray) -> None:
    """Each entry's own partial errors, (entries, terms)."""
    offsets, total = np.linspace(-0.2, 0.2, len(partial)), partial.shape[1]
    for k in range(total + 1):
        at = partial[:, min(k, total - 1)]
        ax.plot(at, k + offsets, "o", color=INK, markersize=3, alpha=max(0.4, 1 - len(partial) / 40), mew=0)


def _caption(entries: Sequence[EntryView]) -> str:
    count = sum(v.explanation is not None for v in entries)
    several = f" Bars are means over {count} entries, dots the entries." if count > 1 else ""
    return (
        "Test error of the terms added one after the other. A bar to the right (red) is error that its term put there, "
        f"a bar to the left (green) error that it took away.{several}"
    )


register(
    PageFigure(
        "waterfall",
        "optimizer",
        "terms",
        1,
        waterfall_figure,
        lambda _: "Waterfall of the test error by term",
        _caption,
    )
)

"""The figure of a comparison: how far apart every two choices are."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from whichmin.report.axes import legend, plain
from whichmin.report.palette import FOLLOWED, MUTED, TRAINED, styled
from whichmin.studies.comparison import Comparison

#: More pairs than this are not drawn; the largest are.
SHOWN = 15


@styled
def distances_figure(comparison: Comparison) -> Figure | None:
    """Distances of pairs with confidence intervals, predicted and trained, and the predictions' error."""
    known = [(names, pair) for names, pair in comparison.pairs.items() if pair.best is not None]
    if not known:
        return None
    known = sorted(known, key=lambda item: item[1].best.rms_distance.mean if item[1].best else 0.0)[-SHOWN:]
    figure = Figure(figsize=(7.2, 0.9 + 0.24 * len(known)))
    axes = figure.subplots()
    at = np.arange(len(known), dtype=float)
    kinds = (
        [("predicted", FOLLOWED), ("trained", TRAINED)] if comparison.trained is not None else [("predicted", FOLLOWED)]
    )
    for i, (kind, colour) in enumerate(kinds):
        effects = [(y, getattr(pair, kind)) for y, (_, pair) in zip(at, known, strict=True)]
        effects = [(y, e) for y, e in effects if e is not None]
        if not effects:
            continue
        d = np.array([[e.rms_distance.mean, e.rms_distance.low, e.rms_distance.high] for _, e in effects])
        y = np.array([y for y, _ in effects]) + (0.16 * (1 - 2 * i) if len(kinds) > 1 else 0.0)
        low, high = np.nan_to_num(d[:, 0] - d[:, 1]), np.nan_to_num(d[:, 2] - d[:, 0])
        axes.errorbar(d[:, 0], y, xerr=[low, high], fmt="o", ms=4, lw=1.2, color=colour, label=kind)
        if kind == "predicted":
            axes.plot(
                [e.error for _, e in effects], y, "|", ms=9, mew=1.4, color=MUTED, label="error of the predictions"
            )
    axes.set_yticks(at, [plain(f"{one} – {other}") for (one, other), _ in known])
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("root mean square distance")
    axes.grid(axis="x")
    legend(axes, 3)
    return figure

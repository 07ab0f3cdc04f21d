"""Eigenvalues of the tangent kernel at the start, with the effective rank and what the learning rate allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.dynamics.prediction import Prediction
from whichmin.report.axes import WIDTH, legend, logarithmic, plain
from whichmin.report.drawing import PageFigure, register
from whichmin.report.entry_view import Array, EntryView, array, by_optimizer
from whichmin.report.numbers import mean_sd, number, percent
from whichmin.report.palette import BLUE, MUTED, RED, styled
from whichmin.report.panel import HEIGHT, panels
from whichmin.report.stability import Stability, stabilities

#: The most points that are drawn of all spectra together.
POINTS = 900
#: The limit of stability is drawn and spoken of where the learning rate is at least this part of it.
NEAR = 0.01
#: Dashes of the limits of several optimizers, in turn.
DASHES = ((2, 2), (6, 2), (1, 1), (6, 2, 1, 2))


@styled
def spectrum_figure(entries: Sequence[EntryView]) -> Figure | None:
    """None where no eigenvalues are known."""
    spectra = [values for values in _spectra(entries) if len(values)]
    if not spectra:
        return None
    figure, (ax,) = panels(None, (WIDTH, HEIGHT))
    alpha = max(0.3, 1 / math.sqrt(len(spectra)))
    for values in spectra:
        index = np.unique(np.geomspace(1, len(values), max(40, POINTS // len(spectra))).astype(int))
        marker = "." if len(values) <= 300 and len(spectra) == 1 else ""
        ax.plot(index, values[index - 1], color=BLUE, alpha=alpha, linewidth=1.2, marker=marker, markersize=4)
    logarithmic(ax, "x")
    logarithmic(ax, "y")
    _draw_limits(ax, {n: s for n, s in stabilities(entries).items() if s.fraction >= NEAR})
    if len(array(_predictions(entries)[0].eigenvalues)) == _outputs(entries):
        _draw_rank(ax, spectra)
    ax.set(xlabel="eigenvalue, by rank", ylabel="size")
    return figure


def effective_rank(values: Array) -> float:
    """The exponential of the entropy of the normalized eigenvalues (Roy and Vetterli 2007)."""
    shares = values[values > 0] / values[values > 0].sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _spectra(entries: Sequence[EntryView]) -> list[Array]:
    """The positive eigenvalues of each kernel: of the entries of one optimizer, where several start alike."""
    values = [array(p.eigenvalues) for p in _predictions(entries)]
    return [v[v > 0] for v in values]


def _predictions(entries: Sequence[EntryView]) -> list[Prediction]:
    own = max(by_optimizer(entries).values(), key=len, default=entries)
    return [p for v in own if (p := v.linearized or v.relinearized) is not None]


def _outputs(entries: Sequence[EntryView]) -> int:
    """N·C, how many eigenvalues there are; of large kernels only the largest are known."""
    return max(math.prod(p.train.shape[-2:]) for p in _predictions(entries))


def _draw_rank(ax: Axes, spectra: Sequence[Array]) -> None:
    """From the spectrum down to the axis at the mean effective rank."""
    rank = float(np.mean([effective_rank(values) for values in spectra]))
    low, high = ax.get_ylim()
    longest = max(spectra, key=len)
    ax.plot([rank, rank], [low, longest[min(len(longest), round(rank)) - 1]], color=MUTED, linewidth=0.9, dashes=(2, 2))
    ax.set_ylim(low, high)
    right = rank > math.sqrt(len(longest))
    ax.annotate(
        f"effective rank {number(rank, 2)}",
        (rank, 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if right else 4, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        color=MUTED,
    )


def _draw_limits(ax: Axes, stabilities: dict[str, Stability]) -> None:
    """At the largest eigenvalue at which each learning rate is stable; a legend names several."""
    for place, (name, stability) in enumerate(stabilities.items()):
        dashes = (0, DASHES[place % len(DASHES)])
        ax.axhline(
            stability.largest_eigenvalue, color=RED, linewidth=0.9, linestyle=dashes, label=f"limit of {plain(name)}"
        )
        low, high = ax.get_ylim()
        ax.set_ylim(low, max(high, 4 * stability.largest_eigenvalue))
    if len(stabilities) > 1:
        legend(ax, 2)
    for stability in stabilities.values() if len(stabilities) == 1 else ():
        ax.annotate(
            "the learning rate’s limit",
            (0.99, stability.largest_eigenvalue),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=RED,
        )


def _caption(entries: Sequence[EntryView]) -> str:
    spectra = _spectra(entries)
    ranks = [effective_rank(values) for values in spectra if len(values)]
    text = "Eigenvalues of the tangent kernel at the start: the larger, the sooner its direction is learned."
    known = max((len(array(p.eigenvalues)) for p in _predictions(entries)), default=0)
    if ranks and known < _outputs(entries):
        text += f" The largest {known} of {number(_outputs(entries))}."
    elif ranks:
        text += (
            f" The effective rank, exp of the entropy of the normalized eigenvalues, is {mean_sd(ranks)} of "
            f"{number(known)}."
        )
    sure = all(v.task is None or v.task.loss.is_quadratic for v in entries)
    return " ".join([text, *(_limit_sentence(name, s, sure) for name, s in stabilities(entries).items())])


def _limit_sentence(name: str, stability: Stability, sure: bool) -> str:
    """Up to which learning rate an optimizer is stable, and where the one that was used stands.

    Args:
        name: of the optimizer.
        stability: its limit.
        sure: whether the loss has the same curvature everywhere; else the limit is that of the largest curvature.
    """
    text = (
        f"{name or stability.optimizer} is stable {'' if sure else 'at least '}up to a learning rate of "
        f"{number(stability.limit)}; the one used is {percent(stability.fraction)} of that."
    )
    if stability.fraction >= NEAR:
        line = "its red line" if name else "the red line"
        beyond = f"eigenvalues above {number(stability.largest_eigenvalue)}, {line}"
        text += f" With it, {beyond}, {'would' if sure else 'may'} diverge."
    return text


register(
    PageFigure(
        "spectrum", "entries", "training", 2, spectrum_figure, lambda _: "Eigenvalues of the tangent kernel", _caption
    )
)

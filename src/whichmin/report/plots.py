"""The figures, drawn with matplotlib's objects alone: no window, no pyplot, no state left behind.

Each is about 4.6 inches wide, so that two stand side by side on a page and one is legible on a phone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from whichmin.decomposition.explanation import Explanation
from whichmin.report.apart import by_optimizer
from whichmin.report.axes import every, in_sight, legend, logarithmic, plain, thin
from whichmin.report.numbers import number, percent, signed
from whichmin.report.palette import BLUE, FOLLOWED, GREEN, INK, LINEARIZED, MUTED, RED, SKY, TRAINED, styled
from whichmin.report.view import Array, View, array, term_names, views
from whichmin.studies.experiment.entry import Entry

WIDTH = 4.6
_POINTS = 700
_CURVE_POINTS = 900
#: Gradient descent without momentum, as entries name it.
_PLAIN = re.compile(r"sgd( lr=\S+)?")


@styled
def explanation_figure(explanation: Explanation) -> Figure:
    """The waterfall of the test error (with test targets), and each term at each test point.

    Args:
        explanation: what :func:`whichmin.explain` gave.
    """
    shown = views([Entry("", explanation=explanation)])
    names = term_names(shown)
    known = explanation.task.y_test is not None
    figure = Figure(figsize=(WIDTH * (2 if known else 1), _height(len(names) + 1)))
    axes = figure.subplots(1, 2 if known else 1, squeeze=False)[0]
    if known:
        _waterfall(axes[0], shown, names)
    _spread_of_terms(axes[-1], explanation, names)
    return figure


@styled
def waterfall_figure(shown: Sequence[View]) -> Figure | None:
    """The test error of the partial sums of the terms, mean over entries, each entry a dot."""
    shown = [v for v in shown if v.explanation is not None and v.explanation.task.y_test is not None]
    if not shown:
        return None
    names = term_names(shown)
    figure = Figure(figsize=(WIDTH, _height(len(names) + 1)))
    _waterfall(figure.subplots(), shown, names)
    return figure


@styled
def terms_figure(explanation: Explanation) -> Figure:
    """Each term's value at each test point."""
    names = term_names(views([Entry("", explanation=explanation)]))
    figure = Figure(figsize=(WIDTH, _height(len(names) + 1)))
    _spread_of_terms(figure.subplots(), explanation, names)
    return figure


@styled
def agreement_figure(shown: Sequence[View]) -> Figure | None:
    """Predicted against trained test outputs, with the identity."""
    return _against(shown, "predicted output", difference=False)


@styled
def difference_figure(shown: Sequence[View]) -> Figure | None:
    """Predicted minus trained against trained test outputs."""
    return _against(shown, "predicted − trained", difference=True)


@styled
def curves_figure(shown: Sequence[View]) -> Figure | None:
    """Training error against steps, predicted and real, on logarithmic axes; a panel per optimizer."""
    parts = by_optimizer(shown) or {"": list(shown)}
    alone = len(parts) == 1
    figure = Figure(figsize=(WIDTH, 3.3 if alone else 0.9 + 1.5 * len(parts)))
    column = figure.subplots(len(parts), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    names: dict[str, bool] = {}
    for ax, (name, part) in zip(column, parts.items(), strict=True):
        _curves(ax, part, names)
        logarithmic(ax, "x")
        logarithmic(ax, "y")
        if not alone:
            ax.annotate(plain(name), (0.02, 0.06), xycoords="axes fraction")
    if not names:
        return None
    column[-1].set(xlabel="steps")
    if alone:
        column[0].set(ylabel="training error (mean square)")
    else:
        figure.supylabel("training error (mean square)", fontsize=9.5, color=INK)
    legend(column[0], len(names))
    return figure


def _curves(ax: Axes, shown: Sequence[View], drawn: dict[str, bool]) -> None:
    """The curves of entries into one panel; those in ``drawn`` have their line in the legend."""
    alpha = max(0.25, 1 / math.sqrt(len(shown)))
    for view in shown:
        lines = {}
        if view.run is not None:
            losses = array(view.run.losses)
            lines["trained"] = (array(view.run.loss_steps), losses, TRAINED, "-", 2.2, 0.55 * alpha)
        for name, p, colour, dash in (
            ("linearized", view.linearized, LINEARIZED, (0, (4, 2))),
            ("along the path", view.relinearized, FOLLOWED, "-"),
        ):
            if p is not None:
                lines[name] = (*in_sight(p.curve, view.run), colour, dash, 1.2, alpha)
        for name, (steps, mse, colour, dash, width, opacity) in lines.items():
            x, y = thin(steps, mse, _CURVE_POINTS // len(shown))
            if len(x):
                label = name if name not in drawn else None
                ax.plot(x, y, color=colour, linestyle=dash, linewidth=width, alpha=opacity, label=label)
                drawn[name] = True


@styled
def spectrum_figure(shown: Sequence[View]) -> Figure | None:
    """Eigenvalues of the tangent kernel at the start, with the effective rank and what the learning rate allows."""
    spectra = [
        (v, array(p.eigenvalues)) for v in one_kernel_each(shown) if (p := v.linearized or v.relinearized) is not None
    ]
    spectra = [(v, values[values > 0]) for v, values in spectra]
    spectra = [(v, values) for v, values in spectra if len(values)]
    if not spectra:
        return None
    figure = Figure(figsize=(WIDTH, 3.3))
    ax = figure.subplots()
    alpha = max(0.3, 1 / math.sqrt(len(spectra)))
    for _, values in spectra:
        index = np.unique(np.geomspace(1, len(values), max(40, _CURVE_POINTS // len(spectra))).astype(int))
        marker = "." if len(values) <= 300 and len(spectra) == 1 else ""
        ax.plot(index, values[index - 1], color=BLUE, alpha=alpha, linewidth=1.2, marker=marker, markersize=4)
    logarithmic(ax, "x")
    logarithmic(ax, "y")
    _limit_line(ax, shown, max(values[0] for _, values in spectra))
    _rank_line(ax, [values for _, values in spectra])
    ax.set(xlabel="eigenvalue, by rank", ylabel="size")
    return figure


def one_kernel_each(shown: Sequence[View]) -> Sequence[View]:
    """The entries whose kernels differ: those of one optimizer, where several start at the same networks."""
    return max(by_optimizer(shown).values(), key=len, default=shown)


def effective_rank(values: Array) -> float:
    """The exponential of the entropy of the normalized eigenvalues (Roy and Vetterli 2007)."""
    shares = values[values > 0] / values[values > 0].sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def largest_allowed(view: View) -> float | None:
    """The largest eigenvalue at which plain gradient descent at the entry's learning rate is stable, 2/(γη).

    None where training was by another rule, where the prediction is of gradient flow, or nothing is known of the limit.
    """
    p = view.linearized or view.relinearized
    if (
        p is None
        or p.flow
        or not _PLAIN.fullmatch(view.optimizer or "sgd")
        or (view.run is not None and view.run.optimizer != "SGD")
    ):
        return None
    values = (p.max_lr, p.learning_rate, float(p.eigenvalues.max()))
    if not all(math.isfinite(v) and v > 0 for v in values):
        return None
    return values[2] * p.max_lr / p.learning_rate


def limit_is_near(fraction: float) -> bool:
    """Whether a learning rate that is this fraction of its limit has the limit drawn."""
    return fraction >= 0.01


def _rank_line(ax: Axes, spectra: Sequence[Array]) -> None:
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


def _limit_line(ax: Axes, shown: Sequence[View], largest: float) -> None:
    limits = [limit for view in shown if (limit := largest_allowed(view)) is not None]
    limit = float(np.mean(limits)) if limits else math.inf
    if not limit_is_near(largest / limit):
        return
    ax.axhline(limit, color=RED, linewidth=0.9, linestyle=(0, (2, 2)))
    ax.annotate(
        "the learning rate’s limit",
        (0.99, limit),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color=RED,
    )
    low, high = ax.get_ylim()
    ax.set_ylim(low, max(high, 4 * limit))


def _height(rows: int) -> float:
    return 0.9 + 0.37 * rows


def _waterfall(ax: Axes, shown: Sequence[View], names: Sequence[str]) -> None:
    """Horizontal bars from one partial sum's error to the next, numbers in a column on the right."""
    partial = np.stack([errors for v in shown if (errors := v.partial_errors(names)) is not None])
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
        offsets = np.linspace(-0.2, 0.2, len(partial))
        for k in range(total + 1):
            at = partial[:, min(k, total - 1)]
            ax.plot(at, k + offsets, "o", color=INK, markersize=3, alpha=max(0.4, 1 - len(partial) / 40), mew=0)
    last = "trained network" if all(v.run is not None for v in shown) else "network"
    ax.set_yticks(range(total + 1), [plain(n) for n in names] + [last])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.invert_yaxis()
    ax.set_xlim(0, max(1.05 * float(partial.max()), 1e-300))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="x")
    ax.set_xlabel("test error (mean square) of the sum so far")


def _spread_of_terms(ax: Axes, explanation: Explanation, names: Sequence[str]) -> None:
    """One row of dots per term: its value at each test point and output."""
    rows = {name: array(explanation.terms[name]).ravel() for name in names}
    rows["sum"] = array(explanation.total).ravel()
    for k, (name, values) in enumerate(rows.items()):
        values = values[every(len(values), _POINTS // 3)]
        offsets = 0.26 * np.sin(2.4 * np.arange(len(values)))
        colour = MUTED if name == "sum" else (SKY if k == 0 else BLUE)
        ax.plot(values, k + offsets, "o", color=colour, markersize=2.6, alpha=0.6, mew=0)
    ax.axvline(0, color=MUTED, linewidth=0.7)
    ax.set_yticks(range(len(rows)), [plain(n) for n in rows])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x")
    ax.set_xlabel("value at each test point")


def _against(shown: Sequence[View], ylabel: str, *, difference: bool) -> Figure | None:
    """Both predictions against what stands for the truth: the trained network, or else the followed path."""
    truth = "trained" if any("trained" in v.outputs for v in shown) else "relinearized"
    series = {}
    for kind, label, colour, marker, size in (
        ("linearized", "linearized", LINEARIZED, "o", 4.2),
        ("relinearized", "along the path", FOLLOWED, "o", 2.4),
    ):
        both = [v for v in shown if kind != truth and truth in v.outputs and kind in v.outputs]
        both = [v for v in both if v.outputs[kind].shape == v.outputs[truth].shape]
        if both:
            x = np.concatenate([v.outputs[truth].ravel() for v in both])
            y = np.concatenate([v.outputs[kind].ravel() for v in both])
            series[label] = (x, y - x if difference else y, colour, marker, size)
    if not series:
        return None
    figure = Figure(figsize=(WIDTH, 3.5))
    ax = figure.subplots()
    for label, (x, y, colour, marker, size) in series.items():
        chosen = every(len(x), _POINTS)
        hollow = label == "linearized"
        ax.plot(
            x[chosen],
            y[chosen],
            marker,
            color=colour,
            markersize=size,
            markerfacecolor="none" if hollow else colour,
            markeredgewidth=0.8 if hollow else 0,
            alpha=0.75,
            label=label,
            zorder=3,
        )
    if difference:
        ax.axhline(0, color=INK, linewidth=0.8)
    else:
        ax.axline((0, 0), slope=1, color=INK, linewidth=0.8)
    ax.set(xlabel="trained output" if truth == "trained" else "output along the path", ylabel=ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.grid()
    legend(ax, len(series))
    return figure

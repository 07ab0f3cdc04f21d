"""How the papers' figures are drawn: means and standard deviations over seeds, in the report's colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whichmin.papers.claims import Table
from whichmin.report.axes import legend, logarithmic, logarithmic_fine
from whichmin.report.palette import BLUE, GREEN, INK, MUTED, ORANGE, RED, SKY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (BLUE, ORANGE, GREEN, RED, SKY, INK)
RULES = {"GD": INK, "SGD": GREEN, "AdaGrad": ORANGE, "Adam": BLUE}


def means(ax: Axes, rows: Table, x: str, y: str, colour: str, label: str, **style: Any) -> None:
    """Means and standard deviations of a column over all rows of each x; on logarithmic axes they are of logarithms."""
    if rows.empty:
        return
    groups = rows.groupby(x)[y]
    if ax.get_yscale() == "log":
        logs = np.log(rows[y].clip(lower=1e-300)).groupby(rows[x])
        centre, spread = logs.mean(), logs.std().fillna(0)
        middle, low, high = np.exp(centre), np.exp(centre - spread), np.exp(centre + spread)
    else:
        middle, spread = groups.mean(), groups.std().fillna(0)
        low, high = middle - spread, middle + spread
    ends = np.stack([middle - low, high - middle])
    style = {"fmt": "o-", "markersize": 4, "linewidth": 1.2, "elinewidth": 0.8} | style
    ax.errorbar(middle.index, middle, ends, color=colour, label=label, **style)


def _log(ax: Axes, x: bool = True) -> None:
    ax.set_yscale("log")
    if x:
        ax.set_xscale("log")


def _finish(ax: Axes, xlabel: str, ylabel: str, columns: int = 2, x: bool = True) -> None:
    logarithmic_fine(ax, "y")
    if x:
        logarithmic_fine(ax, "x")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if ax.get_legend_handles_labels()[0]:
        legend(ax, columns)


def initialization(axes: Sequence[Axes], table: Table) -> None:
    """Left: test error against α with interpolator, bounds and law; right: validation error along the search."""
    left, right = axes
    _log(left)
    shallow = table[(table["depth"] == 1) & table["scale"].notna()]
    for colour, (width, rows) in zip(COLOURS, shallow.groupby("width"), strict=False):
        means(left, rows, "scale", "test_loss", colour, f"width {width:g}")
    deep = table[table["depth"] == 2]
    if len(deep):
        rows = deep[deep["width"] == deep["width"].max()]
        means(left, rows, "scale", "test_loss", MUTED, "two layers", fmt="s--")
    if "interpolator" in shallow and len(shallow):
        wide = shallow[shallow["width"] == shallow["width"].max()].groupby("scale")
        term, without = wide["initialization"].mean(), np.sqrt(wide["interpolator"].mean())
        left.plot(term.index, without**2, color=INK, linewidth=1, linestyle=":", label="interpolator")
        low = np.maximum(term - without, 0) ** 2
        least = shallow["test_loss"].min() / 3  # a bound of 0 has no place on this axis
        left.fill_between(
            term.index, np.maximum(low, least), (term + without) ** 2, color=SKY, alpha=0.35, label="bounds"
        )
    _finish(left, "scale α of every layer", "test error", 2)
    _log(right)
    if "search_losses" in table:
        searched = table.dropna(subset=["standard"])
        wide = searched[searched["width"] == searched["width"].max()]
        for i, row in enumerate(wide.itertuples()):
            labels = ("validation", "chosen: test") if i == 0 else (None, None)
            right.plot(row.search_scales, row.search_losses, "o-", color=BLUE, markersize=3, label=labels[0])
            right.plot(row.chosen, row.mitigated, "*", color=RED, markersize=9, label=labels[1])
        _finish(right, "scale α", "error", 2)
    else:
        right.axis("off")


def adaptivity(axes: Sequence[Axes], table: Table) -> None:
    """Test error against width, by optimizer."""
    (ax,) = axes
    _log(ax)
    for rule, colour in RULES.items():
        means(ax, table[table["rule"] == rule], "width", "test_loss", colour, rule)
    _finish(ax, "width", "test error", 3)


def stochasticity(axes: Sequence[Axes], table: Table) -> None:
    """Distance to the full batch's outputs, by batch size."""
    (ax,) = axes
    _log(ax)
    names = {"sgd": ("SGD", INK), "adagrad": ("AdaGrad", ORANGE)}
    mini = table[table["mini"]].assign(batch_size=lambda t: t["batch_size"].astype(float))
    for rule, (label, colour) in names.items():
        means(ax, mini[mini["rule"] == rule], "batch_size", "distance", colour, label)
    _finish(ax, "batch size", "distance to full batch", 2)


def overview(axes: Sequence[Axes], table: Table) -> None:
    """Left: test error against α; right: by optimizer; for two widths."""
    left, right = axes
    _log(left)
    right.set_yscale("log")
    rules = [rule for rule in RULES if rule in set(table["rule"])]
    for colour, (width, rows) in zip((ORANGE, BLUE), table.groupby("width"), strict=False):
        means(left, rows[rows["rule"] == "GD"], "scale", "test_loss", colour, f"width {width:g}")
        placed = rows[rows["scale"] == 1.0].assign(at=lambda t: [rules.index(r) for r in t["rule"]])
        means(right, placed, "at", "test_loss", colour, f"width {width:g}", fmt="o")
    _finish(left, "scale α of every layer", "test error")
    right.set_xticks(range(len(rules)), rules)
    right.margins(x=0.3)
    _finish(right, "optimizer", "test error", x=False)


def modern(axes: Sequence[Axes], table: Table) -> None:
    """Test loss by network and way to train."""
    (ax,) = axes
    ax.set_yscale("log")
    labels: list[str] = []
    scales = table["scale"] if "scale" in table else [1.0] * len(table)
    named = [
        f"{rule}\n{net}" + (f"\nα = {scale:g}" if net == "dense" else "")
        for rule, net, scale in zip(table["rule"], table["network"], scales, strict=True)
    ]
    labels = list(dict.fromkeys(named))
    placed = table.assign(at=[labels.index(name) for name in named])
    means(ax, placed, "at", "test_loss", BLUE, "", fmt="o")
    _finish(ax, "", "test cross-entropy", x=False)
    ax.set_xticks(range(len(labels)), labels)
    ax.margins(x=0.15)
    if (drawn := ax.get_legend()) is not None:
        drawn.remove()


def deviation(axes: Sequence[Axes], table: Table) -> None:
    """Distance of the outputs to gradient descent's against width."""
    (ax,) = axes
    _log(ax)
    for rule in ("SGD", "AdaGrad", "Adam"):
        means(ax, table[table["rule"] == rule], "width", "deviation", RULES[rule], rule)
    _finish(ax, "width", "distance to gradient descent", 3)


def linearization(axes: Sequence[Axes], table: Table) -> None:
    """Linearization error against width, with the power −1/2."""
    (ax,) = axes
    _log(ax)
    for rule in ("AdaGrad", "Adam"):
        means(ax, table[table["rule"] == rule], "width", "error", RULES[rule], rule)
    widths = np.array(sorted(set(table["width"])), float)
    ax.plot(
        widths, table["error"].max() * (widths / widths[0]) ** -0.5, color=MUTED, linestyle=":", label="width to −½"
    )
    _finish(ax, "width", "linearization error", 3)


def underparameterized(axes: Sequence[Axes], table: Table) -> None:
    """Distance between the minimizers of two metrics, by the number of points."""
    _dots(axes[0], table, "points", ["distance"], "training points", "distance of minimizers", 1e-16)


def interpolators(axes: Sequence[Axes], table: Table) -> None:
    """Deviations from Lemmas 3 and 4, without and with biases."""
    shown = table.assign(biases=table["bias"].astype(int))
    _dots(axes[0], shown, "biases", ["interpolators", "homogeneity"], "", "relative deviation", 1e-17)
    axes[0].set_xticks([0, 1], ["no biases", "biases"])
    axes[0].margins(x=0.4)


def _dots(ax: Axes, table: Table, x: str, columns: list[str], xlabel: str, ylabel: str, least: float) -> None:
    ax.set_yscale("log")
    for colour, column in zip((BLUE, ORANGE), columns, strict=False):
        ax.plot(table[x], table[column].clip(lower=least), "o", color=colour, markersize=4, alpha=0.8, label=column)
    logarithmic(ax, "y")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend(ax, 2)


def curves(axes: Sequence[Axes], table: Table) -> None:
    """Training loss against steps, by optimizer, of one width and seed; and the final loss against width."""
    left, right = axes
    _log(left, x=False)
    wide = table[(table["width"] == table["width"].max()) & (table["seed"] == 0)]
    for colour, row in zip(COLOURS, wide[~wide["flow"]].itertuples(), strict=False):
        left.plot(row.curve_steps, row.curve_losses, color=colour, linewidth=1.3, label=row.label)
    for colour, row in zip(COLOURS, wide[wide["flow"]].itertuples(), strict=False):
        left.plot(row.curve_steps, row.curve_losses, color=colour, linewidth=0.9, linestyle=":")
    _finish(left, "steps (dotted: the flow)" if wide["flow"].any() else "steps", "training error", 2, x=False)
    _log(right)
    steps = table[~table["flow"]]
    for colour, (label, rows) in zip(COLOURS, steps.groupby("label", sort=False), strict=False):
        means(right, rows, "width", "train_loss", colour, label)
    _finish(right, "width", "training error at the end", 2)
    if (drawn := right.get_legend()) is not None:
        drawn.remove()


def rates(axes: Sequence[Axes], table: Table) -> None:
    """Measured over guaranteed rate against the level of imbalance."""
    (ax,) = axes
    _log(ax)
    ax.plot(table["level"], table["rate"], "o", color=BLUE, markersize=4, label="measured")
    ax.plot(table["level"], table["guaranteed"], "o", color=ORANGE, markersize=4, label="guaranteed")
    _finish(ax, "level of imbalance c", "rate of convergence")


def distances(axes: Sequence[Axes], table: Table) -> None:
    """Distance to the minimum-norm solution against width, by exponent."""
    (ax,) = axes
    _log(ax)
    for colour, (exponent, rows) in zip(COLOURS, table.groupby("exponent"), strict=False):
        means(ax, rows, "width", "distance", colour, f"a = {exponent:g}")
    _finish(ax, "width h", "distance to minimum norm", 3)


def trajectories(axes: Sequence[Axes], table: Table) -> None:
    """Distance to the minimum-norm solution along the flow, on and off the invariant set."""
    (ax,) = axes
    _log(ax, x=False)
    for (label, of), colour in zip(table.groupby("place"), (ORANGE, BLUE), strict=False):
        for i, row in enumerate(of.itertuples()):
            ax.plot(np.arange(len(row.path)) / (len(row.path) - 1), np.maximum(row.path, 1e-14), color=colour,
                    linewidth=1.1, label=label if i == 0 else None)  # fmt: skip
    _finish(ax, "time, as a part of the end's", "distance to minimum norm", x=False)

"""How far leaving each group out moves the test outputs, and the test loss with them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from whichmin.report.axes import legend
from whichmin.report.drawing import PageFigure, register
from whichmin.report.palette import BLUE, INK, MUTED
from whichmin.report.panel import panel
from whichmin.studies.left_out import LeftOut

_EFFECTS = (
    "How far the test outputs move without each group, in ascending order (root mean squares), and what each "
    "prediction may be off by: a dot well above its error is an effect that is known."
)
_LOSSES = (
    "The change of the test loss without each group, in ascending order. Below zero the network would be better "
    "without the group."
)


def draw_effects(ax: Axes, found: LeftOut) -> None:
    """In ascending order."""
    effect, error = found.effect.numpy(), found.error.numpy()
    order = np.argsort(effect)[: int(np.isfinite(effect).sum())]
    at = np.arange(len(order))
    ax.plot(at, effect[order], "o", color=BLUE, markersize=2.6, label="outputs move by")
    ax.plot(at, error[order], "_", color=MUTED, markersize=3.0, label="error of the prediction")
    ax.set(xlabel="groups, ascending", ylabel="root mean square of outputs")
    ax.set_ylim(bottom=0)
    _at_groups(ax)
    legend(ax, 2)


def draw_losses(ax: Axes, found: LeftOut) -> None:
    """In ascending order."""
    change = np.sort(found.loss_change.numpy())
    change = change[np.isfinite(change)]
    ax.plot(np.arange(len(change)), change, "o", color=BLUE, markersize=2.6)
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.set(xlabel="groups, ascending", ylabel=f"change of the test {found.task.loss.label}")
    _at_groups(ax)


def _at_groups(ax: Axes) -> None:
    """Groups are counted: no ticks between them."""
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    ax.grid(axis="y")


effects_panel = panel(draw_effects)
_losses_panel = panel(draw_losses)


def effects_figure(found: LeftOut, axes: Sequence[Axes] | None = None) -> Figure | None:
    """None where nothing was predicted."""
    return effects_panel(found, axes) if bool(np.isfinite(found.effect.numpy()).any()) else None


def losses_figure(found: LeftOut) -> Figure | None:
    """None without test targets."""
    return _losses_panel(found) if bool(np.isfinite(found.loss_change.numpy()).any()) else None


register(PageFigure("effects", "leave-out", "effects", 1, effects_figure, lambda _: _EFFECTS, lambda _: _EFFECTS))
register(PageFigure("losses", "leave-out", "effects", 2, losses_figure, lambda _: _LOSSES, lambda _: _LOSSES))

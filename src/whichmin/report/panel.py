"""Figures of one panel, made of what draws into axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.report.axes import WIDTH
from whichmin.report.palette import styled

S = TypeVar("S")

#: Inches that a figure of one panel is high.
HEIGHT = 3.3


def panel(draw: Callable[[Axes, S], None]) -> Callable[[S], Figure]:
    """A function that draws a figure of one panel by ``draw``."""

    @styled
    def figure_of(subject: S) -> Figure:
        figure = Figure(figsize=(WIDTH, HEIGHT))
        draw(figure.subplots(), subject)
        return figure

    return figure_of

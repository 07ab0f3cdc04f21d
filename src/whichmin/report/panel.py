"""What figures are drawn into: axes of the caller's, or a figure of their own that notebooks show by themselves."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.errors import InputError
from whichmin.report.axes import WIDTH
from whichmin.report.palette import styled

S = TypeVar("S")

#: Inches that a figure of one panel is high.
HEIGHT = 3.3
#: Dots per inch of what a notebook shows, twice those that it shows it at, for screens of many pixels.
DOTS, SHOWN_DOTS = 144, 72


class Picture(Figure):
    """A figure that a notebook shows as an image, whether or not ``pyplot`` was set up there."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The image, and the size that it is shown at."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DOTS, bbox_inches="tight")
        image = buffer.getvalue()
        width, height = (int.from_bytes(image[start : start + 4], "big") for start in (16, 20))  # of a PNG's header
        return image, {"width": width * SHOWN_DOTS // DOTS, "height": height * SHOWN_DOTS // DOTS}


def panels(
    axes: Sequence[Axes] | None, size: tuple[float, float], rows: int = 1, columns: int = 1, **shared: Any
) -> tuple[Figure, list[Axes]]:
    """The axes to draw into, row by row, and the figure that they are in.

    Args:
        axes: the caller's; None for those of a new figure.
        size: inches of a new figure, width and height.
        rows: of panels.
        columns: of panels.
        **shared: for ``Figure.subplots``.

    Raises:
        InputError: axes of another number.
    """
    if axes is None:
        figure = Picture(figsize=size)
        return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    given = list(axes)
    if len(given) != rows * columns:
        what = "one panel: pass ax=" if rows * columns == 1 else f"{rows * columns} panels: pass axes= with as many"
        raise InputError(f"got {len(given)} axes for a figure of {what}.")
    return cast("Figure", given[0].figure), given


def panel(draw: Callable[[Axes, S], None]) -> Callable[..., Figure]:
    """A function that draws a figure of one panel by ``draw``: of a subject, into axes of the caller's or its own."""

    @styled
    def figure_of(subject: S, axes: Sequence[Axes] | None = None) -> Figure:
        figure, (ax,) = panels(axes, (WIDTH, HEIGHT))
        draw(ax, subject)
        return figure

    return figure_of

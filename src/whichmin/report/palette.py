"""Colours and type of the figures: Okabe and Ito's palette with a red that looks red; the same in every figure.

Each colour is also a CSS variable of the report (``--ink`` and so on), which has a light and a dark value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

INK = "#1e2329"
MUTED = "#66707b"
RULE = "#d3d8de"
BLUE = "#0072b2"
ORANGE = "#d98e04"
GREEN = "#009e73"
RED = "#c8321f"
SKY = "#8cbfe0"

VARIABLES: dict[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    RED: "--red",
    SKY: "--sky",
}

TRAINED, LINEARIZED, RELINEARIZED = INK, ORANGE, BLUE

P = ParamSpec("P")
R = TypeVar("R")

#: Points of text in figures. A figure of one panel has letters of 11 px with the smaller on a screen of 390 px.
FONT, SMALL_FONT = 10.5, 10.2

_SETTINGS: dict[Any, Any] = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": SMALL_FONT,
    "ytick.labelsize": SMALL_FONT,
    "legend.fontsize": SMALL_FONT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.0,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "whichmin",
}


@contextmanager
def style() -> Iterator[None]:
    """Within it, matplotlib's defaults and these settings hold, whatever the user's own are; those come back after."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function within :func:`style`."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return draw(*args, **kwargs)

    return wrapper

"""The list of figures, and the names by which they are found."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from whichmin.errors import ConfigError
from whichmin.papers import dynamical_view, linear_networks, which_minimizer
from whichmin.papers.figure import PaperFigure


def figures() -> dict[str, PaperFigure]:
    """All figures by path, in the order of the papers."""
    found = (*which_minimizer.FIGURES, *dynamical_view.FIGURES, *linear_networks.FIGURES)
    return {figure.path: figure for figure in found}


def _names(figure: PaperFigure) -> tuple[str, ...]:
    paper, short = figure.paper, (figure.name, figure.content)
    return (paper, *short, *(f"{paper}/{name}" for name in short))


def find(names: Sequence[str]) -> list[PaperFigure]:
    """The figures of some names.

    Args:
        names: ``which-minimizer/fig2``, ``which-minimizer/initialization``, ``initialization``, or ``which-minimizer``
            for all of a paper.

    Raises:
        ConfigError: one that does not exist; the message lists those there are.
    """
    known = figures()
    found: dict[str, PaperFigure] = {}
    for name in names:
        named = [f for f in known.values() if name in _names(f)]
        if not named:
            close = difflib.get_close_matches(name, [*known, *(f.content for f in known.values())], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            listed = ", ".join(f"{f.path} ({f.content})" for f in known.values())
            raise ConfigError(f"there is no figure {name!r}; there are {listed}.{hint}")
        found |= {figure.path: figure for figure in named}
    return list(found.values())

"""A figure made again: its tables, its verdicts, and how it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whichmin.papers.claims import Verdict
from whichmin.papers.figure import PaperFigure
from whichmin.report.palette import styled
from whichmin.report.panel import HEIGHT, panels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: What a kind of measurement is called in a heading.
KINDS = {"predicted": "Predicted", "trained": "Trained", "measured": "Measured"}
#: Inches that a panel is wide.
PANEL = 3.7
#: So many failures of a figure are told, and of others their number.
TOLD = 2


@dataclass(frozen=True, eq=False)
class Reproduced:
    """A figure made again.

    Attributes:
        figure: which one.
        tables: of each kind of measurement, a row for each, arrays included.
        verdicts: of each kind, in the order of the claims; without those that another kind alone can measure.
        failures: what could not be measured, a sentence each.
        seconds: what all measurements took.
    """

    figure: PaperFigure
    tables: dict[str, pd.DataFrame]
    verdicts: dict[str, list[Verdict]]
    failures: tuple[str, ...]
    seconds: float

    @property
    def told_failures(self) -> tuple[str, ...]:
        """The first failures, and how many others there are."""
        more = len(self.failures) - TOLD
        return self.failures[:TOLD] + ((f"{more} more measurements of {self.figure.path}",) if more > 0 else ())

    def to_frame(self) -> pd.DataFrame:
        """The numbers: a row for each measurement, without arrays."""
        import pandas as pd

        whole: Any = pd.concat(list(self.tables.values()), ignore_index=True)
        return whole[[name for name in whole if not whole[name].map(_is_array).any()]]

    def plot(self) -> Figure:
        """The figure, a row of panels for each kind of measurement."""
        return _drawn(self)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and getattr(value, "ndim", 0) > 0


@styled
def _drawn(found: Reproduced) -> Figure:
    rows, columns = max(1, len(found.tables)), found.figure.panels
    figure, axes = panels(None, (PANEL * max(columns, 1.25), HEIGHT * rows), rows, columns)
    for i, (kind, table) in enumerate(found.tables.items()):
        mine = axes[i * columns : (i + 1) * columns]
        found.figure.draw(mine, table)
        if len(found.tables) > 1:
            mine[0].set_ylabel(f"{KINDS[kind].lower()}: {mine[0].get_ylabel()}")
    return figure

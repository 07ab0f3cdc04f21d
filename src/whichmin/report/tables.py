"""A data frame as header and cells."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

from whichmin.report.numbers import number
from whichmin.report.settings import text_of

if TYPE_CHECKING:
    import pandas as pd


def cells_of(table: pd.DataFrame) -> dict[str, Any]:
    """Header and cells of a data frame: (text, whether it is a number)."""
    from pandas import RangeIndex

    frame = table if isinstance(table.index, RangeIndex) else table.reset_index()

    def cell(value: Any) -> tuple[str, bool]:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return ("" if value is None else text_of(value)), False
        return number(int(value) if isinstance(value, numbers.Integral) else float(value)), True

    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return {"columns": [str(c) for c in frame.columns], "rows": rows}

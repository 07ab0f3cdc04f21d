"""A page of a study of a linear network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from whichmin.linear.study import LinearStudy
from whichmin.linear.sweep import PowerFit, WidthSweep
from whichmin.report.figures import sections_of
from whichmin.report.linear import finding
from whichmin.report.numbers import number
from whichmin.report.page import render
from whichmin.report.settings import asked_beside, text_of

TITLE = "Where does this linear network end?"


def linear_page(study: LinearStudy, title: str | None = None, asked: Mapping[str, Any] | None = None) -> str:
    """The page as text: guarantees beside measurements, figures, and what the theorems need."""
    table = study.to_frame().itertuples(index=False, name=None)
    return render(
        "linear.html.j2",
        {
            "title": title or TITLE,
            "finding": finding(study),
            "asked": asked_beside(asked or {}, dict(study.settings) | dict(sweep_settings(study.sweep))),
            "rows": [(name, [number(float(value)) for value in values]) for name, *values in table],
            "figures": sections_of("study", study),
            "fits": fits_table(study.sweep),
            "assumptions": study.analysis.assumptions,
        },
    )


def sweep_settings(sweep: WidthSweep | None) -> list[tuple[str, str]]:
    """What a sweep is over; nothing of none."""
    if sweep is None:
        return []
    return [
        ("widths", ", ".join(f"{w:.0f}" for w in sweep.widths.tolist())),
        ("exponents", text_of(sweep.exponents.tolist())),
        ("seeds", str(sweep.solution_distances.shape[2])),
    ]


def fits_table(sweep: WidthSweep | None) -> dict[str, Any] | None:
    """Fitted powers of the width by exponent."""
    if sweep is None:
        return None
    columns = {
        "distance at the end": sweep.fits("solution_distances"),
        "distance to the invariant set": sweep.fits("invariant_distances"),
        "level of imbalance": sweep.fits("levels"),
    }
    rows = [(f"{fits[0].exponent:g}", [_power(fit) for fit in fits]) for fits in zip(*columns.values(), strict=True)]
    return {"columns": list(columns), "rows": rows}


def _power(fit: PowerFit) -> str:
    """A slope with its standard error, in brackets the theory's."""
    error = "" if math.isnan(fit.standard_error) else f" ± {fit.standard_error:.2f}"
    expected = "" if math.isnan(fit.expected) else f" ({number(round(fit.expected, 6), 2)})"
    return f"{fit.slope:.2f}".replace("-", "−") + error + expected

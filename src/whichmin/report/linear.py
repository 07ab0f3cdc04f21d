"""A study as one self-contained HTML file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

from whichmin.linear.study import OFF, LinearStudy
from whichmin.report.figures.linear import drift_figure, invariant_figure, loss_figure, width_figure

TITLE = "Where does this linear network end?"
_CAPTIONS = {
    "loss": "Loss above the optimum. The flow may fall faster than the bounds, never slower.",
    "drift": "How far the imbalance moved. The flow conserves it up to the integrator’s error; gradient descent lets "
    "it drift in proportion to the step.",
    "invariant": "Distance to the minimum-norm solution. On the invariant set training ends there; the further off it "
    "starts, the further away it ends.",
    "width": "Distance to the minimum-norm solution at the end of training against the width, geometric means and "
    "standard deviations over seeds, for entries N(0, 1/h²ᵃ). Slopes of the fits, in brackets the theory’s.",
}


def write_report(path: str | os.PathLike[str], study: LinearStudy) -> None:
    """Write the report: what was asked, guarantees beside measurements, four figures, and the assumptions.

    Args:
        path: the file; folders above it are made, a file of that name is replaced.
        study: what to report.

    Raises:
        OutputError: the file cannot be written.
    """
    from whichmin.report.pages.entries import write_page

    write_page(path, render(study))


def render(study: LinearStudy) -> str:
    """The page as text."""
    from datetime import UTC, datetime

    from whichmin.report.numbers import number
    from whichmin.report.page import template

    rows = [(row[0], [number(float(v)) for v in row[1:]]) for row in study.table().itertuples(index=False, name=None)]
    return template("linear.html.j2").render(
        title=TITLE,
        finding=finding(study),
        asked=[(name, f"{value:g}") for name, value in study.settings.items()] + list(_sweep_settings(study)),
        rows=rows,
        figures=_figures(study),
        fits=_fits(study),
        assumptions=study.analysis.assumptions,
        versions=_versions(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def finding(study: LinearStudy) -> str:
    """The answer in two sentences."""
    from whichmin.report.numbers import number

    known, run = study.analysis, study.flows[OFF]
    end, size = float(run.distances[-1]), float(known.minimum_norm.norm())
    text = f"Training ends {number(end)} from the minimum-norm solution, whose own norm is {number(size)}; "
    bound = (
        "no bound is guaranteed" if math.isinf(known.tight_bound) else f"at most {number(known.tight_bound)} is sure"
    )
    text += bound + "."
    if study.sweep is not None:
        fits = [f"h^{f.slope:.2f} at a = {f.exponent:g}" for f in study.sweep.fits()]
        text += f" Wider networks end nearer: the distance falls like {', '.join(fits)}."
    return text.replace("^-", "^−")


def _sweep_settings(study: LinearStudy) -> Iterator[tuple[str, str]]:
    if study.sweep is not None:
        yield "widths", ", ".join(f"{w:.0f}" for w in study.sweep.widths.tolist())
        yield "exponents", ", ".join(f"{a:g}" for a in study.sweep.exponents.tolist())
        yield "seeds", str(study.sweep.distances.shape[2])


def _figures(study: LinearStudy) -> dict[str, Any]:
    from markupsafe import Markup

    from whichmin.report.numbers import number
    from whichmin.report.svg import inline_svg

    run = study.flows[OFF]
    descents = {f"lr {number(float(d.times[1] - d.times[0]) / _stride(d), 2)}": d for d in study.descents.values()}
    made = {
        "loss": loss_figure(study.analysis, run),
        "drift": drift_figure(run, descents),
        "invariant": invariant_figure(study.flows),
    }
    if study.sweep is not None:
        made["width"] = width_figure(study.sweep)
    return {
        name: {"svg": Markup(inline_svg(figure, f"fig-{name}", _CAPTIONS[name])), "caption": _CAPTIONS[name]}
        for name, figure in made.items()
    }


def _stride(run: Any) -> float:
    """Steps between the first two reports of a gradient descent."""
    return float(run.times[1] - run.times[0]) / float(run.times[-1]) * run.evaluations


def _fits(study: LinearStudy) -> dict[str, Any] | None:
    from whichmin.report.numbers import number

    if study.sweep is None:
        return None
    columns = {
        "distance at the end": study.sweep.fits("distances"),
        "distance to the invariant set": study.sweep.fits("invariant"),
        "level of imbalance": study.sweep.fits("levels"),
    }

    def said(fit: Any) -> str:
        error = "" if math.isnan(fit.standard_error) else f" ± {number(fit.standard_error, 1)}"
        expected = "" if math.isnan(fit.expected) else f" ({number(round(fit.expected, 6), 2)})"
        return number(fit.slope, 2) + error + expected

    rows = [(f"{fits[0].exponent:g}", [said(fit) for fit in fits]) for fits in zip(*columns.values(), strict=True)]
    return {"columns": list(columns), "rows": rows}


def _versions() -> list[tuple[str, str]]:
    import platform

    import torch

    from whichmin._version import __version__

    return [("whichmin", __version__), ("torch", torch.__version__), ("python", platform.python_version())]

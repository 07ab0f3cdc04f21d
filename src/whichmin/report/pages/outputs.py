"""Pages of results that are outputs over initializations, or a sweep: a finding, a figure and a table."""

from __future__ import annotations

from whichmin.infinite.predict import InfinitePrediction
from whichmin.linear.analysis import LinearAnalysis
from whichmin.linear.deep import DeepFlow
from whichmin.linear.flow import LinearFlow
from whichmin.linear.sweep import WidthSweep
from whichmin.report.figures import sections_of
from whichmin.report.linear import analysis_finding, flow_finding, sweep_finding
from whichmin.report.numbers import number
from whichmin.report.outputs_finding import infinite_finding, seeds_finding
from whichmin.report.page import render
from whichmin.report.pages.linear import fits_table, sweep_settings
from whichmin.report.settings import text_of
from whichmin.report.tables import cells_of
from whichmin.results import Result
from whichmin.studies.seed_spread import SeedSpread

#: The most rows of the table that are shown.
ROWS = 200


def seeds_page(spread: SeedSpread, title: str | None = None) -> str:
    """A page of the minimizers of many initializations."""
    asked = [
        ("seeds", str(len(spread.test))),
        ("loss", repr(spread.task.loss)),
        ("test points", str(spread.task.n_test)),
    ]
    heading = title or "How much of the minimizer is the seed’s?"
    return _page(spread, "seeds", heading, seeds_finding(spread), asked, spread.notes)


def infinite_page(prediction: InfinitePrediction, title: str | None = None) -> str:
    """A page of an ensemble of infinitely wide networks."""
    asked = [("dynamics", "gradient flow" if prediction.steps is None else "gradient descent")]
    asked += [("time (steps × lr)", number(prediction.time)), ("rank of the kernel", str(prediction.rank))]
    heading = title or "Which minimizers do infinitely wide networks converge to?"
    return _page(prediction, "infinite", heading, infinite_finding(prediction), asked, ())


def sweep_page(sweep: WidthSweep, title: str | None = None) -> str:
    """A page of a sweep over widths of linear networks."""
    heading = title or "How does the end of training depend on the width?"
    return _page(sweep, "sweep", heading, [sweep_finding(sweep)], sweep_settings(sweep), (), fits_table(sweep))


def flow_page(flow: LinearFlow | DeepFlow, title: str | None = None) -> str:
    """A page of one trajectory of a linear network."""
    asked = [("times", str(len(flow.times))), ("evaluations of the gradient", str(flow.evaluations))]
    return _page(flow, "flow", title or "Where does this linear network end?", flow_finding(flow), asked, ())


def analysis_page(analysis: LinearAnalysis, title: str | None = None) -> str:
    """A page of what is known of a linear network before it trains."""
    asked = [("rank of the inputs", str(analysis.rank)), ("loss now", number(analysis.loss))]
    heading = title or "What is guaranteed for this linear network?"
    return _page(analysis, "analysis", heading, analysis_finding(analysis), asked, analysis.notes)


def _page(
    result: Result,
    of: str,
    title: str,
    finding: list[str],
    asked: list[tuple[str, str]],
    notes: tuple[str, ...],
    fits: dict[str, object] | None = None,
) -> str:
    table = result.to_frame()
    return render(
        "outputs.html.j2",
        {
            "title": title,
            "finding": finding,
            "asked": asked,
            "figures": sections_of(of, result),
            "fits": fits,
            "table": cells_of(table.head(ROWS)),
            "rows": text_of(len(table)),
            "cut": len(table) > ROWS,
            "notes": notes,
        },
    )

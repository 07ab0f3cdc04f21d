"""Pages of results that are outputs over initializations, or a sweep: a finding, a figure and a table."""

from __future__ import annotations

from statistics import fmean

from whichmin.infinite.predict import InfinitePrediction
from whichmin.linear.analysis import LinearAnalysis
from whichmin.linear.deep import DeepFlow
from whichmin.linear.flow import LinearFlow
from whichmin.linear.sweep import WidthSweep
from whichmin.report.figures import sections_of
from whichmin.report.linear import sweep_finding
from whichmin.report.numbers import accuracy, mean_sd, number, percent
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
    std = float(spread.seed_std.double().square().mean().sqrt())
    flips, errors = spread.flip_probability.double(), spread.test_error
    finding = [
        f"Over {len(spread.test)} initializations the predicted outputs have a standard deviation of {number(std, 2)} "
        f"(root mean square on the test points); a prediction itself may be off by "
        f"{number(fmean(spread.error.tolist()), 2)}.",
        f"{int((flips > 0).sum())} of {len(flips)} test points are decided differently by different seeds; a seed "
        f"differs from the majority in {percent(float(flips.mean()))} of the cases.",
    ]
    if errors is not None:
        right = spread.accuracy
        rightly = "" if right is None else f", the accuracy {accuracy(float(right.mean()))}"
        finding.append(f"The test error ({spread.task.loss.label}) is {mean_sd(errors.tolist())}{rightly}.")
    asked = [("seeds", str(len(spread.test))), ("loss", repr(spread.task.loss)), ("test points", str(len(flips)))]
    return _page(spread, "seeds", title or "How much of the minimizer is the seed’s?", finding, asked, spread.notes)


def infinite_page(prediction: InfinitePrediction, title: str | None = None) -> str:
    """A page of an ensemble of infinitely wide networks."""
    std = float(prediction.std.square().mean().sqrt())
    finding = [
        f"Infinitely wide networks end with a standard deviation over initializations of {number(std, 2)} (root mean "
        "square on the test points)."
    ]
    if prediction.unreached > 0:
        finding.append(f"No training reaches {percent(prediction.unreached)} of the targets’ norm.")
    asked = [("dynamics", "gradient flow" if prediction.steps is None else "gradient descent")]
    asked += [("time (steps × lr)", number(prediction.time)), ("rank of the kernel", str(prediction.rank))]
    heading = title or "Which minimizers do infinitely wide networks converge to?"
    return _page(prediction, "infinite", heading, finding, asked, ())


def sweep_page(sweep: WidthSweep, title: str | None = None) -> str:
    """A page of a sweep over widths of linear networks."""
    heading = title or "How does the end of training depend on the width?"
    return _page(sweep, "sweep", heading, [sweep_finding(sweep)], sweep_settings(sweep), (), fits_table(sweep))


def flow_page(flow: LinearFlow | DeepFlow, title: str | None = None) -> str:
    """A page of one trajectory of a linear network."""
    finding = [
        f"After a time of {number(float(flow.times[-1]))} the loss is {number(float(flow.gaps[-1]), 2)} above its "
        f"optimum and the network {number(float(flow.solution_distances[-1]), 2)} from the minimum-norm solution."
    ]
    asked = [("times", str(len(flow.times))), ("evaluations of the gradient", str(flow.evaluations))]
    return _page(flow, "flow", title or "Where does this linear network end?", finding, asked, ())


def analysis_page(analysis: LinearAnalysis, title: str | None = None) -> str:
    """A page of what is known of a linear network before it trains."""
    finding = [
        "Gradient flow is guaranteed to lower the loss above its optimum at a rate of "
        f"{number(analysis.tight_rate, 2)}, and to end within {number(analysis.tight_bound, 2)} of the minimum-norm "
        "solution."
    ]
    asked = [("rank of the inputs", str(analysis.rank)), ("loss now", number(analysis.loss))]
    heading = title or "What is guaranteed for this linear network?"
    return _page(analysis, "analysis", heading, finding, asked, analysis.notes)


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

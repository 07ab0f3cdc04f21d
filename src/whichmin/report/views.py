"""Which figure, page and sentences show which type of results; imported by name by :mod:`whichmin.results`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whichmin.decomposition.explanation import Explanation
from whichmin.dynamics.prediction import Prediction
from whichmin.infinite.predict import InfinitePrediction
from whichmin.linear.analysis import LinearAnalysis
from whichmin.linear.deep import DeepFlow
from whichmin.linear.flow import LinearFlow
from whichmin.linear.study import LinearStudy
from whichmin.linear.sweep import WidthSweep
from whichmin.mitigation.mitigation import Mitigation
from whichmin.report.comparison import finding as comparison_finding
from whichmin.report.entries_finding import headline
from whichmin.report.entry_view import entry_views
from whichmin.report.figures.curves import curves_figure
from whichmin.report.figures.distances import distances_figure
from whichmin.report.figures.flow import flow_figure, guarantee_figure
from whichmin.report.figures.leave_out import effects_figure
from whichmin.report.figures.outputs import infinite_figure, seeds_figure
from whichmin.report.figures.remedies import remedies_figure
from whichmin.report.figures.width import width_figure
from whichmin.report.flips import flips
from whichmin.report.leave_out import finding as leave_out_finding
from whichmin.report.linear import analysis_finding, flow_finding, sweep_finding
from whichmin.report.linear import finding as study_finding
from whichmin.report.mitigation import finding as mitigation_finding
from whichmin.report.outputs_finding import infinite_finding, seeds_finding
from whichmin.report.overview import explanation_figure, study_figure
from whichmin.report.pages.comparison import comparison_page
from whichmin.report.pages.entries import entries_page
from whichmin.report.pages.leave_out import leave_out_page
from whichmin.report.pages.linear import linear_page
from whichmin.report.pages.mitigation import mitigation_page
from whichmin.report.pages.outputs import analysis_page, flow_page, infinite_page, seeds_page, sweep_page
from whichmin.results import View, register_view
from whichmin.studies.comparison import Comparison
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.left_out import LeftOut
from whichmin.studies.seed_spread import SeedSpread
from whichmin.training.recording import Recording
from whichmin.training.run import Run


def _of_prediction(prediction: Prediction) -> Entry:
    if prediction.method == "linearized":
        return Entry("prediction", linearized=prediction)
    return Entry("prediction", relinearized=prediction)


def _of_run(run: Run) -> Entry:
    return Entry("run", run=run)


def _of_recording(recording: Recording) -> Entry:
    return Entry("recording", run=recording.run())


def _of_explanation(explanation: Explanation) -> Entry:
    return Entry(
        "run",
        linearized=explanation.prediction,
        relinearized=explanation.relinearized,
        run=explanation.run,
        explanation=explanation,
    )


def _page(entry: Entry, title: str | None) -> str:
    return entries_page([entry], title=title)


def _curves(entry: Entry, axes: Sequence[Axes] | None) -> Figure | None:
    return curves_figure(entry_views([entry]), axes)


def _finding(entry: Entry) -> list[str]:
    views = entry_views([entry])
    return headline(views, flips(views))


def _view_of_entry(entry_of: Callable[[Any], Entry]) -> View[Any]:
    """The view of what is shown as an entry of a report."""
    return View(
        lambda result, axes: _curves(entry_of(result), axes),
        lambda result, title: _page(entry_of(result), title),
        lambda result: _finding(entry_of(result)),
    )


for kind, entry_of in {Prediction: _of_prediction, Run: _of_run, Recording: _of_recording}.items():
    register_view(kind, _view_of_entry(entry_of))
register_view(Explanation, replace(_view_of_entry(_of_explanation), figure=explanation_figure))
register_view(Entry, View(_curves, _page, _finding))
register_view(Comparison, View(distances_figure, comparison_page, comparison_finding))
register_view(LeftOut, View(effects_figure, leave_out_page, leave_out_finding))
register_view(Mitigation, View(remedies_figure, mitigation_page, mitigation_finding))
register_view(SeedSpread, View(seeds_figure, seeds_page, seeds_finding))
register_view(InfinitePrediction, View(infinite_figure, infinite_page, infinite_finding))
register_view(WidthSweep, View(width_figure, sweep_page, lambda result: [sweep_finding(result)]))
register_view(LinearAnalysis, View(guarantee_figure, analysis_page, analysis_finding))
register_view(LinearFlow, View(flow_figure, flow_page, flow_finding))
register_view(DeepFlow, View(flow_figure, flow_page, flow_finding))
register_view(LinearStudy, View(study_figure, linear_page, study_finding))

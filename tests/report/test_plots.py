from __future__ import annotations

import dataclasses
import re
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from oracles.builders import make_entry, make_task
from whichmin.dynamics.prediction import Curve
from whichmin.report import Entry, plots
from whichmin.report.axes import every
from whichmin.report.entry_view import term_names, views
from whichmin.report.svg import inline_svg


def test_explanation_figure():
    figure = make_entry().explanation.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 2
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == ["interpolant", "initialization", "unconverged", "curvature", "drift", "trained network"]


def test_explanation_figure_without_targets():
    figure = make_entry(task=make_task(targets=False)).explanation.plot()
    assert len(figure.axes) == 1


def test_bars_are_the_mean_waterfall():
    entries = [make_entry(seed) for seed in range(3)]
    figure = plots.waterfall_figure(views(entries))
    assert figure is not None
    frames = [e.explanation.test_error() for e in entries]
    change = np.mean([f["change"] for f in frames], axis=0)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(widths, [*change, sum(change)], rtol=1e-12)


def test_no_figure_without_its_numbers():
    nothing = views([Entry("empty")])
    for draw in (
        plots.waterfall_figure,
        plots.agreement_figure,
        plots.difference_figure,
        plots.curves_figure,
        plots.spectrum_figure,
    ):
        assert draw(nothing) is None


def test_difference_is_predicted_minus_trained():
    entry = make_entry()
    figure = plots.difference_figure(views([entry]))
    assert figure is not None
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    gap = (entry.relinearized.test - entry.run.test).double().numpy().ravel()
    np.testing.assert_allclose(lines["along the path"].get_ydata(), gap, atol=1e-6)


def test_curves_drop_what_a_logarithm_cannot_show():
    entry = make_entry()
    losses = entry.run.losses.clone()
    losses[-1] = 0.0
    figure = plots.curves_figure(views([Entry("a", run=dataclasses.replace(entry.run, losses=losses))]))
    assert figure is not None
    (line,) = figure.axes[0].lines
    assert min(line.get_xdata()) >= 1
    assert min(line.get_ydata()) > 0
    assert len(line.get_xdata()) <= 1000


def test_a_predicted_curve_is_drawn_only_around_the_run():
    entry = make_entry()
    steps = torch.logspace(0, 8, 100, dtype=torch.float64)
    linearized = dataclasses.replace(entry.linearized, curve=Curve(steps, torch.exp(-steps / 1e4)))
    with_run = plots.curves_figure(views([Entry("a", linearized=linearized, run=entry.run)]))
    alone = plots.curves_figure(views([Entry("a", linearized=linearized)]))
    assert with_run is not None
    assert alone is not None
    assert max(with_run.axes[0].lines[1].get_xdata()) <= 3 * entry.run.steps
    assert min(alone.axes[0].lines[0].get_ydata()) >= 1e-8


def test_effective_rank_of_equal_eigenvalues_is_their_number():
    assert plots.effective_rank(np.array([2.0] * 7 + [0.0])) == pytest.approx(7)
    assert plots.effective_rank(np.array([1.0, 1e-12])) == pytest.approx(1)


def test_largest_allowed_is_where_descent_turns_unstable():
    view = views([make_entry()])[0]
    assert view.linearized is not None
    limit = plots.largest_allowed(view)
    assert limit == pytest.approx(float(view.linearized.eigenvalues[0]) * 0.9 / 0.4)
    adam = dataclasses.replace(make_entry().run, optimizer="Adam")
    assert plots.largest_allowed(views([dataclasses.replace(make_entry(), run=adam)])[0]) is None


def test_terms_of_different_entries_are_merged_in_order():
    full, part = make_entry(0), make_entry(1)
    fewer = {k: v for k, v in part.explanation.terms.items() if k != "unconverged"}
    merged = [Entry("b", explanation=dataclasses.replace(part.explanation, terms=fewer)), full]
    assert term_names(views(merged)) == list(full.explanation.terms)
    errors = views(merged)[0].partial_errors(term_names(views(merged)))
    assert errors is not None
    assert errors[1] == errors[2]


def test_the_users_settings_are_left_alone_and_not_used():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "svg.fonttype": "path"}):
        figure = make_entry().explanation.plot()
        svg = inline_svg(figure, "a", "t")
        assert matplotlib.rcParams["axes.facecolor"] == "red"
    assert "<text" in svg
    assert dict(matplotlib.rcParams) == before


def test_identifiers_are_the_figures_own():
    entry = make_entry()
    one, two = (inline_svg(plots.terms_figure(entry.explanation), name, "t <&>") for name in ("a", "b"))
    assert re.sub(r'(["#])a-', r"\1b-", one) == two
    assert 'id="a-title">t &lt;&amp;&gt;</title>' in one
    assert "xmlns" not in one
    assert "<style" not in one


def test_large_sets_are_thinned_without_losing_an_output():
    chosen = every(30_000, 700)
    assert 600 < len(chosen) <= 700
    assert set((chosen % 3).tolist()) == {0, 1, 2}
    assert every(5, 700).tolist() == [0, 1, 2, 3, 4]


def test_no_pyplot():
    if "matplotlib.pyplot" not in sys.modules:
        make_entry().explanation.plot()
        assert "matplotlib.pyplot" not in sys.modules

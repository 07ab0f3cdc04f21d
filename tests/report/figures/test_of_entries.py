"""The figures of entries show the numbers of the entries."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from oracles.builders import make_entry, make_task
from whichmin.dynamics.prediction import Curve
from whichmin.report import Entry
from whichmin.report.entry_view import entry_views
from whichmin.report.figures.agreement import agreement_figure
from whichmin.report.figures.curves import curves_figure
from whichmin.report.figures.difference import difference_figure
from whichmin.report.figures.spectrum import effective_rank, spectrum_figure
from whichmin.report.figures.terms import terms_figure
from whichmin.report.figures.waterfall import waterfall_figure


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
    figure = waterfall_figure(entry_views(entries))
    assert figure is not None
    frames = [e.explanation.test_error() for e in entries]
    change = np.mean([f["change"] for f in frames], axis=0)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(widths, [*change, sum(change)], rtol=1e-12)


def test_no_figure_without_its_numbers():
    nothing = entry_views([Entry("empty")])
    for draw in (
        waterfall_figure,
        terms_figure,
        agreement_figure,
        difference_figure,
        curves_figure,
        spectrum_figure,
    ):
        assert draw(nothing) is None


def test_difference_is_predicted_minus_trained():
    entry = make_entry()
    figure = difference_figure(entry_views([entry]))
    assert figure is not None
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    gap = (entry.relinearized.test - entry.run.test).double().numpy().ravel()
    np.testing.assert_allclose(lines["along the path"].get_ydata(), gap, atol=1e-6)


def test_agreement_is_predicted_against_trained():
    entry = make_entry()
    lines = {line.get_label(): line for line in agreement_figure(entry_views([entry])).axes[0].lines}
    for label, prediction in (("linearized", entry.linearized), ("along the path", entry.relinearized)):
        np.testing.assert_allclose(lines[label].get_xdata(), entry.run.test.double().numpy().ravel())
        np.testing.assert_allclose(lines[label].get_ydata(), prediction.test.double().numpy().ravel())


def test_every_term_and_their_sum_are_drawn():
    entry = make_entry()
    figure = terms_figure(entry_views([entry]))
    rows = {label.get_text(): k for k, label in enumerate(figure.axes[0].get_yticklabels())}
    expected = entry.explanation.terms | {"sum": entry.explanation.total}
    assert list(rows) == list(expected)
    for name, values in expected.items():
        dots = figure.axes[0].lines[rows[name]]
        np.testing.assert_allclose(np.sort(dots.get_xdata()), np.sort(values.double().numpy().ravel()))
        assert np.abs(dots.get_ydata() - rows[name]).max() < 0.5


def test_the_spectrum_is_drawn_in_order():
    entry = make_entry()
    (line, *_) = spectrum_figure(entry_views([entry])).axes[0].lines
    values = entry.linearized.eigenvalues.numpy()
    np.testing.assert_allclose(line.get_ydata(), values[line.get_xdata() - 1])
    assert line.get_xdata()[0] == 1
    assert line.get_xdata()[-1] == len(values)


def test_curves_drop_what_a_logarithm_cannot_show():
    entry = make_entry()
    losses = entry.run.losses.clone()
    losses[-1] = 0.0
    figure = curves_figure(entry_views([Entry("a", run=dataclasses.replace(entry.run, losses=losses))]))
    assert figure is not None
    (line,) = figure.axes[0].lines
    assert min(line.get_xdata()) >= 1
    assert min(line.get_ydata()) > 0
    assert len(line.get_xdata()) <= 1000


def test_a_predicted_curve_is_drawn_only_around_the_run():
    entry = make_entry()
    steps = torch.logspace(0, 8, 100, dtype=torch.float64)
    linearized = dataclasses.replace(entry.linearized, curve=Curve(steps, torch.exp(-steps / 1e4)))
    with_run = curves_figure(entry_views([Entry("a", linearized=linearized, run=entry.run)]))
    alone = curves_figure(entry_views([Entry("a", linearized=linearized)]))
    assert with_run is not None
    assert alone is not None
    assert max(with_run.axes[0].lines[1].get_xdata()) <= 3 * entry.run.steps
    assert min(alone.axes[0].lines[0].get_ydata()) >= 1e-8


def test_effective_rank_of_equal_eigenvalues_is_their_number():
    assert effective_rank(np.array([2.0] * 7 + [0.0])) == pytest.approx(7)
    assert effective_rank(np.array([1.0, 1e-12])) == pytest.approx(1)

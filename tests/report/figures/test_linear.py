"""The figures of linear networks draw what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from oracles import linear_networks
from whichmin import linear
from whichmin.report.axes import WIDTH
from whichmin.report.figures.drift import draw_drift
from whichmin.report.figures.invariant import draw_invariant
from whichmin.report.figures.loss import draw_loss
from whichmin.report.figures.width import width_figure
from whichmin.report.numbers import number
from whichmin.report.panel import panel


@pytest.fixture
def study() -> linear.LinearStudy:
    return linear_networks.study()


def lines(draw, subject):
    (ax,) = panel(draw)(subject).axes
    return {line.get_label(): line for line in ax.lines}


def test_the_loss_is_below_its_bounds(study):
    drawn, run = lines(draw_loss, study), study.flows["random"]
    assert set(drawn) == {"bound", "tight bound", "flow"}
    flow, tight, bound = (drawn[name].get_ydata()[:20] for name in ("flow", "tight bound", "bound"))
    np.testing.assert_allclose(flow, run.gaps[:20])
    np.testing.assert_allclose(bound, (study.analysis.loss_bound(run.times[:20].numpy()) - study.analysis.optimum))
    np.testing.assert_allclose(tight, study.analysis.tight_gap_bound(run.times[:20].numpy()))
    assert (flow <= tight * (1 + 1e-9)).all()
    assert (tight <= bound * (1 + 1e-9)).all()


def test_the_drift_is_that_of_each_step(study):
    drawn = lines(draw_drift, study)
    assert len(drawn) == 4
    drift = study.flows["random"].imbalance_drift.numpy()
    np.testing.assert_allclose(drawn["flow"].get_ydata(), drift[drift > 0])
    for label, run in zip(list(drawn)[1:], study.descents.values(), strict=True):
        step = float(run.times[1] - run.times[0]) / max(1, run.evaluations // 200)
        assert label == f"lr {number(step, 2)}"
        assert drawn[label].get_ydata()[-1] == pytest.approx(float(run.imbalance_drift[-1]))


def test_one_line_for_each_initialization(study):
    drawn = lines(draw_invariant, study)
    assert set(drawn) == set(study.flows)
    for label, run in study.flows.items():
        assert drawn[label].get_ydata()[0] == pytest.approx(float(run.solution_distances[0]))


def test_widths_are_drawn_with_their_fits(study):
    figure = width_figure(study.sweep)
    assert figure.get_size_inches()[0] == WIDTH
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(labels) == 2
    assert labels[1].startswith("a = 0.5: −0.")
    assert labels[1].endswith("(−0.50)")
    fitted = [line for line in figure.axes[0].lines if line.get_label() in labels]
    fit = study.sweep.fits()[1]
    np.testing.assert_allclose(fitted[1].get_ydata(), fit.prefactor * study.sweep.widths.numpy() ** fit.slope)
    for i, container in enumerate(figure.axes[0].containers):
        middle, _, (bars,) = container
        logs = np.log(study.sweep.solution_distances[i].numpy())
        np.testing.assert_allclose(middle.get_ydata(), np.exp(logs.mean(axis=1)))
        ends = np.exp(np.stack([logs.mean(axis=1) - logs.std(axis=1), logs.mean(axis=1) + logs.std(axis=1)], axis=1))
        np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], ends)


def test_a_plot_of_a_study_has_all_four(study):
    figure = study.plot()
    labels = [(ax.get_xlabel(), ax.get_ylabel()) for ax in figure.axes]
    assert labels == [
        ("time", "loss above the optimum"),
        ("time (steps × lr)", "drift of the imbalance"),
        ("time", "distance to minimum norm"),
        ("width h", "distance to minimum norm"),
    ]


def test_without_a_sweep_three():
    only = linear_networks.study_without_sweep()
    assert only.sweep is None
    assert len(only.plot().axes) == 3
    times = only.flows["random"].times[:20].numpy()
    above = only.analysis.loss_bound(times) - only.analysis.optimum
    assert only.analysis.optimum > 1e-3
    np.testing.assert_allclose(lines(draw_loss, only)["bound"].get_ydata()[:20], above)

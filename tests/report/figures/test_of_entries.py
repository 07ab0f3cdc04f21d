"""The figures of entries show the numbers of the entries."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from oracles.builders import make_entry, make_task
from oracles.losses import KINDS
from oracles.pages import Page
from whichmin.dynamics.prediction import Curve
from whichmin.report import Entry, drawing
from whichmin.report.axes import thin
from whichmin.report.entry_view import entry_views
from whichmin.report.figures.agreement import agreement_figure
from whichmin.report.figures.curves import curves_figure
from whichmin.report.figures.difference import difference_figure
from whichmin.report.figures.spectrum import effective_rank, spectrum_figure
from whichmin.report.figures.terms import terms_figure
from whichmin.report.figures.waterfall import waterfall_figure
from whichmin.report.numbers import mean_sd, number, percent, signed
from whichmin.report.pages.entries import entries_page
from whichmin.report.palette import GREEN, MUTED, RED, SKY


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


def test_legends_say_how_predictions_were_made():
    whole = make_entry()
    trained = dataclasses.replace(whole, relinearized=dataclasses.replace(whole.relinearized, method="trained"))
    for draw in (agreement_figure, difference_figure, curves_figure):
        for entries, way in (
            ([whole], "along the path"),
            ([trained], "by training"),
            ([whole, trained], "along the path or by training"),
        ):
            said = [text.get_text() for text in draw(entry_views(entries)).axes[0].get_legend().get_texts()]
            assert [label for label in said if "path" in label or "by" in label] == [way]


def test_agreement_is_predicted_against_trained():
    entry = make_entry()
    lines = {line.get_label(): line for line in agreement_figure(entry_views([entry])).axes[0].lines}
    for label, prediction in (("one linearization", entry.linearized), ("along the path", entry.relinearized)):
        np.testing.assert_allclose(lines[label].get_xdata(), entry.run.test.double().numpy().ravel())
        np.testing.assert_allclose(lines[label].get_ydata(), prediction.test.double().numpy().ravel())


def test_without_training_the_path_is_not_called_trained():
    entry = dataclasses.replace(make_entry(), run=None, explanation=None)
    for draw, caption in ((agreement_figure, "agreement"), (difference_figure, "difference")):
        ax = draw(entry_views([entry])).axes[0]
        said = drawing._FIGURES["entries", caption]
        words = [ax.get_xlabel(), ax.get_ylabel(), said.title(entry_views([entry])), said.caption(entry_views([entry]))]
        assert "path" in words[0]
        assert not [text for text in words if "train" in text]
    trained = entry_views([make_entry()])
    assert drawing._FIGURES["entries", "agreement"].caption(trained).endswith("prediction and training agree.")


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


def test_what_is_in_sight_of_a_run():
    """Up to three times its steps, and down to a hundredth of its least loss."""
    entry = make_entry()
    steps = torch.arange(1, 20_001, dtype=torch.float64)
    run = dataclasses.replace(entry.run, steps=100, losses=entry.run.losses[:101], loss_steps=torch.arange(101))
    least = float(run.losses.min())
    for mse, bound in ((torch.ones_like(steps), "steps"), (least * 10.0 ** (3 - steps / 20), "losses")):
        linearized = dataclasses.replace(entry.linearized, curve=Curve(steps, mse))
        (line,) = curves_figure(entry_views([Entry("a", linearized=linearized, run=run)])).axes[0].lines[1:]
        if bound == "steps":
            assert line.get_xdata()[-1] == 300
        else:
            assert line.get_ydata()[-1] == pytest.approx(0.01 * least, rel=0.2)
            assert line.get_ydata()[-1] >= 0.01 * least


@pytest.mark.parametrize("loss", ["gauss", "classes smoothed", "probabilities"])
def test_curves_are_drawn_above_the_lowest_loss(loss):
    """Of a loss whose lowest value is not 0; the same figure without a shift for one whose lowest value is."""
    task = KINDS[loss].task()
    lowest = task.objective.lowest
    assert abs(lowest) > 0.05
    above = torch.logspace(0, -6, 7, dtype=torch.float64)
    steps = torch.arange(1, 8)
    entry = make_entry()
    run = dataclasses.replace(entry.run, task=task, losses=lowest + above, loss_steps=steps, steps=7)
    late = torch.cat([0.9 * above, torch.tensor([1e-7, 1e-9, -1e-16])])
    linearized = dataclasses.replace(entry.linearized, curve=Curve(torch.arange(1.0, 11.0), lowest + late))
    views = entry_views([Entry("a", linearized=linearized, run=run)])
    (ax,) = curves_figure(views).axes
    trained, predicted = ax.lines
    np.testing.assert_allclose(trained.get_ydata(), above, rtol=1e-8)
    np.testing.assert_allclose(predicted.get_ydata(), late[:8], rtol=1e-7)
    assert ax.get_ylabel() == f"training loss above the lowest ({task.loss.label})"
    assert "Training loss above the lowest against steps" in drawing._FIGURES["entries", "curves"].caption(views)
    assert f"No outputs have a loss below {number(lowest)}." in drawing._FIGURES["entries", "curves"].caption(views)


def test_each_curve_is_its_own():
    entry = make_entry()
    steps = torch.tensor([1.0, 5.0, 20.0], dtype=torch.float64)
    parts = {
        "linearized": dataclasses.replace(entry.linearized, curve=Curve(steps, 0.5 / steps)),
        "relinearized": dataclasses.replace(entry.relinearized, curve=Curve(steps, 0.4 / steps)),
        "run": dataclasses.replace(
            entry.run, losses=torch.tensor([0.9, 0.3, 0.1]), loss_steps=torch.tensor([0, 5, 10]), steps=10
        ),
    }
    lines = {line.get_label(): line for line in curves_figure(entry_views([Entry("a", **parts)])).axes[0].lines}
    expected = {
        "trained": ([5, 10], [0.3, 0.1]),
        "one linearization": ([1, 5, 20], [0.5, 0.1, 0.025]),
        "along the path": ([1, 5, 20], [0.4, 0.08, 0.02]),
    }
    assert set(lines) == set(expected)
    for name, (x, y) in expected.items():
        np.testing.assert_allclose(lines[name].get_xdata(), x)
        np.testing.assert_allclose(lines[name].get_ydata(), y, rtol=1e-6)


def test_bars_begin_where_the_one_before_ends():
    entries = [make_entry(seed) for seed in range(3)]
    (ax,) = waterfall_figure(entry_views(entries)).axes
    partial = np.array([e.explanation.test_error()["loss"] for e in entries])
    ends = partial.mean(axis=0)
    starts = [0.0, *ends[:-1], 0.0]
    for bar, start, end in zip(ax.patches, starts, [*ends, ends[-1]], strict=True):
        assert bar.get_x() + min(bar.get_width(), 0) == pytest.approx(min(start, end))
        assert abs(bar.get_width()) == pytest.approx(abs(end - start))
    texts = [text.get_text() for text in ax.texts]
    shares = [(end - start) / ends[-1] for start, end in zip(starts, ends, strict=False)]
    numbers = [number(ends[0], 2), *(signed(b - a, 2) for a, b in itertools.pairwise(ends))]
    assert texts == [*(f"{n} ({percent(s)})" for n, s in zip(numbers, shares, strict=True)), number(ends[-1], 2)]
    colours = [SKY, *(RED if b >= a else GREEN for a, b in itertools.pairwise(ends)), MUTED]
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches] == colours
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, [*partial.T, partial[:, -1]])


@pytest.mark.usefixtures("undrawn")
def test_some_bars_are_of_the_entries_that_are_explained():
    entries = [make_entry(0), make_entry(1), dataclasses.replace(make_entry(2), explanation=None)]
    (ax,) = waterfall_figure(entry_views(entries)).axes
    ends = np.mean([e.explanation.test_error()["loss"] for e in entries[:2]], axis=0)
    assert ax.patches[-1].get_width() == pytest.approx(ends[-1])
    assert "Bars are means over 2 entries" in Page(entries_page(entries)).words


@pytest.mark.usefixtures("undrawn")
def test_the_effective_rank_is_drawn_up_to_the_spectrum():
    entries = [make_entry(0), make_entry(1)]
    values = [2.0 ** -torch.arange(40, dtype=torch.float64), torch.cat([torch.full((8,), 3.0), torch.zeros(32)])]
    entries = [
        Entry("a", linearized=dataclasses.replace(e.linearized, eigenvalues=v.double(), limit=None))
        for e, v in zip(entries, values, strict=True)
    ]
    ranks = [effective_rank(v.numpy()) for v in values]
    assert ranks == pytest.approx([4.0, 8.0], rel=1e-6)
    (ax,) = spectrum_figure(entry_views(entries)).axes
    (line,) = [line for line in ax.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
    assert line.get_xdata()[0] == pytest.approx(6.0)
    assert line.get_ydata()[1] == pytest.approx(float(values[0][5]))
    assert "effective rank 6.0" in [text.get_text() for text in ax.texts]
    words = Page(entries_page(entries[::-1])).words
    assert f"normalized eigenvalues, is {mean_sd(ranks)} of 40.".replace("\u00a0", " ") in words


@pytest.mark.parametrize(("part", "drawn"), [(0.009, False), (0.011, True)])
def test_the_limit_of_stability_is_drawn_from_a_hundredth_of_it_on(part, drawn):
    whole = make_entry()
    linearized = dataclasses.replace(whole.linearized, learning_rate=part * whole.linearized.limit)
    (ax,) = spectrum_figure(entry_views([Entry("a", linearized=linearized)])).axes
    assert ("the learning rate’s limit" in [text.get_text() for text in ax.texts]) is drawn


def test_spectra_are_those_of_one_optimizer():
    """All start from the same initializations."""
    entries = [
        dataclasses.replace(make_entry(k), optimizer=name, member=f"seed {k % 2}")
        for k, name in enumerate(("sgd", "sgd", "adam", "adam"))
    ]
    (ax,) = spectrum_figure(entry_views(entries)).axes
    assert sum(len(line.get_xdata()) > 10 for line in ax.lines) == 2


def test_of_a_long_curve_points_are_kept_evenly_on_a_logarithmic_axis():
    x = np.arange(0.0, 10_001.0)
    kept, values = thin(x, 1 / (x + 1), 100)
    np.testing.assert_allclose(values, 1 / (kept + 1))
    assert (kept[0], kept[-1]) == (1, 10_000)
    counts = [int(((kept >= low) & (kept < 10 * low)).sum()) for low in (100, 1000)]
    assert counts[0] == pytest.approx(counts[1], abs=2) == pytest.approx(25, abs=2)
    same, _ = thin(np.arange(5.0), np.ones(5), 100)
    assert same.tolist() == [1, 2, 3, 4]


def test_effective_rank_of_equal_eigenvalues_is_their_number():
    assert effective_rank(np.array([2.0] * 7 + [0.0])) == pytest.approx(7)
    assert effective_rank(np.array([1.0, 1e-12])) == pytest.approx(1)

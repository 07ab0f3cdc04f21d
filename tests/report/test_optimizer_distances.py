"""Reports of several optimizers."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from oracles.builders import make_entry, make_task
from oracles.pages import Page, without_drawings
from whichmin.errors import InputError, TrainingError
from whichmin.report import Entry
from whichmin.report.entry_view import by_optimizer, entry_views
from whichmin.report.figures.by_optimizer import apart_figure, errors_figure
from whichmin.report.optimizer_distances import optimizer_distances
from whichmin.report.pages.entries import entries_page

from .pages.test_entries import EVERYTHING

KINDS = ("trained", "relinearized")
NAMES = ("sgd", "adam", "adagrad")


def entries(shift: float = 0.5) -> list[Entry]:
    """Two seeds of three optimizers, the k-th of which is k·shift away from the first, predicted twice as far."""
    found = []
    for k, name in enumerate(NAMES):
        for seed in range(2):
            entry = make_entry(seed, label=f"{name}, seed {seed}")
            run = replace(entry.run, test=entry.run.test + k * shift)
            relinearized = replace(entry.relinearized, test=entry.run.test + 2 * k * shift)
            found.append(replace(entry, run=run, relinearized=relinearized, optimizer=name, member=f"seed {seed}"))
    return found


@pytest.fixture(scope="module")
def page() -> Page:
    with without_drawings():
        return Page(entries_page(entries()))


def test_distances_are_between_the_same_seeds():
    found = optimizer_distances(entry_views(entries()))
    assert found.names == NAMES
    torch.testing.assert_close(torch.tensor(found.trained[0][1:]), torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(torch.tensor(found.predicted[0][1:]), torch.tensor([1.0, 2.0]))
    assert all(found.trained[i][i] is None for i in range(3))
    assert found.trained[2][1] == found.trained[1][2]
    assert found.sentence.startswith("Furthest from each other, sgd and adagrad are 1.0 apart")
    assert "off by 100\u00a0%" in found.miss


def test_distances_are_means_over_seeds():
    """Of roots: at seeds that lie 0.2 and 1.0 apart it is 0.6."""
    found = []
    for name, factor in (("sgd", 0.0), ("adam", 1.0), ("adagrad", 2.0)):
        for seed, apart in enumerate((0.2, 1.0)):
            entry = make_entry(seed)
            run = replace(entry.run, test=entry.run.test + factor * apart)
            predicted = replace(entry.relinearized, test=entry.run.test + (factor + 0.5 * factor**2) * apart)
            found.append(replace(entry, run=run, relinearized=predicted, optimizer=name, member=f"seed {seed}"))
    distances = optimizer_distances(entry_views(found))
    expected = {"As trained": [0.6, 1.2], "As predicted": [0.9, 2.4]}
    for title, rows in distances.tables:
        assert [name for name, _ in rows] == ["sgd", "adam", "adagrad"]
        assert [float(value) for value, _ in rows[0][1][1:]] == pytest.approx(expected[title], rel=1e-5)
        assert rows[0][1][0] == ("", "–")
        assert [text for _, text in rows[0][1][1:]] == [f"{v:.3f}" if v < 1 else f"{v:.2f}" for v in expected[title]]
    assert distances.sentence == (
        "Furthest from each other, sgd and adagrad are 1.2 apart (root mean square of outputs on the test "
        "points); predicted were 2.4."
    )
    misses = (0.5, 1.0, 1.5)  # of the pairs, 0.9 for 0.6, 2.4 for 1.2 and 1.5 for 0.6
    assert distances.miss == f"The predicted distances are off by {100 * sum(misses) / 3:.0f}\u00a0% on average."


def test_without_training_there_are_only_predictions():
    some = [replace(e, run=None, explanation=None) for e in entries()]
    found = optimizer_distances(entry_views(some))
    assert found.trained is None
    assert found.predicted[0][1] == pytest.approx(1.0)
    assert "are predicted to be" in found.sentence


def test_nothing_to_compare():
    assert optimizer_distances(entry_views(entries()[:2])) is None
    assert optimizer_distances(entry_views([make_entry(0), make_entry(1)])) is None
    assert by_optimizer(entry_views([*entries(), make_entry(0)])) == {}


def test_other_seeds_are_not_compared():
    one, *_, other = entries()
    assert one.member != other.member
    assert optimizer_distances(entry_views([one, other])) is None


def test_the_page_is_by_optimizer(page):
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    assert page.sections == ["apart", *EVERYTHING]
    assert page.source.count('<svg class="plot"') == 2 * len(NAMES) + 6
    header = re.search(r'<table class="quantities">.*?<thead>(.*?)</thead>', page.source, flags=re.DOTALL)[1]
    assert re.findall(r'class="number">(\w+)<', header) == list(NAMES)
    for words in ("the test errors are: sgd", "As trained", "As predicted", "One panel per optimizer", "All 6 entries"):
        assert words in page.words


def test_the_figures_stand_before_the_tables(page):
    compared = page.section("apart")
    assert compared.count("<svg") == 2
    assert compared.index("fig-errors") < compared.index("fig-apart") < compared.index("<table")


def test_the_figures_draw_the_test_errors_and_the_distances():
    views = entry_views(entries())
    lines = errors_figure(views).axes[0].lines
    dots = [line for line in lines if line.get_marker() == "o" and len(line.get_xdata()) == 2]
    expected = [[v.test_error(kind) for v in views if v.optimizer == name] for kind in KINDS for name in NAMES]
    assert [list(line.get_xdata()) for line in dots] == expected
    means = [float(line.get_xdata()[0]) for line in lines if line.get_marker() == "|"]
    assert means == pytest.approx([sum(values) / 2 for values in expected])
    trained, predicted = apart_figure(views).axes[0].lines
    assert trained.get_xdata() == pytest.approx([1.0, 0.5, 0.5], rel=1e-5)
    assert predicted.get_xdata() == pytest.approx([2.0, 1.0, 1.0], rel=1e-5)
    names = [label.get_text() for label in apart_figure(views).axes[0].get_yticklabels()]
    assert names[0] == "sgd – adagrad"
    assert set(names[1:]) == {"sgd – adam", "adam – adagrad"}


def test_no_figures_without_several_optimizers_or_targets():
    alone = entry_views([make_entry(0), make_entry(1)])
    assert errors_figure(alone) is apart_figure(alone) is None
    blank = make_entry(task=make_task(targets=False))
    several = entry_views([replace(blank, optimizer=name, member="seed 0") for name in NAMES])
    assert errors_figure(several) is None
    assert len(apart_figure(several).axes[0].lines) == 2


@pytest.mark.usefixtures("undrawn")
def test_what_failed_is_told():
    failure = TrainingError("the loss is not finite", state={}, step=3, losses=[])
    lost = Entry("rprop, seed 0", optimizer="rprop", member="seed 0", failure=failure)
    page = Page(entries_page([*entries(), lost]))
    assert "failed" in page.sections
    assert "rprop, seed 0: the loss is not finite" in page.words
    assert "All 6 entries" in page.words


def test_nothing_but_failures(tmp_path):
    from whichmin.report import write_report

    failure = TrainingError("the loss is not finite", state={}, step=3, losses=[])
    with pytest.raises(InputError, match="a report of no entries"):
        write_report(tmp_path / "r.html", [Entry("seed 0", failure=failure)])

"""``explain`` from a later step, and how the error of one linearization falls with it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance, mlp_problem, rms, sgd
from whichmin.decomposition.later import LaterLinearizations
from whichmin.errors import InputError, ResultError
from whichmin.report.entry_view import entry_views
from whichmin.report.figures.later import BEFORE_FIRST, later_figure
from whichmin.report.pages.entries import entries_page
from whichmin.studies.experiment.entry import Entry

OPTIMIZERS = {
    "descent": sgd(0.1),
    "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "adam": partial(torch.optim.Adam, lr=5e-3),
    "adagrad": partial(torch.optim.Adagrad, lr=2e-2),
}
KEPT = [0, 20, 100]


def kept_run(name, steps=150, **course):
    model, task = mlp_problem((4, 16), 6, 1)
    return wm.train(model, task, OPTIMIZERS[name], until=None, steps=steps, checkpoints=KEPT, **course)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("course", [{}, {"batch_size": 4, "seed": 1}], ids=["full", "batches"])
def test_the_terms_at_a_later_step_add_up_to_the_same_outputs(name, course):
    run = kept_run(name, **course)
    found, first = wm.explain(run, from_step=20), wm.explain(run)
    assert distance(found.total, run.test) < 1e-12
    assert (found.from_step, first.from_step, first.later) == (20, 0, None)
    there = run.checkpoint(20).model()
    again = wm.explain(wm.train(there, run.task, sgd(0.1), until=None, steps=1))
    assert distance(found.terms["initialization"], again.terms["initialization"]) < 1e-10, "that of the network there"
    assert distance(found.terms["initialization"], first.terms["initialization"]) > 1e-4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_one_linearization_misses_falls_with_its_step(name):
    run = kept_run(name)
    later = wm.explain(run, from_step=0).later
    assert later.steps.tolist() == KEPT
    for step, miss, remaining in zip(KEPT, later.misses.tolist(), later.remaining.tolist(), strict=True):
        kept = run.checkpoint(step)
        told = wm.predict(kept, run.task, OPTIMIZERS[name], steps=150, relinearize="never")
        assert miss == pytest.approx(rms(told.test, run.test), rel=1e-9)
        assert remaining == pytest.approx(rms(kept.model()(run.task.X_test).detach(), run.test), rel=1e-9)
    assert later.misses[2] < 0.25 * later.misses[0]
    assert bool((later.estimates > 0).all())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_linear_network_is_missed_by_nothing_at_any_step(name):
    torch.manual_seed(0)
    task = wm.Task(torch.randn(6, 12).double(), torch.randn(6).double(), torch.randn(5, 12).double())
    model = nn.Linear(12, 1).double()
    run = wm.train(model, task, OPTIMIZERS[name], until=None, steps=30, checkpoints=KEPT)
    later = wm.explain(run, from_step=20).later
    assert later.steps.tolist() == [0, 20]
    assert float(later.misses.max()) < 1e-10
    assert float(later.remaining.min()) > 1e-4


def test_the_first_step_within_a_distance_stays_within_it():
    later = LaterLinearizations(
        torch.tensor([0, 1, 2, 4]), torch.tensor([0.5, 0.1, 0.3, 0.1]).double(), torch.zeros(4), torch.ones(4)
    )
    assert [later.first_within(d) for d in (0.05, 0.11, 0.2, 0.31, 1.0)] == [None, 4, 4, 1, 0]


def test_a_recorder_is_explained_from_a_later_step():
    """With its loader as a run of the same recipe, without it in one term for the way."""
    model, task = mlp_problem((4, 16), 6, 1)
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    recipe = wm.Recipe(OPTIMIZERS["momentum"], batch_size=4, seed=1)
    run = wm.train(model, task, recipe, until=None, steps=60, checkpoints=[20])
    rows = [rows for rows, _ in zip(recipe.batches(task.n), range(60), strict=False)]
    with wm.Recorder(model, optimizer, task, checkpoints=[20]) as recorder:
        for batch in rows:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(task.X[batch]), task.y[batch]).backward()
            optimizer.step()
    expected = wm.explain(run, from_step=20)
    found = wm.explain(recorder, loader=[(task.X[batch], task.y[batch]) for batch in rows], from_step=20)
    assert found.terms.keys() == expected.terms.keys()
    for name, term in found.terms.items():
        assert distance(term, expected.terms[name]) < 1e-9, name
    assert distance(found.later.misses, expected.later.misses) < 1e-9
    alone = wm.explain(recorder, from_step=20)
    assert alone.from_step == 20
    assert distance(alone.total, run.test) < 1e-10
    assert distance(alone.terms["initialization"], expected.terms["initialization"]) < 1e-9


def test_saved_and_loaded(tmp_path):
    found = wm.explain(kept_run("momentum"), from_step=20)
    found.save(tmp_path / "one")
    loaded = wm.Explanation.load(tmp_path / "one")
    assert loaded.from_step == 20
    assert torch.equal(loaded.later.misses, found.later.misses)
    assert [c.step for c in loaded.run.checkpoints] == [0, 20, 100, 150]


def test_the_figure_and_the_page_say_how_it_falls():
    found = wm.explain(kept_run("adam"), from_step=20)
    views = entry_views([Entry("seed 0", explanation=found)])
    (ax,) = later_figure(views).axes
    misses, estimates, remaining = (line.get_ydata() for line in ax.lines[:3])
    assert misses.tolist() == found.later.misses.tolist()
    assert estimates.tolist() == found.later.estimates.tolist()
    assert remaining.tolist() == found.later.remaining.tolist()
    assert ax.lines[0].get_xdata().tolist() == [BEFORE_FIRST, 20, 100]
    assert ax.lines[3].get_xdata()[0] == 20
    page = entries_page([Entry("seed 0", explanation=found)])
    assert "fig-later" in page
    assert "linearized at step" in page
    assert "One linearization at step 0 misses the trained test outputs by" in page
    assert later_figure(entry_views([Entry("seed 0", explanation=wm.explain(found.run))])) is None


def test_what_cannot_be_explained_from_a_later_step():
    run = kept_run("descent")
    with pytest.raises(ResultError, match="step 7 was not kept; kept are 0, 20, 100, 150"):
        wm.explain(run, from_step=7)
    with pytest.raises(InputError, match="there is no checkpoint after step 151: training went from step 0 to 150"):
        wm.explain(run, from_step=151)
    with pytest.raises(InputError, match=r"from_step is for a run or a recorder that kept a checkpoint there: pass"):
        wm.explain(run.model, run.task, sgd(0.1), from_step=7)


def test_a_checkpoint_is_trained_on_and_explained():
    run = kept_run("momentum")
    found = wm.explain(run.checkpoint(20), run.task, OPTIMIZERS["momentum"], until=None, steps=150)
    assert found.from_step == 20
    assert torch.equal(found.run.test, run.test)
    later = wm.explain(run, from_step=20)
    for name, term in found.terms.items():
        assert distance(term, later.terms[name]) < 1e-12, name

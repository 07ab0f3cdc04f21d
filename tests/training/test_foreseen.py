"""A prediction and its training, made once where both are the same."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import problem
from whichmin.dynamics.paths.clock import untimed
from whichmin.loop.training_loop import Loop
from whichmin.training.foreseen import SHARED, predict_before_training

ADAM = partial(torch.optim.Adam, lr=1e-2)
SCHEDULED = wm.Recipe(ADAM, batch_size=5, seed=3, scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=20))


@pytest.fixture
def trainings(monkeypatch):
    """The steps that every training loop has made."""
    made, run = [], Loop.run

    def counted(self, progress):
        before = self.done
        reason = run(self, progress)
        made.append(self.done - before)
        return reason

    monkeypatch.setattr(Loop, "run", counted)
    return made


@pytest.mark.parametrize("recipe", [wm.Recipe(ADAM, batch_size=4), SCHEDULED], ids=["adam", "scheduled"])
@pytest.mark.parametrize(("until", "steps"), [(None, 60), (1e-1, None), (1e-9, 70)])
def test_the_training_of_a_prediction_is_the_run(trainings, recipe, until, steps):
    model, task = problem("over")
    with untimed():
        found, run = predict_before_training(model, task, recipe, until=until, steps=steps, tol=1e-2)
    assert (found.method, found.notes[-1]) == ("trained", SHARED)
    for_the_prediction = sum(trainings)
    with untimed():
        alone = wm.predict(model, task, recipe, until=until, steps=math.inf if steps is None else steps)
    assert sum(trainings) == 2 * for_the_prediction, "no more than a prediction takes"
    assert torch.equal(found.test, alone.test)
    assert (found.error, found.steps) == (alone.error, alone.steps)
    whole = wm.train(model, task, recipe, until=until, steps=steps)
    for name in ("train", "test", "losses", "loss_steps"):
        assert torch.equal(getattr(run, name), getattr(whole, name)), name
    for name in ("steps", "reason", "converged", "stalled", "until", "batch_size", "seed", "learning_rate", "notes"):
        assert getattr(run, name) == getattr(whole, name), name
    for name in ("initial", "final", "metric"):
        one, other = getattr(run, name), getattr(whole, name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert torch.equal(wm.explain(run).total, wm.explain(whole).total)
    assert 0 < run.seconds <= found.seconds


def test_a_path_leaves_training_to_be_made():
    model, task = problem("over")
    recipe = wm.Recipe(partial(torch.optim.SGD, lr="half"))
    found, run = predict_before_training(model, task, recipe, until=1e-3, steps=None, tol=1e-2)
    assert found.method != "trained"
    assert run is None

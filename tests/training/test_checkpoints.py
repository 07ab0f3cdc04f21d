"""Which steps ``train`` and a recorder keep, and what is said of those that they did not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from oracles.linear_rules import mlp_problem, sgd
from whichmin.errors import InputError, ResultError

ADAM = partial(torch.optim.Adam, lr=1e-2)
HALVED = partial(StepLR, step_size=3, gamma=0.5)


def recorded(checkpoints, *, steps=9, before=0, batch=4, seed=2):
    """A loop of one's own with a loader and a scheduler, and the recipe that says the same."""
    model, task = mlp_problem((4, 9), 6, 1)
    optimizer = ADAM(model.parameters())
    scheduler = HALVED(optimizer)
    recipe = wm.Recipe(ADAM, batch_size=batch, seed=seed, scheduler=HALVED)
    batches = recipe.batches(task.n)

    def step() -> None:
        rows = next(batches)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(task.X[rows]), task.y[rows]).backward()
        optimizer.step()
        scheduler.step()

    for _ in range(before):
        step()
    with wm.Recorder(model, optimizer, task, checkpoints=checkpoints) as recorder:
        for _ in range(steps):
            step()
    return recorder, task, recipe


@pytest.mark.parametrize(
    ("checkpoints", "kept"),
    [([3, 7], [0, 3, 7, 20]), ((20,), [0, 20]), ([0], [0, 20]), (range(4, 7), [0, 4, 5, 6, 20]), (64, None), (4, None)],
    ids=["steps", "the end", "the beginning", "a range", "many", "few"],
)
@pytest.mark.parametrize("batch_size", [None, 4])
def test_steps_that_are_kept(checkpoints, kept, batch_size):
    model, task = mlp_problem((4, 9), 6, 1)
    run = wm.train(model, task, ADAM, until=None, steps=20, checkpoints=checkpoints, batch_size=batch_size)
    spaced = {64: [0, 1, 2, 4, 8, 16, 20], 4: [0, 2, 8, 20]}
    expected = spaced[checkpoints] if kept is None else kept
    assert [c.step for c in run.checkpoints] == expected
    for step in expected[1:]:
        there = wm.train(model, task, ADAM, until=None, steps=step, batch_size=batch_size)
        state = run.checkpoint(step).state
        assert all(torch.equal(state[name], value) for name, value in there.final.items())


def test_training_with_checkpoints_is_training_without():
    model, task = mlp_problem((4, 9), 6, 1)
    a, b = (wm.train(model, task, ADAM, steps=20, until=None, checkpoints=c) for c in ((), 5))
    assert torch.equal(a.test, b.test)
    assert a.checkpoints == ()
    assert a.checkpoint(0).state is a.initial


@pytest.mark.parametrize("checkpoints", [2, 0, -1, True, [-1], [1.5], "ten", None])
def test_steps_that_cannot_be_kept_are_refused(checkpoints):
    model, task = mlp_problem((4, 9), 6, 1)
    with pytest.raises(InputError, match=r"^checkpoints is .*; expected the steps to keep, such as \(0, 100, "):
        wm.train(model, task, sgd(0.1), steps=3, checkpoints=checkpoints)


@pytest.mark.parametrize("source", ["run", "recorder"])
def test_a_step_that_was_not_kept_says_which_were(source):
    recorder, task, recipe = recorded([3, 7])
    model = recorder.initial_model
    run = wm.train(model, task, recipe, until=None, steps=9, checkpoints=[3, 7])
    of, name = (run, "train") if source == "run" else (recorder, "Recorder")
    with pytest.raises(
        ResultError, match=rf"^step 4 was not kept; kept are 0, 3, 7, 9\. .* {name}\(…, checkpoints=\[4"
    ):
        of.checkpoint(4)
    with pytest.raises(InputError, match=r"^there is no checkpoint after step 10: training went from step 0 to 9\."):
        of.checkpoint(10)
    with pytest.raises(InputError, match=r"^step is 'last'; expected a whole number of steps\."):
        of.checkpoint("last")


@pytest.mark.parametrize("step", [1, 4, 6, 7])
def test_a_recorded_loop_goes_on_with_its_recipe(step, tmp_path):
    """Where its epoch and its schedule stood, also once it was saved."""
    recorder, task, recipe = recorded([step])
    recorder.save(tmp_path / "recorded")
    loaded = wm.Recorder.load(tmp_path / "recorded", recorder.initial_model)
    for kept in (recorder, recorder.run(), loaded):
        run = wm.train(kept.checkpoint(step), task, recipe, until=None, steps=9)
        assert all(torch.equal(run.final[name], value) for name, value in recorder.final.items())


def test_a_loop_whose_place_is_not_known_has_no_checkpoints():
    recorder, _, _ = recorded([3], before=2)
    with pytest.raises(ResultError, match="no checkpoints to go on from: the optimizer had made steps before"):
        recorder.checkpoint(3)


def test_a_recorder_is_asked_after_its_loop():
    model, task = mlp_problem((4, 9), 6, 1)
    optimizer = ADAM(model.parameters())
    with wm.Recorder(model, optimizer, task, checkpoints=[1]) as recorder:
        with pytest.raises(ResultError, match="still recording"):
            recorder.checkpoint(0)
        model(task.X).sum().backward()
        optimizer.step()
    assert recorder.checkpoint(1).step == 1

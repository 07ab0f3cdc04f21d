"""What a run holds and what becomes of it on disk."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import problem, sgd
from whichmin.errors import ResultError


@pytest.mark.parametrize("until", [None, 1e-1])
@pytest.mark.parametrize("with_test", [True, False])
def test_saved_and_loaded_is_the_same(tmp_path, until, with_test):
    model, task = problem("over", 3)
    task = task if with_test else wm.Task(task.X, task.y)
    run = wm.train(model, task, sgd(0.1), until=until, steps=20)
    run.save(tmp_path / "run")
    loaded = wm.Run.load(tmp_path / "run")
    for name in ("train", "losses"):
        assert torch.equal(getattr(loaded, name), getattr(run, name))
    for name in ("steps", "converged", "reason", "optimizer", "learning_rate", "until", "seconds"):
        assert getattr(loaded, name) == getattr(run, name)
    for name in ("X", "y", "X_test", "y_test"):
        before, after = getattr(task, name), getattr(loaded.task, name)
        assert (after is None) if before is None else torch.equal(before, after)
    assert torch.equal(loaded.test, run.test) if with_test else loaded.test is None
    for name in ("initial", "final"):
        states = getattr(run, name), getattr(loaded, name)
        assert list(states[1]) != []
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())
    with pytest.raises(ResultError, match=r"load_state_dict\(run.final\)"):
        _ = loaded.model


@pytest.mark.parametrize("interrupted", [True, False])
def test_saved_with_whether_it_was_interrupted(tmp_path, interrupted):
    model, task = problem("over")
    run = dataclasses.replace(wm.train(model, task, sgd(0.1), steps=2), interrupted=interrupted)
    run.save(tmp_path / "run")
    assert wm.Run.load(tmp_path / "run").interrupted is interrupted


def test_the_models_of_a_run():
    model, task = problem("over")
    run = wm.train(model, task, sgd(0.1), steps=20)
    assert torch.equal(run.model(task.X_test), run.test)
    assert torch.equal(run.initial_model(task.X_test), model(task.X_test))
    for p in run.model.parameters():
        p.data.zero_()
    assert torch.equal(run.model(task.X_test), run.test), "each access is a copy"


def test_it_is_loaded_with_its_own_class(tmp_path):
    model, task = problem("over")
    wm.train(model, task, sgd(0.1), steps=2).save(tmp_path / "run")
    with pytest.raises(ResultError, match="holds a 'run'; expected a 'prediction'"):
        wm.Prediction.load(tmp_path / "run")
    with pytest.raises(ResultError, match="holds no result"):
        wm.Run.load(tmp_path / "nothing")
    (tmp_path / "run" / "arrays.safetensors").write_bytes(b"torn")
    with pytest.raises(ResultError, match="is damaged"):
        wm.Run.load(tmp_path / "run")

"""Results on disk are there whole or not at all, and an old one stays until the new one is whole."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch

import whichmin as wm
from oracles.linear_rules import problem, sgd
from whichmin.errors import OutputError, ResultError


def results(steps):
    model, task = problem("over")
    run = wm.train(model, task, sgd(0.1), steps=steps)
    return {"prediction": wm.predict(model, task, sgd(0.1), steps=steps), "run": run, "explanation": wm.explain(run)}


LOADERS = {"prediction": wm.Prediction.load, "run": wm.Run.load, "explanation": wm.Explanation.load}
KINDS = pytest.mark.parametrize("kind", list(LOADERS))


def told(result):
    return result.total if isinstance(result, wm.Explanation) else result.test


@pytest.fixture(scope="module")
def old_and_new():
    return results(3), results(9)


@KINDS
@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_save_that_stops_while_writing_leaves_the_old_result(kind, stop, tmp_path, old_and_new, monkeypatch):

    old, new = (r[kind] for r in old_and_new)
    old.save(tmp_path / "result")

    def stopped(*_):
        raise stop

    monkeypatch.setattr(safetensors.torch, "save_file", stopped)
    with pytest.raises(KeyboardInterrupt if stop is KeyboardInterrupt else OutputError):
        new.save(tmp_path / "result")
    assert torch.equal(told(LOADERS[kind](tmp_path / "result")), told(old))
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


@KINDS
def test_a_save_that_stops_while_moving_leaves_the_old_result(kind, tmp_path, old_and_new, monkeypatch):
    old, new = (r[kind] for r in old_and_new)
    old.save(tmp_path / "result")

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for module, name in ((Path, "rename"), (Path, "replace"), (os, "rename"), (os, "replace")):
            patch.setattr(module, name, stopped)
        with pytest.raises(KeyboardInterrupt):
            new.save(tmp_path / "result")
    assert torch.equal(told(LOADERS[kind](tmp_path / "result")), told(old))


@pytest.mark.parametrize("part", [wm.Prediction, wm.Run])
def test_an_explanation_that_stops_between_its_parts_leaves_the_old_one(part, tmp_path, old_and_new, monkeypatch):
    old, new = (r["explanation"] for r in old_and_new)
    old.save(tmp_path / "result")

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(part, "save", stopped)
        patch.setattr(part, "_save", stopped, raising=False)
        try:
            new.save(tmp_path / "result")
            expected = new
        except KeyboardInterrupt:
            expected = old
    loaded = wm.Explanation.load(tmp_path / "result")
    assert torch.equal(loaded.total, expected.total)
    assert loaded.run.steps == expected.run.steps


def test_a_killed_save_leaves_the_old_result(tmp_path, old_and_new):
    old = old_and_new[0]["prediction"]
    old.save(tmp_path / "result")
    write = safetensors.torch.save_file

    def killed(arrays, path):
        write(arrays, path)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            loaded = wm.Prediction.load(tmp_path / "result")
            loaded.train.zero_()
            safetensors.torch.save_file = killed
            loaded.save(tmp_path / "result")
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert torch.equal(wm.Prediction.load(tmp_path / "result").train, old.train)
    old_and_new[1]["prediction"].save(tmp_path / "result")
    assert torch.equal(wm.Prediction.load(tmp_path / "result").train, old_and_new[1]["prediction"].train)


@KINDS
def test_what_is_not_a_result_is_not_overwritten(kind, tmp_path, old_and_new):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    with pytest.raises(OutputError, match="thesis exists and is not a result of whichmin"):
        old_and_new[0][kind].save(tmp_path / "thesis")
    (tmp_path / "file").write_text("precious")
    with pytest.raises(OutputError, match="is not a result"):
        old_and_new[0][kind].save(tmp_path / "file")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "precious"
    assert (tmp_path / "file").read_text() == "precious"


@KINDS
def test_a_damaged_result_is_an_error(kind, tmp_path, old_and_new):
    old_and_new[0][kind].save(tmp_path / "result")
    for name in ("arrays.safetensors", "config.json"):
        content = (tmp_path / "result" / name).read_bytes()
        (tmp_path / "result" / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ResultError, match="is damaged"):
            LOADERS[kind](tmp_path / "result")
        (tmp_path / "result" / name).write_bytes(content)
    assert torch.equal(told(LOADERS[kind](tmp_path / "result")), told(old_and_new[0][kind]))

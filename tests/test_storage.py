"""Folders and texts are there whole or not at all, and an old one stays until the new one is in place."""

from __future__ import annotations

import json
import math
import os
import signal
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import whichmin as wm
from whichmin.errors import OutputError, ResultError
from whichmin.jobs.locks import Lock
from whichmin.storage import ABANDONED, load_folder, located, save_folder, write_text

save = partial(save_folder, metrics=[{"step": 1}])


def content(path: Path) -> tuple[dict, list[float], list[dict]]:
    config, arrays, metrics = load_folder(path, "thing")
    return config, arrays["a"].tolist(), metrics


def test_what_was_written_is_read(tmp_path):
    save(tmp_path / "x", {"kind": "thing", "n": 3}, {"a": torch.arange(6.0).reshape(2, 3).T[1]})
    config, array, metrics = content(tmp_path / "x")
    made = {name: config.pop(name) for name in ("versions", "date")}
    assert (config, array, metrics) == ({"kind": "thing", "n": 3}, [1.0, 4.0], [{"step": 1}])
    assert made["versions"]["whichmin"] == wm.__version__
    assert made["versions"]["torch"] == torch.__version__
    assert datetime.fromisoformat(made["date"]).utcoffset() == timedelta(0)
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["arrays.safetensors", "config.json", "metrics.jsonl"]


@pytest.mark.parametrize(
    ("umask", "folder", "file"), [(0o022, "755", "644"), (0o027, "750", "640"), (0o002, "775", "664")]
)
def test_modes_are_as_the_umask_has_them(tmp_path, umask, folder, file):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(int(folder, 8))
    before = os.umask(umask)
    try:
        save(tmp_path / "x", {"kind": "thing"}, {"a": torch.zeros(2)}, parts={"part": Path.mkdir})
        write_text(tmp_path / "page.html", "text")
        lock = Lock.acquire(tmp_path / "locks", "job")
        assert lock is not None
    finally:
        os.umask(before)
    modes = {
        path.relative_to(tmp_path).as_posix(): (path.is_dir(), oct(path.stat().st_mode)[-3:])
        for path in tmp_path.rglob("*")
    }
    lock.release()
    assert len(modes) == 9
    assert {name: mode for name, mode in modes.items() if mode[1] != (folder if mode[0] else file)} == {}


def refuse(name: str) -> float:
    raise AssertionError(f"{name} is no JSON")


def test_numbers_that_json_does_not_have_are_read_back(tmp_path):
    numbers = {"a": [math.inf, -math.inf, 1.5], "b": {"c": math.nan}, "d": np.float64(math.inf)}
    save_folder(tmp_path / "x", {"kind": "thing"} | numbers, {}, [{"loss": math.nan, "step": 3}])
    for name in ("config.json", "metrics.jsonl"):
        json.loads((tmp_path / "x" / name).read_text(), parse_constant=refuse)
    config, _, (row,) = load_folder(tmp_path / "x", "thing")
    assert config["a"] == [math.inf, -math.inf, 1.5]
    assert math.isnan(config["b"]["c"])
    assert config["d"] == math.inf
    assert math.isnan(row["loss"])
    assert row["step"] == 3


def test_another_kind_is_refused(tmp_path):
    save(tmp_path / "x", {"kind": "other"}, {})
    with pytest.raises(ResultError, match="holds a 'other'; expected a 'thing'"):
        load_folder(tmp_path / "x", "thing")
    with pytest.raises(ResultError, match="holds no result of whichmin"):
        load_folder(tmp_path / "nothing", "thing")


@pytest.mark.parametrize("name", ["config.json", "arrays.safetensors", "metrics.jsonl"])
def test_a_file_that_is_damaged_or_missing_is_told(tmp_path, name):
    save(tmp_path / "x", {"kind": "thing"}, {"a": torch.ones(9)})
    whole = (tmp_path / "x" / name).read_bytes()
    (tmp_path / "x" / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultError, match="is damaged"):
        load_folder(tmp_path / "x", "thing")
    (tmp_path / "x" / name).unlink()
    with pytest.raises(ResultError, match="no result" if name == "config.json" else "is damaged"):
        load_folder(tmp_path / "x", "thing")


def test_what_is_not_a_result_is_not_overwritten(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("thesis", "file"):
        with pytest.raises(OutputError, match=f"{name} exists and is not a result of whichmin"):
            save(tmp_path / name, {"kind": "thing"}, {})
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == (tmp_path / "file").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", {"kind": "thing"}, {"a": torch.ones(1)})
    assert content(tmp_path / "empty")[1] == [1.0]


def save_and_be_killed(folder, stop):
    """Save an explanation over another one, and end this process after so many renames."""
    renames, rename = [], Path.rename

    def counted(self, target):
        moved = rename(self, target)
        if self.parent == folder:
            renames.append(target)
            if len(renames) == stop:
                os.kill(os.getpid(), signal.SIGKILL)
        return moved

    loaded = wm.Explanation.load(folder / "result")
    for term in loaded.terms.values():
        term.zero_()
    Path.rename = counted
    loaded.save(folder / "result")


@pytest.fixture(scope="module")
def explained() -> wm.Explanation:
    g = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(4, 3, generator=g), torch.randn(4, 3, generator=g)
    task = wm.Task(X, torch.randn(4, generator=g), X_test)
    return wm.explain(wm.networks.MLP((3, 16, 1), seed=0), task, partial(torch.optim.SGD, lr=0.1), steps=3)


@pytest.mark.parametrize(("stop", "old"), [(1, True), (2, False)])
def test_a_process_that_is_killed_between_the_renames_loses_nothing(tmp_path, explained, stop, old):
    explained.save(tmp_path / "result")
    child = os.fork()
    if child == 0:
        try:
            save_and_be_killed(tmp_path, stop)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert (tmp_path / "result").exists() is not old
    loaded = wm.Explanation.load(tmp_path / "result")
    assert loaded.run.steps == loaded.prediction.steps == 3, "the results within are there too"
    assert torch.equal(loaded.total, explained.total if old else torch.zeros_like(explained.total))
    for left in tmp_path.glob(".result-*"):
        os.utime(left, (0, 0))
    explained.save(tmp_path / "result")
    assert torch.equal(wm.Explanation.load(tmp_path / "result").total, explained.total)
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


def test_a_following_save_that_fails_keeps_what_was_replaced(tmp_path, monkeypatch):
    save(tmp_path / "x", {"kind": "thing"}, {"a": torch.ones(1)})
    (tmp_path / "x").rename(tmp_path / ".x.previous")  # as a process leaves it that is killed between the renames
    assert located(tmp_path / "x") == tmp_path / ".x.previous"

    def stopped(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopped)
        with pytest.raises(OutputError, match="No space left on device"):
            save(tmp_path / "x", {"kind": "thing"}, {"a": torch.zeros(1)})
    assert content(tmp_path / "x")[1] == [1.0]
    save(tmp_path / "x", {"kind": "thing"}, {"a": torch.zeros(1)})
    assert content(tmp_path / "x")[1] == [0.0]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_only_what_was_abandoned_long_ago_is_removed(tmp_path):
    for name, age in ((".x-old", 2 * ABANDONED), (".x-new", 0.5 * ABANDONED), (".xy-old", 2 * ABANDONED)):
        (tmp_path / name).mkdir()
        now = (tmp_path / name).stat().st_mtime
        os.utime(tmp_path / name, (now - age, now - age))
    save(tmp_path / "x", {"kind": "thing"}, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == [".x-new", ".xy-old", "x"]


def test_parts_are_moved_with_the_whole(tmp_path):
    seen = []

    def write(path: Path) -> None:
        save(path, {"kind": "part"}, {})
        seen.append((tmp_path / "x").exists())

    save(tmp_path / "x", {"kind": "thing"}, {}, parts={"inner": write})
    assert seen == [False]
    assert json.loads((tmp_path / "x" / "inner" / "config.json").read_text())["kind"] == "part"


def test_a_text_is_written_whole(tmp_path, monkeypatch):
    target = tmp_path / "deeper" / "a.html"
    write_text(target, "‘old’\n")
    assert target.read_bytes() == "‘old’\n".encode()

    def stopped(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(OutputError, match=r"cannot write .*a\.html: No space"):
        write_text(target, "new")
    assert target.read_text(encoding="utf-8") == "‘old’\n"
    assert [p.name for p in target.parent.iterdir()] == ["a.html"]


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to .*file"):
        save(tmp_path / "file" / "x", {"kind": "thing"}, {})
    with pytest.raises(OutputError, match="cannot write"):
        write_text(tmp_path / "file" / "a.html", "")
    with pytest.raises(OutputError, match="is a folder: pass the name of the file"):
        write_text(tmp_path, "")

"""The store as files: its layout, failures and claims. What is read back for which question: tests/studies."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch

from whichmin._version import __version__
from whichmin.errors import OutputError, ResultError
from whichmin.jobs.store import FORMAT, Failure, Question, Store

ASKED = Question({"kind": "thing", "n": 1})


def test_its_label(tmp_path):
    Store.open(tmp_path)
    assert json.loads((tmp_path / "store.json").read_text()) == {"format": FORMAT, "whichmin": __version__}
    Store.open(tmp_path)


def test_a_folder_of_runs_without_a_label_is_read(tmp_path):
    Store.open(tmp_path).write(ASKED, {"a": 1}, {})
    (tmp_path / "store.json").unlink()
    assert Store.open(tmp_path).read(ASKED, lambda _, config, __: config["a"]) == 1


@pytest.mark.parametrize("make", [Store.open, Store.existing])
def test_another_layout_is_refused_with_what_to_do(tmp_path, make):
    Store.open(tmp_path)
    (tmp_path / "store.json").write_text('{"format": 7, "whichmin": "9.1"}')
    with pytest.raises(ResultError, match=r"store of layout 7, written by whichmin 9\.1.*to migrate, write its table"):
        make(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(ResultError, match=r"store\.json is damaged .*write \{"):
        make(tmp_path)


def test_a_store_that_is_not_there_is_empty_and_stays_so(tmp_path):
    store = Store.existing(tmp_path / "none")
    assert (store.has(ASKED), store.failure(ASKED), store.is_claimed(ASKED)) == (False, None, False)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_kept_until_there_is_an_answer(tmp_path):
    store = Store.open(tmp_path)
    store.write_failure(ASKED, Failure("InputError", "no."))
    assert store.failure(ASKED) == Failure("InputError", "no.")
    assert store.failure(Question({"kind": "thing", "n": 2})) is None
    store.write(ASKED, {}, {})
    assert store.failure(ASKED) is None
    assert list(store.failures.iterdir()) == []


def test_a_claim_is_for_one(tmp_path):
    store = Store.open(tmp_path)
    with store.claim(ASKED) as lock:
        assert lock is not None
        assert store.is_claimed(ASKED)
        with store.claim(ASKED) as other:
            assert other is None
    assert not store.is_claimed(ASKED)
    assert list(store.locks.iterdir()) == []


def test_what_a_dead_process_left_unfinished_is_removed(tmp_path):
    store = Store.open(tmp_path)
    left = store.runs / f".{ASKED.name}-xyz"
    left.mkdir()
    dead = store.locks / f"{ASKED.name}.0"
    dead.mkdir()
    holder = {"machine": "elsewhere", "pid": 1, "started": "", "host": "elsewhere"}
    (dead / "owner.json").write_text(json.dumps(holder))
    os.utime(dead / "owner.json", (1.0, 1.0))
    assert store.is_abandoned(ASKED)
    with store.claim(ASKED) as lock:
        assert lock is not None
        assert not left.exists()
    assert not store.is_abandoned(ASKED)


def test_a_full_disk_leaves_nothing_half(tmp_path, monkeypatch):
    """In place of a disk: the limit that the system sets to a process's files, which fails alike in mid-file."""
    resource = pytest.importorskip("resource")
    store = Store.open(tmp_path)
    store.write(ASKED, {}, {"a": torch.zeros(10)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OutputError, match="cannot write"):
            store.write(Question({"kind": "thing", "n": 2}), {}, {"a": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert [path.name for path in store.runs.iterdir()] == [ASKED.name]

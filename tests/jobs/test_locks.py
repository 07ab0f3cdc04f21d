"""Locks: one holder at a time, and none that is dead."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from whichmin.jobs import locks
from whichmin.jobs.locks import Holder, Lock, holder_of

#: Takes a lock, says so, and waits.
HOLD = "import sys, time; from pathlib import Path; from whichmin.jobs.locks import Lock\n"
HOLD += "lock = Lock.acquire(Path(sys.argv[1]), 'a'); print(lock is not None, flush=True); time.sleep(600)"


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def abroad(folder, age, name="a.0"):
    """A lock of a process on another machine that gave a sign of life so many seconds ago."""
    place = folder / name
    place.mkdir()
    holder = dataclasses.replace(Holder.here(), machine="elsewhere")
    (place / "owner.json").write_text(json.dumps(vars(holder)))
    os.utime(place / "owner.json", (time.time() - age,) * 2)


def test_one_at_a_time(tmp_path):
    lock = Lock.acquire(tmp_path, "a")
    assert lock is not None
    assert Lock.acquire(tmp_path, "a") is None
    other = Lock.acquire(tmp_path, "b")
    assert other is not None
    other.release()
    assert holder_of(tmp_path, "a") == Holder.here()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    assert holder_of(tmp_path, "a") is None


def test_of_many_at_once_one_gets_it(tmp_path):
    start, got = threading.Barrier(8), []

    def take():
        start.wait()
        got.append(Lock.acquire(tmp_path, "a"))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (held,) = [lock for lock in got if lock is not None]
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_holds_it_and_a_dead_one_does_not(tmp_path, other):
    assert Lock.acquire(tmp_path, "a") is None
    assert holder_of(tmp_path, "a").pid == other.pid
    other.kill()  # it stays a zombie, as nobody waits for it
    deadline = time.monotonic() + 30
    while (lock := Lock.acquire(tmp_path, "a")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert lock.generation == 1
    assert Lock.acquire(tmp_path, "a") is None
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_later_process_of_the_same_number_does_not_count(tmp_path):
    place = tmp_path / "a.0"
    place.mkdir()
    (place / "owner.json").write_text(json.dumps(vars(dataclasses.replace(Holder.here(), started="1"))))
    assert holder_of(tmp_path, "a") is None


@pytest.mark.parametrize(("age", "held"), [(0, True), (locks.SILENT / 2, True), (locks.SILENT + 5, False)], ids=str)
def test_a_process_elsewhere_lives_by_its_signs_of_life(tmp_path, age, held):
    abroad(tmp_path, age)
    assert (holder_of(tmp_path, "a") is not None) == held
    lock = Lock.acquire(tmp_path, "a")
    assert (lock is None) == held
    if lock is not None:
        lock.release()
        assert list(tmp_path.iterdir()) == []


def test_one_who_died_while_it_gave_a_lock_back_that_it_had_from_the_dead(tmp_path):
    abroad(tmp_path, locks.SILENT + 5, "a.1")  # a.0 was taken away before
    assert locks.is_dead(tmp_path, "a")
    lock = Lock.acquire(tmp_path, "a")
    assert lock is not None
    assert Lock.acquire(tmp_path, "a") is None
    assert not locks.is_dead(tmp_path, "a")
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_holder_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    lock = Lock.acquire(tmp_path, "a")
    file = tmp_path / "a.0" / "owner.json"
    os.utime(file, (1.0, 1.0))
    deadline = time.monotonic() + 30
    while file.stat().st_mtime == 1.0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        Lock.acquire(tmp_path / "none", "a")

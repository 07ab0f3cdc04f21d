"""Sweeps that are killed, crowded, spread over workers that die, and run out of disk: nothing is lost or done twice.

``WHICHMIN_KILLS=100`` kills the main process as often; a few times otherwise.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import whichmin as wm
from oracles.processes import address, fork_from, ready
from whichmin.dynamics.paths.real import STEP, RealTraining
from whichmin.jobs import executors
from whichmin.jobs.clusters import dask_executor
from whichmin.jobs.store import Store
from whichmin.storage import load_folder
from whichmin.studies.sweeping import run as runs

pytestmark = pytest.mark.slow

CHEAP = {
    "n_train": 6,
    "n_test": 3,
    "steps": 10,
    "optimizer": "sgd:lr=0.1",
    "dtype": "float64",
    "width": [8, 16],
    "seeds": 10,
}
CELLS = 20
KILLS = int(os.environ.get("WHICHMIN_KILLS", "2"))
#: A sweep that takes its time, also in its processes, which read the script again.
SWEEP = """
import json, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # what was begun in the background ignores it
import whichmin as wm
from whichmin.studies.sweeping import run

predict = run.predict

def slow(*arguments, **options):
    time.sleep(0.1)
    return predict(*arguments, **options)

run.predict = slow
if __name__ == "__main__":
    _, grid, store, workers = sys.argv
    wm.sweep(json.loads(grid), store=store, workers=int(workers))
"""


@pytest.fixture(scope="module", autouse=True)
def _as_elsewhere():
    """What all tests change, in this process alone, is as it is in sweeps of other processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RealTraining, "seconds_per_step", STEP)
        yield


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("script") / "sweeping.py"
    path.write_text(SWEEP)
    return path


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> dict[str, Any]:
    """Of data that are read in no time."""
    place, draw = tmp_path_factory.mktemp("data") / "points.npz", np.random.default_rng(0)
    X = draw.standard_normal((9, 5))
    y = np.sign(X[:, :1])
    np.savez(place, X=X[:6], y=y[:6], X_test=X[6:], y_test=y[6:])
    return CHEAP | {"data": str(place)}


@pytest.fixture(scope="module")
def peace(_as_elsewhere, grid, tmp_path_factory) -> str:
    """The table of a sweep that was left in peace."""
    return table(wm.sweep(grid, store=tmp_path_factory.mktemp("peace"), workers=0))


def table(swept) -> str:
    return swept.to_frame().to_csv(index=False)


@pytest.fixture(scope="module")
def begin(script, grid) -> Callable[..., subprocess.Popen[bytes]]:
    """Begin the sweep in a process of its own."""

    def call(folder: Path, workers: int) -> subprocess.Popen[bytes]:
        arguments = [json.dumps(grid), str(folder), str(workers)]
        return subprocess.Popen([sys.executable, str(script), *arguments], stderr=subprocess.PIPE)

    return call


def wait_for_runs(folder: Path, count: int, is_over: Callable[[], bool]) -> None:
    """Wait until there are so many runs, or it is over."""
    while begun(folder) < count and not is_over():
        time.sleep(0.01)


def whole(folder: Path) -> int:
    """How many runs there are; each can be read."""
    places = list((folder / "runs").glob("sweep-*"))
    for place in places:
        config, arrays, _ = load_folder(place, "sweep-predicted")
        assert "test" in arrays
        assert config["numbers"]["steps"] > 0
    return len(places)


def begun(folder: Path) -> int:
    runs = folder / "runs"
    return sum(name.startswith("sweep-") for name in os.listdir(runs)) if runs.exists() else 0


def sweep_in_forks(grid: dict[str, Any], folder: Path, workers: int, server: Any) -> None:
    """A sweep in a process of its own, whose processes are forks as well: to read torch anew takes seconds."""
    executors.multiprocessing = SimpleNamespace(get_context=lambda _: fork_from(server))
    wm.sweep(grid, store=folder, workers=workers)


def test_killed_at_random_moments_and_resumed(begin, grid, peace, tmp_path):
    """Moments in the work of one process or two; where that comes to its end between them, in that of a new sweep.

    The first time of a script, whose processes are begun as users' are.
    """
    draw, kills, store = random.Random(0), 0, 0
    while kills < KILLS:
        folder = tmp_path / str(store)
        folder.mkdir()
        store += 1
        while kills < KILLS and begun(folder) < CELLS:
            aim = begun(folder) + draw.randrange(CELLS // 2)
            if kills == 0:
                script = begin(folder, workers=1)
                is_over, end, kill = (lambda of=script: of.poll() is not None), script.communicate, script.kill
            else:
                fork = ready().Process(target=sweep_in_forks, args=(grid, folder, 1 + kills % 2, address()))
                fork.start()
                is_over, end, kill = (lambda of=fork: not of.is_alive()), fork.join, fork.kill
            wait_for_runs(folder, min(CELLS, aim), is_over)
            time.sleep(draw.uniform(0, 0.05))
            kill()
            end()
            kills += 1
            whole(folder)
        assert table(wm.sweep(grid, store=folder, workers=1 if store == 1 else 0)) == peace
        assert whole(folder) == CELLS
        assert list((folder / "locks").glob("sweep-*")) == []
        assert list((folder / "runs").glob(".*")) == []


def noting(note: Callable[[], object]) -> Callable[..., wm.Prediction]:
    """``predict`` that notes each call."""
    predict = runs.predict

    def noted(*arguments, **options):
        note()
        return predict(*arguments, **options)

    return noted


def sweep_noted(grid: dict[str, Any], folder: Path) -> None:
    """A sweep in a process of its own that notes what it computes, and takes its time over it."""

    def note():
        with (folder / "computed").open("a") as file:
            file.write(".")
        time.sleep(0.1)

    runs.predict = noting(note)
    (folder / "table.csv").write_text(table(wm.sweep(grid, store=folder, workers=0)))


def test_two_sweeps_in_one_store_do_nothing_twice(grid, peace, tmp_path, monkeypatch):
    other = ready().Process(target=sweep_noted, args=(grid, tmp_path))
    other.start()
    wait_for_runs(tmp_path, 1, lambda: not other.is_alive())
    computed = []
    monkeypatch.setattr(runs, "predict", noting(lambda: computed.append(1)))
    assert table(wm.sweep(grid, store=tmp_path, workers=0)) == peace
    other.join(300)
    assert other.exitcode == 0
    assert (tmp_path / "table.csv").read_text() == peace
    assert 0 < len(computed) < CELLS
    assert len((tmp_path / "computed").read_text()) + len(computed) == whole(tmp_path) == CELLS


def test_ctrl_c_in_a_sweep_of_processes(begin, grid, peace, tmp_path):
    process = begin(tmp_path, workers=1)
    wait_for_runs(tmp_path, 3, lambda: process.poll() is not None)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    done = whole(tmp_path)
    assert 3 <= done < CELLS
    time.sleep(0.5)
    assert begun(tmp_path) == done, "its processes have ended with it"
    assert table(wm.sweep(grid, store=tmp_path, workers=0)) == peace


def test_a_dask_cluster_of_which_a_worker_is_killed(grid, tmp_path):
    pytest.importorskip("distributed")
    from dask.config import set as configured

    ready()
    longer = grid | {"steps": 100}
    forks = configured({"distributed.worker.multiprocessing-method": "forkserver"})
    with forks, dask_executor("local", 2) as executor, ThreadPoolExecutor(1) as thread:
        pid = executor.submit(os.getpid).result()
        sweeping = thread.submit(wm.sweep, longer, store=tmp_path / "store", executor=executor)
        wait_for_runs(tmp_path / "store", 1, sweeping.done)
        assert not sweeping.done()
        os.kill(pid, signal.SIGKILL)
        swept = sweeping.result(timeout=300)
    assert swept.failures == ()
    assert table(swept) == table(wm.sweep(longer, store=tmp_path / "peace", workers=0))
    assert whole(tmp_path / "store") == CELLS


@pytest.mark.parametrize(("cluster", "seeds"), [("debug", 2), ("local", 1)])
def test_submitit(grid, tmp_path, cluster, seeds):
    submitit = pytest.importorskip("submitit")
    few = grid | {"width": 16, "seeds": seeds}
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster=cluster)
    executor.update_parameters(timeout_min=5)
    swept = wm.sweep(few, store=tmp_path / "store", executor=executor)
    assert swept.failures == ()
    assert table(swept) == table(wm.sweep(few, store=tmp_path / "again", workers=0))


def test_a_full_disk(grid, peace, tmp_path):
    """A small disk in memory, where the system lets one be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k,nr_inodes=4k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(wm.errors.OutputError, match="cannot write"):
            wm.sweep(grid, store=disk / "store", workers=0)
        done = whole(disk / "store")
        assert 0 < done < CELLS
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        assert table(wm.sweep(grid, store=disk / "store", workers=0)) == peace
        assert Store.existing(disk / "store").runs.exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import whichmin as wm
from whichmin.dynamics.paths.real import STEP, RealTraining
from whichmin.jobs.clusters import dask_executor
from whichmin.jobs.store import Store
from whichmin.storage import load_folder

pytestmark = pytest.mark.slow

GRID = {
    "n_train": 12,
    "n_test": 8,
    "until": 5e-2,
    "optimizer": ["sgd:lr=0.5", "sgd:lr=0.3"],
    "dtype": "float64",
    "width": [16, 32, 48],
    "scale": [0.8, 1.0],
    "seeds": 3,
}
CELLS = 36
KILLS = int(os.environ.get("WHICHMIN_KILLS", "3"))
SWEEP = """
import json, sys
import whichmin as wm
if __name__ == "__main__":
    swept = wm.sweep(json.loads(sys.argv[1]), store=sys.argv[2], workers=int(sys.argv[3]))
    swept.to_frame().to_csv(sys.argv[4], index=False)
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
def peace(_as_elsewhere, tmp_path_factory) -> str:
    """The table of a sweep that was left in peace."""
    return table(wm.sweep(GRID, store=tmp_path_factory.mktemp("peace"), workers=0))


def table(swept) -> str:
    return swept.to_frame().to_csv(index=False)


def begin(script: Path, folder: Path, workers: int = 2, name: str = "table.csv") -> subprocess.Popen[bytes]:
    arguments = [sys.executable, str(script), json.dumps(GRID), str(folder), str(workers), str(folder / name)]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE)


def whole(folder: Path) -> int:
    """How many runs there are; each can be read."""
    places = list((folder / "runs").glob("sweep-*"))
    for place in places:
        config, arrays, _ = load_folder(place, "sweep-predicted")
        assert "test" in arrays
        assert config["numbers"]["steps"] > 0
    return len(places)


def begun(folder: Path) -> int:
    return len(list((folder / "runs").glob("sweep-*")))


def test_killed_at_random_moments_and_resumed(script, peace, tmp_path):
    """Half of the moments are spread over the start, half over the work, at whatever it is at."""
    draw, kills, store = random.Random(0), 0, 0
    while kills < KILLS:
        folder = tmp_path / str(store)
        folder.mkdir()
        store += 1
        while kills < KILLS and (not (folder / "runs").exists() or begun(folder) < CELLS):
            process = begin(script, folder)
            before, aim = begun(folder) if (folder / "runs").exists() else 0, draw.randrange(1, 1 + CELLS // 2)
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if (folder / "runs").exists() and begun(folder) >= min(CELLS, before + aim):
                    break
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.05))
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
            kills += 1
            whole(folder)
        process = begin(script, folder)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert whole(folder) == CELLS
        assert (folder / "table.csv").read_text() == peace
        assert list((folder / "locks").glob("sweep-*")) == []
        assert list((folder / "runs").glob(".*")) == []


def test_two_sweeps_in_one_store_do_nothing_twice(script, peace, tmp_path):
    two = [begin(script, tmp_path, workers=1, name=f"{i}.csv") for i in range(2)]
    for process in two:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert whole(tmp_path) == CELLS
    assert [(tmp_path / f"{i}.csv").read_text() for i in range(2)] == [peace, peace]


def test_ctrl_c_in_a_sweep_of_processes(script, peace, tmp_path):
    process = begin(script, tmp_path)
    while not (tmp_path / "runs").exists() or begun(tmp_path) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    done = whole(tmp_path)
    assert 3 <= done < CELLS
    time.sleep(1.0)
    assert begun(tmp_path) == done, "its processes have ended with it"
    assert table(wm.sweep(GRID, store=tmp_path, workers=0)) == peace


def test_a_dask_cluster_of_which_a_worker_is_killed(peace, tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        pids = list(client.run(os.getpid).values())
        sweeping = thread.submit(wm.sweep, GRID, store=tmp_path, executor=client.get_executor())
        while not (tmp_path / "runs").exists() or begun(tmp_path) < 5:
            assert not sweeping.done()
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)
        swept = sweeping.result(timeout=300)
    assert swept.failures == ()
    assert table(swept) == peace
    assert whole(tmp_path) == CELLS


def test_dask_by_its_name(tmp_path):
    pytest.importorskip("distributed")
    with dask_executor("local", 1) as executor:
        swept = wm.sweep(GRID | {"width": 16, "seeds": 1, "scale": 1.0}, store=tmp_path, executor=executor)
    assert (len(swept.cells), swept.failures) == (2, ())


@pytest.mark.parametrize("cluster", ["debug", "local"])
def test_submitit(peace, tmp_path, cluster):
    submitit = pytest.importorskip("submitit")
    few = GRID | {"width": 16, "scale": 0.8, "seeds": 1}
    executor = submitit.AutoExecutor(tmp_path / "jobs", cluster=cluster)
    executor.update_parameters(timeout_min=5)
    swept = wm.sweep(few, store=tmp_path / "store", executor=executor)
    assert swept.failures == ()
    assert table(swept) == table(wm.sweep(few, store=tmp_path / "again", workers=0))


def test_a_full_disk(peace, tmp_path):
    """A small disk in memory, where the system lets one be made."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k,nr_inodes=4k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(wm.errors.OutputError, match="cannot write"):
            wm.sweep(GRID, store=disk / "store", workers=0)
        done = whole(disk / "store")
        assert 0 < done < CELLS
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        assert table(wm.sweep(GRID, store=disk / "store", workers=0)) == peace
        assert Store.existing(disk / "store").runs.exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)

"""Tiles made and multiplied by the workers of an executor, and workers that die."""

import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

import whichmin as wm
from oracles.processes import ready
from whichmin.errors import InputError, OutputError
from whichmin.kernels.tile_jobs import A_JOB, A_PRODUCT, multiply
from whichmin.kernels.tiles import KernelTiles

pytest.importorskip("zarr")
SGD = partial(torch.optim.SGD, lr=0.2)


class Here(Executor):
    """Runs jobs at once and keeps what they were."""

    def __init__(self):
        self.jobs = []

    def submit(self, function, /, *args, **kwargs):
        self.jobs.append((function, args))
        future = Future()
        future.set_result(function(*args, **kwargs))
        return future


@pytest.fixture
def setting(monkeypatch):
    """A network and a task with 48 outputs; tiles of 8 rows."""
    monkeypatch.setattr("whichmin.kernels.tiles.TILE", 8)
    g = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(24, 5, generator=g, dtype=torch.float64), torch.randn(4, 5, generator=g).double()
    y = torch.randn(24, 2, generator=g, dtype=torch.float64)
    return wm.networks.MLP((5, 64, 2), seed=0, activation="tanh").double(), wm.Task(X, y, X_test)


def predicted(setting, folder, executor, **given):
    model, task = setting
    asked = {"steps": 50, "relinearize": "never", "memory": 1, "tiles": folder}
    return wm.predict(model, task, SGD, executor=executor, **asked | given)


def test_an_executor_makes_the_same_tiles_and_products(setting, tmp_path):
    here, executor = predicted(setting, tmp_path / "here", None), Here()
    there = predicted(setting, tmp_path / "there", executor)
    assert torch.allclose(here.test, there.test, atol=1e-12, rtol=0)
    assert all(torch.allclose(here.terms[k], there.terms[k], atol=1e-6, rtol=0) for k in here.terms)
    made = [args for function, args in executor.jobs if function.__name__ == "_make"]
    columns = [(rows.start, [part.start for part in parts]) for _, _, rows, parts in made]
    assert all(len(starts) <= A_JOB for _, starts in columns)
    assert sorted((i, j) for i, starts in columns for j in starts) == [
        (8 * i, 8 * j) for i in range(6) for j in range(i + 1)
    ]
    a = [f.read_bytes() for f in sorted((tmp_path / "here" / "tiles" / "c").rglob("*")) if f.is_file()]
    b = [f.read_bytes() for f in sorted((tmp_path / "there" / "tiles" / "c").rglob("*")) if f.is_file()]
    assert a == b
    assert len(a) == 21


def test_a_job_is_sent_no_more_inputs_than_it_needs(setting, tmp_path):
    executor = Here()
    predicted(setting, tmp_path, executor)
    for function, args in executor.jobs:
        if function.__name__ == "_make":
            assert all(len(part.X) == 4 for part in (args[2], *args[3]))
            assert all(part.X.untyped_storage().nbytes() == 4 * 5 * 8 for part in (args[2], *args[3]))
            assert args[0].model is not setting[0]


def test_products_are_split(tmp_path, monkeypatch):
    monkeypatch.setattr("whichmin.kernels.tiles.TILE", 8)
    rng = np.random.default_rng(0)
    K = rng.standard_normal((60, 60))
    K = K + K.T
    tiles, executor = KernelTiles.open(tmp_path, 60, 1, torch.float64, "this"), Here()
    for i, j in tiles.missing():
        tiles.write(i, j, torch.from_numpy(K[i : i + 8, j : j + 8]))
    v = rng.standard_normal((60, 2))
    assert np.abs(multiply(tiles, v, executor) - K @ v).max() < 1e-12
    assert len(executor.jobs) == -(-36 // A_PRODUCT)


def test_an_executor_needs_a_folder(setting):
    model, task = setting
    with pytest.raises(InputError, match="pass tiles=FOLDER with it"):
        wm.predict(model, task, SGD, steps=5, relinearize="never", executor=Here())


@pytest.mark.parametrize("taken", [0, 10**6], ids=["tiles", "products"])
def test_an_executor_that_takes_no_jobs_any_more(setting, tmp_path, taken):
    class Broken(Here):
        def submit(self, function, /, *args, **kwargs):
            if len(self.jobs) >= taken or function.__name__ == "multiply":
                raise BrokenExecutor("it is over")
            return super().submit(function, *args, **kwargs)

    with pytest.raises(OutputError, match=r"a worker of the executor died: it is over\. .*are kept: call again"):
        predicted(setting, tmp_path, Broken())


@pytest.mark.slow
def test_processes_and_one_that_dies(setting, tmp_path):
    with ProcessPoolExecutor(2, mp_context=ready()) as pool:
        there = predicted(setting, tmp_path / "there", pool)
        here = predicted(setting, tmp_path / "here", None)
        assert torch.allclose(here.test, there.test, atol=1e-12, rtol=0)
        os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(OutputError, match=r"a worker of the executor died.*are kept: call again"):
            predicted(setting, tmp_path / "other", pool)


@pytest.mark.slow
def test_dask_goes_on_when_a_worker_is_killed(setting, tmp_path):
    distributed = pytest.importorskip("distributed")
    from dask.config import set as configured

    here = predicted(setting, tmp_path / "here", None)
    ready()
    with configured({"distributed.worker.multiprocessing-method": "forkserver"}):
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
        with cluster, distributed.Client(cluster) as client:
            pid = next(iter(client.run(os.getpid).values()))

            def kill():
                while len(list((tmp_path / "there").rglob("tiles/c/*/*"))) < 3:
                    time.sleep(0.005)
                os.kill(pid, signal.SIGKILL)

            killer = threading.Thread(target=kill)
            killer.start()
            there = predicted(setting, tmp_path / "there", client.get_executor())
            killer.join()
            late = time.monotonic() + 30.0
            while pid in client.run(os.getpid).values():  # the scheduler learns of it a little later
                assert time.monotonic() < late
                time.sleep(0.05)
    assert torch.allclose(here.test, there.test, atol=1e-12, rtol=0)

"""What a sweep costs beside its predictions, on processes of this machine and on a Dask cluster of as many.

    python benchmarks/sweep.py [--runs 200] [--only overhead processes dask]

The runs are initializations of the command line's default problem, on two workers of one thread each. ``overhead``
stores the answer of one prediction for every run instead of computing it, in this process: what is left is plan, locks,
files and table. Wall-clock seconds are told with the workers' start (``cold``) and without it (``warm``).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from unittest.mock import patch

from _environment import store

import whichmin as wm
from whichmin.jobs.clusters import dask_executor
from whichmin.jobs.executors import Processes
from whichmin.studies.sweep import Plan, read_grids
from whichmin.studies.sweeping.run import Run

WORKERS = 2


def overhead(runs: int) -> dict[str, float]:
    """Of a run that is planned, locked, stored and read into the table, but not computed."""
    grid = {"seeds": runs}
    answer = Plan.of(read_grids({"seeds": 1}, None)).runs[0].compute()
    with tempfile.TemporaryDirectory() as folder, patch.object(Run, "compute", lambda _: answer):
        begun, worked = time.perf_counter(), time.process_time()
        wm.sweep(grid, store=folder, workers=0).to_frame()
        seconds, worked = time.perf_counter() - begun, time.process_time() - worked
    return {"milliseconds a run": 1e3 * seconds / runs, "of a core": 1e3 * worked / runs}


def swept(runs: int, workers: AbstractContextManager[Executor]) -> dict[str, float]:
    """Seconds of a sweep, and of the predictions in it, by their own clocks."""
    begun = time.perf_counter()
    with workers as executor, tempfile.TemporaryDirectory() as folder:
        wm.sweep({"seeds": 2 * WORKERS}, store=f"{folder}/first", executor=executor)
        warm = time.perf_counter()
        found = wm.sweep({"seeds": runs}, store=f"{folder}/all", executor=executor)
        ended = time.perf_counter()
    return {"cold": ended - begun, "warm": ended - warm, "predicting, both workers": found.seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--only", nargs="+", default=["overhead", "processes", "dask"])
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    for name in options.only:
        if name == "overhead":
            rows[name] = overhead(options.runs)
        else:
            workers = Processes(WORKERS) if name == "processes" else dask_executor("local", WORKERS)
            rows[name] = swept(options.runs, workers)
        print(name, {key: f"{value:.3g}" for key, value in rows[name].items()}, flush=True)
    print(store("sweep", rows, vars(options)))


if __name__ == "__main__":
    main()

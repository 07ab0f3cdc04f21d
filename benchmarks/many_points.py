"""Many training points: time and memory of predictions beside training. Needs WHICHMIN_DATA.

    python benchmarks/many_points.py [--only path lazy ten cnn disk dask peer] [--sizes N …] [--share .5] [--threads 2]

path   MNIST, even digits against odd ones, 784-1024-1, gradient descent: a path at N = 500, 1,000, 2,000 and 9,000, and
       the power of N that its time grows by
lazy   the same at N = 9,000: one linearization with its terms
ten    ten outputs, N = 2,000, n = N·C = 20,000: one linearization with its terms
cnn    a convolutional network of 3 × 64 channels on the same images, N = 1,000: a path
disk   ten outputs, N = 5,000, n = 50,000: one linearization from tiles on disk, in a folder of --tiles, by a process
       that is killed three times on the way, after a quarter, a half and three quarters of the tiles
dask   ten outputs, N = 2,000: the tiles alone, by one and by two local Dask workers of one thread
peer   neural-tangents' batched kernel and its prediction, by --peer-jax or WHICHMIN_PEER_JAX (benchmarks/README.md says
       how to make it), at N = 500, 1,000, 2,000, 5,000 and 9,000, beside whichmin's: gradient flow, 784-1024-1

``share`` is the learning rate over the limit of stability 2/(γλ_max), 1 the best rate 2/(γ(λ_max + λ_min)); beyond .8
or so paths come to the edge of stability. Each row runs in processes of its own and tells the largest memory of the one
that predicts. ``training`` is the time of the steps, of which ``--timed`` are made; ``part`` is the prediction's time
over it; what torch imports at the first step of all is in neither. A row is stored as soon as it is there and takes the
place of one of the same name and N in the file; a process that fails or is killed leaves a row that says so.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _environment import RESULTS, store
from torch import nn

import whichmin as wm
from whichmin.jobs.clusters import dask_executor
from whichmin.kernels import tiles as kernel_tiles
from whichmin.kernels.tile_jobs import TileMaker, fill
from whichmin.tangent.route import Route

Row = dict[str, Any]
TEN = tuple(range(10))
SIZES = {
    "path": (500, 1000, 2000, 9000), "lazy": (9000,), "ten": (2000,), "cnn": (1000,), "disk": (5000,), "dask": (2000,),
    "peer": (500, 1000, 2000, 5000, 9000),
}  # fmt: skip
#: Products with the kernel that its largest eigenvalue is taken from, which stands far above the next on these images.
POWERS = 8
#: The parts of the tiles after which the process is killed.
KILLED_AT = (0.25, 0.5, 0.75)
#: neural-tangents computes blocks of so many rows at a time, which must divide the numbers of rows.
NT_BATCH = 100
PEER = Path(__file__).resolve().parent / "peers" / "many_points_nt.py"


def task_of(case: str, n: int) -> wm.Task:
    """Images of all digits, their classes one-hot or even against odd."""
    drawn = wm.data.load("mnist", classes=TEN, n_train=n, n_test=200)
    if case in ("ten", "disk", "dask"):
        return drawn
    even = lambda y: (y.argmax(1, keepdim=True) % 2 == 0).float() * 2 - 1  # noqa: E731
    assert drawn.X_test is not None
    assert drawn.y_test is not None
    X, X_test = (x[:].reshape(-1, 1, 28, 28)[:, :, ::2, ::2] if case == "cnn" else x for x in (drawn.X, drawn.X_test))
    return wm.Task(X, even(drawn.y), X_test, even(drawn.y_test))


def begun(case: str, n: int, options: argparse.Namespace) -> tuple[nn.Module, wm.Task, Callable[..., Any]]:
    """Network, task and optimizer of a row, with the threads that it may use."""
    torch.set_num_threads(options.threads)
    kernel_tiles.TILE = options.tile
    task = task_of(case, n)
    if case == "cnn":
        model: nn.Module = wm.networks.CNN((1, 64, 64, 64), outputs=task.outputs, seed=0)
    else:
        model = wm.networks.MLP((784, 1024, task.outputs), seed=0)
    lr = "best" if options.share == 1 else options.share * 2.0 / (task.objective.gamma * largest(model, task.X))
    return model, task, partial(torch.optim.SGD, lr=lr)


def largest(model: nn.Module, X: torch.Tensor) -> float:
    """λ_max of the kernel on all rows, by power iteration."""
    tangent = wm.Tangent(model)
    v, value = tangent.f0(X).fill_(1.0), 0.0
    for _ in range(POWERS):
        v = tangent.jvp(X, tangent.vjp(X, v / v.norm()))
        value = float(v.norm())
    return value


def training(case: str, n: int, options: argparse.Namespace) -> float:
    """Seconds of all steps of training."""
    model, task, optimizer = begun(case, n, options)
    wm.train(model, task, optimizer, until=None, steps=2)
    return wm.train(model, task, optimizer, until=None, steps=options.timed).seconds / options.timed * options.steps


def predicted(case: str, n: int, options: argparse.Namespace) -> Row:
    """Seconds of a prediction, and what it says."""
    wm.train(*begun(case, 20, options), until=None, steps=1)
    model, task, optimizer = begun(case, n, options)
    way: dict[str, Any] = {"relinearize": "path" if case in ("path", "cnn") else "never"}
    if case == "disk":
        way |= {"memory": options.memory, "tiles": options.tiles, "progress": True}
    start = time.perf_counter()
    found = wm.predict(model, task, optimizer, steps=options.steps, **way)
    row: Row = {"seconds": time.perf_counter() - start, "outputs": task.outputs, "intervals": found.intervals}
    row |= {"error": found.error, "notes": found.notes}
    return row | {"GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def _answer(pipe: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    pipe.send(function(*args))


class Apart:
    """A call in a process of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe(duplex=False)
        self.process = context.Process(target=_answer, args=(there, function, args))
        self.process.start()
        there.close()

    def result(self) -> Any:
        """What it returns.

        Raises:
            ChildProcessError: it failed or was killed.
        """
        try:
            found = self._pipe.recv()
        except EOFError:
            self.process.join()
            raise ChildProcessError(f"ended with exit code {self.process.exitcode}") from None
        self.process.join()
        return found


def beside_training(case: str, n: int, options: argparse.Namespace) -> Row:
    """A prediction and the training that it stands for, one after the other."""
    trained = Apart(training, case, n, options).result()
    row = killed_and_resumed(n, options) if case == "disk" else Apart(predicted, case, n, options).result()
    return {"n": n * row["outputs"], "training": trained, "part": row["seconds"] / trained} | row


def killed_and_resumed(n: int, options: argparse.Namespace) -> Row:
    """The prediction from tiles by a process that is killed and begun again; ``seconds`` are of all of them."""
    shutil.rmtree(options.tiles, ignore_errors=True)
    side = math.ceil(n * len(TEN) / (min(options.tile, n * len(TEN)) // len(TEN) * len(TEN)))
    start, killed = time.perf_counter(), []
    for part in KILLED_AT:
        run = Apart(predicted, "disk", n, options)
        while run.process.is_alive() and _tiles_in(options.tiles) < part * side * (side + 1) / 2:
            time.sleep(0.01)
        run.process.kill()
        run.process.join()
        killed.append(_tiles_in(options.tiles))
    row = Apart(predicted, "disk", n, options).result()
    return row | {"seconds": time.perf_counter() - start, "last": row["seconds"], "killed after tiles": killed}


def _tiles_in(folder: Path) -> int:
    return sum(1 for f in (folder / "tiles" / "c").glob("*/*") if f.is_file())


def by_dask(case: str, n: int, options: argparse.Namespace) -> Row:
    """Seconds of the tiles by one worker and by two."""
    model, task, _ = begun(case, n, options)
    seconds = {workers: _filled(model, task, workers) for workers in (1, 2)}
    return {"n": n * task.outputs, "seconds": seconds[2], "one worker": seconds[1], "faster": seconds[1] / seconds[2]}


def _filled(model: nn.Module, task: wm.Task, workers: int) -> float:
    with dask_executor("local", workers) as executor, tempfile.TemporaryDirectory() as folder:
        for rows, name in ((task.n // 20, "warm"), (task.n, "all")):  # the workers import torch before they are timed
            X = task.X[:rows]
            tiles = kernel_tiles.KernelTiles.open(
                f"{folder}/{name}", len(X) * task.outputs, task.outputs, X.dtype, name
            )
            start = time.perf_counter()
            fill(tiles, TileMaker(model, Route()), X, task.outputs, executor, progress=False)
            seconds = time.perf_counter() - start
    return seconds


def beside_peer(case: str, n: int, options: argparse.Namespace) -> Row:
    """neural-tangents' kernel and prediction, and whichmin's of the same network and time of gradient flow."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Apart(_of_flow, case, n, options, folder).result()
        threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        batch = math.gcd(math.gcd(n, ours.pop("tests")), NT_BATCH)
        run = [options.peer_jax, str(PEER), folder, str(options.steps), str(batch)]
        done = subprocess.run(run, stdout=subprocess.PIPE, text=True, env=os.environ | threads)
        if done.returncode:
            raise ChildProcessError(f"neural-tangents ended with exit code {done.returncode}")
        found = json.loads(done.stdout.splitlines()[-1])
        a, b = np.load(f"{folder}/ours.npy"), np.load(f"{folder}/theirs.npy")
    return {"n": n, **found, **ours, "difference": float(np.sqrt(np.mean((a - b) ** 2) / np.mean(a**2)))}


def _of_flow(case: str, n: int, options: argparse.Namespace, folder: str) -> Row:
    model, task, optimizer = begun(case, n, options)
    layers = list(model.layers)
    arrays = {f"w{i}": layer.weight.detach().numpy() for i, layer in enumerate(layers)}
    arrays |= {"factors": np.array([layer.before * layer.after for layer in layers], np.float32)}
    arrays |= {"X": task.X.numpy(), "y": task.y.numpy(), "X_test": task.X_test.numpy()}
    np.savez(f"{folder}/problem.npz", lr=optimizer.keywords["lr"], **arrays)
    start = time.perf_counter()
    found = wm.predict(model, task, optimizer, steps=options.steps, flow=True, relinearize="never")
    seconds = time.perf_counter() - start
    np.save(f"{folder}/ours.npy", found.test.numpy())
    return {"whichmin": seconds, "whichmin, GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "tests": len(task.X_test)}  # fmt: skip


def growth(rows: list[Row], alike: Row) -> Row | None:
    """The power of N that the time of paths grows by, fitted to rows that were made alike; None for fewer than two."""
    paths = [r for r in rows if r["case"] == "path" and "seconds" in r and alike.items() <= r.items()]
    if len(paths) < 2:
        return None
    N, seconds = ([r[name] for r in paths] for name in ("N", "seconds"))
    return {"case": "growth", "sizes": sorted(N), "power": float(np.polyfit(np.log(N), np.log(seconds), 1)[0])} | alike


def stored(options: argparse.Namespace) -> list[Row]:
    """The rows that are in the file."""
    return json.loads(options.out.read_text())["results"] if options.out.exists() else []


def keep(row: Row, options: argparse.Namespace) -> None:
    """Store a row, in place of one of the same name and N."""
    same = lambda r: (r["case"], r.get("N")) == (row["case"], row.get("N"))  # noqa: E731
    rows = [r for r in stored(options) if not same(r)] + [row]
    told = {k: str(v) for k, v in vars(options).items() if k not in ("out", "tiles", "peer_jax", "only", "sizes")}
    store("many_points", rows, told, options.out)
    print(", ".join(f"{k}: {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--sizes", nargs="+", type=int, help="N of the rows, in place of their own")
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="5 GiB")
    parser.add_argument("--tiles", type=Path, default=Path("tiles"), help="a folder for disk; what is there is removed")
    parser.add_argument("--tile", type=int, default=kernel_tiles.TILE, help="rows of a tile")
    parser.add_argument("--peer-jax", default=os.environ.get("WHICHMIN_PEER_JAX"), help="a Python with neural-tangents")
    parser.add_argument("--out", type=Path, default=RESULTS / "many_points.json")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # inherited by the processes
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: max(2, options.threads)])
    alike = {"steps": options.steps, "share": options.share, "threads": options.threads}
    for case in options.only:
        if case == "peer" and not options.peer_jax:
            print("peer: no Python with neural-tangents, left out", file=sys.stderr)
            continue
        for n in options.sizes or SIZES[case]:
            told = {"case": case, "N": n} | alike | {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0]}
            try:
                if case == "peer":
                    row = beside_peer(case, n, options)
                elif case == "dask":
                    row = Apart(by_dask, case, n, options).result()
                else:
                    row = beside_training(case, n, options)
            except ChildProcessError as error:
                row = {"failed": str(error)}
            keep(told | row, options)
            if case == "path" and (fitted := growth(stored(options), alike)) is not None:
                keep(fitted, options)


if __name__ == "__main__":
    main()

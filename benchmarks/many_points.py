"""Many training points: time and memory of predictions beside training. Needs WHICHMIN_DATA.

    python benchmarks/many_points.py [--only path lazy ten cnn disk] [--share 1.0] [--threads 2] [--steps 1000]

path   MNIST, even digits against odd ones, 784-1024-1, gradient descent: a path at N = 500, 1,000 and 2,000
lazy   the same at N = 9,000: one linearization with its terms
ten    ten outputs, N = 2,000, n = N·C = 20,000: one linearization with its terms
cnn    a convolutional network of 3 × 64 channels on the same images, N = 1,000: a path
disk   ten outputs, N = 5,000, n = 50,000: one linearization from tiles on disk, in a folder of --tiles

``share`` is the learning rate over the best one, 2/(γ(λ_max + λ_min)); beyond .8 or so paths come to the edge of
stability. Each row runs in a process of its own, whose largest memory it tells. ``training`` is the time of the steps,
of which ``--timed`` are made; ``part`` is the prediction's time over it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _environment import store

import whichmin as wm

Row = dict[str, Any]
TEN = tuple(range(10))


def task_of(n: int, ten: bool, image: bool) -> wm.Task:
    """Images of all digits, their classes one-hot or even against odd."""
    drawn = wm.data.load("mnist", classes=TEN, n_train=n, n_test=200)
    if ten:
        return drawn
    even = lambda y: (y.argmax(1, keepdim=True) % 2 == 0).float() * 2 - 1  # noqa: E731
    assert drawn.X_test is not None
    assert drawn.y_test is not None
    X, X_test = (x[:].reshape(-1, 1, 28, 28)[:, :, ::2, ::2] if image else x for x in (drawn.X, drawn.X_test))
    return wm.Task(X, even(drawn.y), X_test, even(drawn.y_test))


def measured(case: str, n: int, options: argparse.Namespace) -> Row:
    torch.set_num_threads(options.threads)
    ten = case in ("ten", "disk")
    task = task_of(n, ten, case == "cnn")
    if case == "cnn":
        model: torch.nn.Module = wm.networks.CNN((1, 64, 64, 64), outputs=task.outputs, seed=0)
    else:
        model = wm.networks.MLP((784, 1024, task.outputs), seed=0)
    few = wm.tangent_kernel(model, task.X[:300])
    largest = float(wm.spectrum(few).eigenvalues[0]) * n / 300
    rate = partial(torch.optim.SGD, lr=options.share * 2.0 / (task.objective.gamma * largest))
    wm.train(model, task, rate, until=None, steps=2)
    training = wm.train(model, task, rate, until=None, steps=options.timed).seconds / options.timed * options.steps
    way: dict[str, Any] = {"relinearize": "path" if case in ("path", "cnn") else "never"}
    if case == "disk":
        way |= {"memory": options.memory, "tiles": options.tiles, "progress": True}
    began = time.perf_counter()
    found = wm.predict(model, task, rate, steps=options.steps, **way)
    seconds = time.perf_counter() - began
    row: Row = {"case": case, "N": n, "n": n * task.outputs, "training": training, "seconds": seconds}
    row |= {"part": seconds / training, "intervals": found.intervals, "error": found.error, "notes": found.notes}
    return row | {"GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["path", "lazy", "ten", "cnn", "disk"])
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", default="5 GiB")
    parser.add_argument("--tiles", type=Path, default=Path("tiles"))
    options = parser.parse_args()
    print("| case | N | n | training, s | prediction, s | part | intervals | error | GiB |\n" + "|---" * 9 + "|")
    rows = []
    sizes = {"path": (500, 1000, 2000), "lazy": (9000,), "ten": (2000,), "cnn": (1000,), "disk": (5000,)}
    for case in options.only:
        for n in sizes[case]:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                row = pool.apply(measured, (case, n, options))
            rows.append(row)
            cells = [row["case"], f"{row['N']:,}", f"{row['n']:,}", f"{row['training']:.0f}", f"{row['seconds']:.1f}"]
            cells += [f"{row['part']:.2f}", row["intervals"], f"{row['error']:.2g}", f"{row['GiB']:.1f}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    store("many_points", rows, {k: str(v) for k, v in vars(options).items()})


if __name__ == "__main__":
    main()

"""Predictions of short trainings of many outputs, beside a plain loop of torch. Needs WHICHMIN_DATA.

    python benchmarks/short_training.py [--points 300] [--steps 100] [--only NAME …] [--repeats 3] [--threads 1]

MNIST, all ten classes: with hundreds of points a kernel, its decomposition and the terms take longer than a hundred
steps do, and a prediction should not take longer than training. ``ratio`` is the prediction's time over the loop's,
``allowed`` whether it takes 1.5 times the loop's and half a second at most; each is the least of the repeats, in turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _environment import store
from cross_entropy import plain_seconds
from torch import nn

import whichmin as wm

O = torch.optim  # noqa: E741
CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
Row = dict[str, Any]


def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 10))


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    first = [nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 10)]
    return nn.Sequential(*first, *second)


SGD, ADAM = partial(O.SGD, lr=0.05), partial(O.Adam, lr=1e-3)
CASES: dict[str, tuple[Callable[[], nn.Module], nn.Module, Any, int | None]] = {
    "dense, Adam": (dense, CE, ADAM, None),
    "dense, gradient descent": (dense, CE, SGD, None),
    "dense, mean square error": (dense, MSE, partial(O.SGD, lr=0.2), None),
    "dense, SGD in batches of 32": (dense, CE, SGD, 32),
    "dense, Adam in batches of 32": (dense, CE, ADAM, 32),
    "convolutions, Adam": (convolutional, CE, ADAM, None),
    "convolutions, SGD in batches of 50": (convolutional, CE, SGD, 50),
}


def measured(name: str, points: int, steps: int, repeats: int) -> Row:
    make, loss, optimizer, size = CASES[name]
    model = make()
    task = wm.data.load("mnist", classes=range(10), n_train=points, n_test=200, loss=loss)
    recipe = wm.Recipe(optimizer, batch_size=size)
    small = wm.Task(task.X[:20], task.y[:20], task.X_test[:5], loss=loss)
    wm.predict(model, small, recipe, steps=2)  # loads what is loaded late
    loop, prediction = [], []
    for _ in range(repeats):
        loop.append(plain_seconds(model, task, recipe, steps, None))
        started = time.perf_counter()
        found = wm.predict(model, task, recipe, steps=steps)
        prediction.append(time.perf_counter() - started)
    run = wm.train(model, task, recipe, steps=steps, until=None, progress=False)
    assert run.test is not None
    assert found.test is not None
    plain, seconds = min(loop), min(prediction)
    row = {"network": name, "points": points, "steps": steps, "loop s": plain, "predict s": seconds}
    row |= {"ratio": seconds / plain, "allowed": seconds <= 1.5 * plain + 0.5, "way": found.method}
    spread = float(run.test.std())
    return row | {
        "distance": float((found.test - run.test).square().mean().sqrt()) / spread,
        "estimate": found.error / spread,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    print(f"{'network':36s}{'loop':>8s}{'predict':>9s}{'ratio':>7s}  way           distance  estimate")
    for name in options.only:
        rows.append(row := measured(name, options.points, options.steps, options.repeats))
        mark = "  " if row["allowed"] else " !"
        print(
            f"{name:36s}{row['loop s']:6.2f} s{row['predict s']:7.2f} s{row['ratio']:7.2f}{mark}{row['way']:14s}"
            f"{row['distance']:8.1e}  {row['estimate']:8.1e}",
            flush=True,
        )
    print(store("short_training", rows, vars(options)))


if __name__ == "__main__":
    main()

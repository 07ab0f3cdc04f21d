"""Predicted against trained minimizers: how far, and how much faster.

Each problem is trained for real and predicted twice, from one linearization and along the path, in one run. Distances
are mean squares over test points. Images are scaled to a mean square of one, so that α = 1 starts with outputs of size
one. Needs WHICHMIN_DATA. Usage: python benchmarks/minimizers.py [--rate 0.4]
"""

from __future__ import annotations

import argparse
import os
from functools import partial

import torch
from _environment import store

import whichmin as wm

#: name, data set, classes, N, hidden widths, α, training MSE to reach
PROBLEMS = [
    ("MNIST 0/1, 4096, α = 1", "mnist", (0, 1), 100, (4096,), 1.0, 1e-5),
    ("MNIST 0/1, 4096, α = 2", "mnist", (0, 1), 100, (4096,), 2.0, 1e-5),
    ("MNIST 0/1, 4096, α = 4", "mnist", (0, 1), 100, (4096,), 4.0, 1e-5),
    ("MNIST 0/1, 1024-1024, α = 1", "mnist", (0, 1), 100, (1024, 1024), 1.0, 1e-5),
    ("Fashion-MNIST 0/1, 2048, α = 0.7", "fashion-mnist", (0, 1), 60, (2048,), 0.7, 1e-4),
    ("MNIST 3/8, 600-600, α = 1", "mnist", (3, 8), 100, (600, 600), 1.0, 1e-4),
]


def of_size_one(task: wm.Task) -> wm.Task:
    X, X_test = (x / x.square().mean(1, keepdim=True).sqrt() for x in (task.X, task.X_test))
    return wm.Task(X, task.y, X_test, task.y_test)


def mean_square(x: torch.Tensor) -> float:
    return float(x.double().square().mean())


def measure(name: str, data: str, classes: tuple[int, int], n: int, hidden: tuple[int, ...], scale: float, until: float,
            rate: float, seed: int) -> dict[str, object]:  # fmt: skip
    task = of_size_one(wm.data.load(data, classes=classes, n_train=n, n_test=100, seed=seed))
    model = wm.networks.MLP([784, *hidden, 1], scale=scale, seed=seed)
    lr = rate * wm.spectrum(wm.tangent_kernel(model, task.X)).best_lr
    sgd = partial(torch.optim.SGD, lr=lr)
    linearized = min((wm.predict(model, task, sgd, until=until, relinearize="never") for _ in range(3)), key=_seconds)
    relinearized = min((wm.predict(model, task, sgd, until=until) for _ in range(3)), key=_seconds)
    run = wm.train(model, task, sgd, until=until)
    far = mean_square(linearized.test - run.test)
    near = mean_square(relinearized.test - run.test)
    return {
        "problem": name,
        "steps": run.steps,
        "train s": run.seconds,
        "one s": linearized.seconds,
        "one d²": far,
        "of init. term %": 100 * far / mean_square(linearized.terms["initialization"]),
        "relinearized s": relinearized.seconds,
        "linearizations": relinearized.intervals,
        "relinearized d²": near,
        "estimate²": relinearized.error**2,
        "closer ×": far / near,
        "faster ×": run.seconds / relinearized.seconds,
    }


def _seconds(prediction: wm.Prediction) -> float:
    return prediction.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=0.4, help="learning rate in units of the best rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if "WHICHMIN_DATA" not in os.environ:
        raise SystemExit("set WHICHMIN_DATA to the folder that holds mnist and fashion-mnist")
    torch.set_num_threads(options.threads)
    rows = []
    for problem in PROBLEMS:
        rows.append(measure(*problem, rate=options.rate, seed=options.seed))
        print({k: (f"{v:.3g}" if isinstance(v, float) else v) for k, v in rows[-1].items()}, flush=True)
    store("minimizers", rows, vars(options))


if __name__ == "__main__":
    main()

"""The spread over initializations without training, against networks that are really trained.

    python benchmarks/seeds.py [--trained 30] [--threads 2]

Per problem: 100 predicted seeds, and other seeds that are trained. A test point agrees where the trained share of
labels that differ from the predicted majority is within the binomial error of the predicted share, |k/m − p| ≤ 1.96
√(q(1 − q)(1/m + 1/100)), q the two together. The same seeds are trained as well, and their labels compared one by one.
The first row is the default problem of the command line.
"""

from __future__ import annotations

import argparse
import math
import time
from functools import partial
from typing import Any

import torch
from _environment import store

import whichmin as wm
from whichmin.studies.seeds import decide

ADAM = partial(torch.optim.Adam, lr=1e-3)
DESCENT = partial(torch.optim.SGD, lr="best")
PROBLEMS: list[dict[str, Any]] = [
    {"classes": (0, 1), "n": 100, "hidden": 512, "scale": 1.0, "optimizer": DESCENT},
    {"classes": (3, 8), "n": 20, "hidden": 512, "scale": 1.5, "optimizer": DESCENT},
    {"classes": (4, 9), "n": 20, "hidden": 256, "scale": 2.0, "optimizer": ADAM},
    {"classes": (2, 7), "n": 30, "hidden": 128, "scale": 2.0, "optimizer": DESCENT},
]
SEEDS = 100


def within(k: torch.Tensor, m: int, p: torch.Tensor) -> torch.Tensor:
    q = (k + SEEDS * p) / (m + SEEDS)
    return (k / m - p).abs() <= 1.96 * (q * (1 - q) * (1 / m + 1 / SEEDS)).sqrt() + 1e-12


def measure(of: dict[str, Any], m: int) -> dict[str, Any]:
    task = wm.data.load("digits", classes=of["classes"], n_train=of["n"], n_test=100, seed=0)

    def network(seed: int) -> torch.nn.Module:
        return wm.networks.MLP([task.X.shape[1], of["hidden"], 1], scale=of["scale"], seed=seed)

    found = wm.seeds(network, task, of["optimizer"], SEEDS, until=1e-3)
    begun, labels = time.perf_counter(), []
    for seed in (*range(SEEDS, SEEDS + m), *range(m)):
        run = wm.train(network(seed), task, of["optimizer"], until=1e-3)
        assert run.test is not None
        labels.append(torch.from_numpy(decide(task, run.test[None])[0]))
    trained = (time.perf_counter() - begun) / (2 * m)
    others, same = torch.stack(labels[:m]), torch.stack(labels[m:])
    flips = (others != found.majority).double().sum(0)
    agrees = within(flips, m, found.flip_probability)
    unsettled = found.flip_probability > 0
    row = {"problem": "/".join(map(str, of["classes"])), "N": of["n"], "width": of["hidden"], "α": of["scale"]}
    row |= {"optimizer": of["optimizer"].func.__name__, "seconds for 100 seeds": found.seconds}
    row |= {"times faster a seed": trained / (found.seconds / SEEDS), "points that flip": int(unsettled.sum())}
    row |= {"mean flip probability": float(found.flip_probability.mean()), "trained": float((flips / m).mean())}
    row |= {"points within binomial error": float(agrees.double().mean())}
    share = float(agrees[unsettled].double().mean()) if bool(unsettled.any()) else math.nan
    row |= {
        "of those that flip": share,
        "labels of the same seeds alike": float((same == found.labels[:m]).double().mean()),
    }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trained", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for of in PROBLEMS:
        rows.append(measure(of, options.trained))
        print({k: (f"{v:.3g}" if isinstance(v, float) else v) for k, v in rows[-1].items()}, flush=True)
    print(store("seeds", rows, vars(options)))


if __name__ == "__main__":
    main()

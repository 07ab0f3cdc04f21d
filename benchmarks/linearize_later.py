"""One linearization made later: how its error falls with the step T₀ at which it is made. Needs WHICHMIN_DATA.

    python benchmarks/linearize_later.py [--parts steps pairs] [--threads 2]

steps     Fashion-MNIST 0/1, one hidden layer of 2048, α = .7: the miss of one linearization at T₀ in parts of the
          optimizer's effect, and from which T₀ on it is below a tenth
pairs     two runs that differ up to T₀ and are trained alike afterwards: how far apart they end, as their checkpoints
          predict it by one linearization each, and as they are trained

Distances are mean squares over test points; images are scaled to a mean square of one. An optimizer's effect is the
distance of its trained network to that of the nearest other one of the three.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from typing import Any

import torch
from _environment import store

import whichmin as wm
from minimizers import mean_square
from optimizers import Row, descent, problem, show

O = torch.optim  # noqa: E741
UNTIL = 1e-4
#: How many checkpoints are kept of a run, at most.
KEPT = 20
#: The part of the optimizer's effect that one linearization is to miss by.
WANTED = 0.1
#: The steps up to which the two runs of a pair differ: some at which one linearization misses little of what follows.
PAIRED = {"descent": (1024, 4096), "orders": (384, 768), "halved": (512, 1024)}


def fashion() -> tuple[wm.Task, torch.nn.Module, dict[str, Any]]:
    task, model = problem("fashion-mnist", (0, 1), 60, (2048,), 0.7)
    optimizers = {
        "gradient descent": descent(model, task),
        "AdaGrad": partial(O.Adagrad, lr=5e-3),
        "Adam": partial(O.Adam, lr=1e-3),
    }
    return task, model, optimizers


def steps() -> list[Row]:
    task, model, optimizers = fashion()
    runs = {
        name: wm.train(model, task, optimizer, until=UNTIL, steps=30_000, checkpoints=KEPT)
        for name, optimizer in optimizers.items()
    }
    rows: list[Row] = []
    for name, run in runs.items():
        effect = min(mean_square(run.test - other.test) for other in runs.values() if other is not run)
        later = wm.explain(run, from_step=0).later
        assert later is not None
        found = later.first_within((WANTED * effect) ** 0.5)
        row = {"optimizer": name, "steps": run.steps, "MSE": float(run.losses[-1]), "effect": effect}
        row |= {"% at 0": 100 * float(later.misses[0]) ** 2 / effect, f"T₀ of {WANTED:.0%}": found}
        row["part of the steps"] = None if found is None else found / run.steps
        row["T₀"] = later.steps.tolist()
        of = {"d²": later.misses, "estimate²": later.estimates, "moved after T₀²": later.remaining}
        rows.append(row | {label: distances.square().tolist() for label, distances in of.items()})
        show({k: v for k, v in rows[-1].items() if not isinstance(v, list)})
        for T, d in zip(rows[-1]["T₀"], rows[-1]["d²"], strict=True):
            print(f"  {T:6d} {d:9.3g} {100 * d / effect:7.1f} %", flush=True)
    return rows


def pairs() -> list[Row]:
    task, model, optimizers = fashion()
    gd, adagrad, adam = optimizers.values()
    rows: list[Row] = []

    def kept(T: int) -> Row:
        return {"until": None, "steps": T, "checkpoints": [T]}

    for T in PAIRED["descent"]:
        ones = [wm.train(model, task, o, **kept(T)).checkpoint(T).model() for o in (gd, adagrad)]
        rows.append(_pair("gradient descent and AdaGrad, then gradient descent", T, task, *ones, gd))
    for T in PAIRED["orders"]:
        ones = [wm.train(model, task, adam, batch_size=10, seed=s, **kept(T)).checkpoint(T) for s in (0, 1)]
        rows.append(_pair("Adam in batches of 10 in two orders, then in full batches", T, task, *ones, adam))
    halved = partial(O.Adagrad, lr=2.5e-3)
    for T in PAIRED["halved"]:
        ones = [wm.train(model, task, o, **kept(T)).checkpoint(T).model() for o in (adagrad, halved)]
        rows.append(_pair("AdaGrad at a rate and at half of it, then anew at the rate", T, task, *ones, adagrad))
    return rows


def _pair(name: str, T: int, task: wm.Task, first: Any, second: Any, optimizer: Any) -> Row:
    runs = [wm.train(one, task, optimizer, until=UNTIL, steps=30_000) for one in (first, second)]
    told = [wm.predict(one, task, optimizer, until=UNTIL, steps=30_000, relinearize="never") for one in (first, second)]
    there = [(one.model() if isinstance(one, wm.Checkpoint) else one)(task.X_test) for one in (first, second)]
    trained, predicted = (mean_square(a.test - b.test) for a, b in (runs, told))
    row: Row = {"runs": name, "T₀": T, "steps": [run.steps for run in runs]}
    row |= {"d² at T₀": mean_square(there[0] - there[1]), "d² trained": trained, "d² predicted": predicted}
    row |= {"off %": 100 * abs((predicted / trained) ** 0.5 - 1)}
    row |= {"d² of each to its prediction": [mean_square(r.test - p.test) for r, p in zip(runs, told, strict=True)]}
    show(row)
    return row


PARTS = {"steps": steps, "pairs": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if "WHICHMIN_DATA" not in os.environ:
        raise SystemExit("set WHICHMIN_DATA to the folder that holds fashion-mnist")
    torch.set_num_threads(options.threads)
    for part in options.parts:
        print(f"\n{part}", flush=True)
        store(f"linearize-later-{part}", PARTS[part](), vars(options))


if __name__ == "__main__":
    main()

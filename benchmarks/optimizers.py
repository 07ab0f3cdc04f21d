"""Every optimizer: predicted against trained minimizers, in one run each. Needs WHICHMIN_DATA.

    python benchmarks/optimizers.py [--parts linearized relinearized time batches momentum steps] [--threads 2]

linearized  one linearization of adaptive rules, by width: distance to the trained network over that to the minimizer of
          gradient descent
relinearized  the path of adaptive rules on narrower networks, the same
time      how much faster than training, width 4096
batches   mini-batches: which distances between minimizers are real, and are they predicted
momentum  training curves of heavy ball, Nesterov and higher momentum over 5,000 steps
steps     what a mini-batch step in function space takes

Distances are mean squares over test points; images are scaled to a mean square of one.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from functools import partial
from typing import Any

import torch
from _environment import store

import whichmin as wm
from minimizers import mean_square, of_size_one
from whichmin.optimizers import HigherMomentum, Nesterov

O = torch.optim  # noqa: E741
ADAPTIVE = {
    "AdaGrad": partial(O.Adagrad, lr=5e-3),
    "RMSprop": partial(O.RMSprop, lr=2e-5),
    "Adam": partial(O.Adam, lr=1e-3),
}
Row = dict[str, Any]


def problem(data: str, classes: tuple[int, int], n: int, hidden: tuple[int, ...], scale: float, seed: int = 0) -> Any:
    task = of_size_one(wm.data.load(data, classes=classes, n_train=n, n_test=100, seed=seed))
    return task, wm.networks.MLP([784, *hidden, 1], scale=scale, seed=seed)


def descent(model: torch.nn.Module, task: wm.Task, part: float = 0.4) -> partial:
    return partial(O.SGD, lr=part * wm.spectrum(wm.tangent_kernel(model, task.X)).best_lr)


def linearized(widths: tuple[int, ...] = (256, 1024, 4096)) -> list[Row]:
    rows: list[Row] = []
    cases = [("mnist", w, 0.5) for w in widths] + [("fashion-mnist", 2048, 0.7)]
    for data, width, scale in cases:
        task, model = problem(data, (0, 1), 100 if data == "mnist" else 60, (width,), scale)
        gd = wm.train(model, task, descent(model, task), until=1e-5, steps=30_000)
        for name, optimizer in ADAPTIVE.items():
            run = wm.train(model, task, optimizer, until=1e-5, steps=8_000)
            found = wm.predict(model, task, optimizer, steps=run.steps, relinearize="never")
            near, far = mean_square(found.test - run.test), mean_square(gd.test - run.test)
            row = {"data": data, "width": width, "optimizer": name, "steps": run.steps, "MSE": float(run.losses[-1])}
            rows.append(row | {"d²": near, "to GD": far, "%": 100 * near / far})
            show(rows[-1])
    for name in ADAPTIVE:
        mine = [r for r in rows if r["optimizer"] == name and r["data"] == "mnist"]
        slope = math.log(mine[-1]["d²"] / mine[0]["d²"]) / math.log(mine[-1]["width"] / mine[0]["width"])
        rows.append({"optimizer": name, "exponent of d² in width": slope})
        show(rows[-1])
    return rows


def relinearized() -> list[Row]:
    rows: list[Row] = []
    for data, classes, n, hidden, scale in (
        ("fashion-mnist", (0, 1), 60, (2048,), 0.7),
        ("mnist", (3, 8), 100, (600, 600), 1.0),
    ):
        task, model = problem(data, classes, n, hidden, scale)
        gd = wm.train(model, task, descent(model, task), until=1e-4, steps=30_000)
        for name, optimizer in (("AdaGrad", partial(O.Adagrad, lr=3e-3)), ("Adam", partial(O.Adam, lr=4e-4))):
            run = wm.train(model, task, optimizer, until=1e-4)
            found = wm.predict(model, task, optimizer, until=1e-4)
            near, far = mean_square(found.test - run.test), mean_square(gd.test - run.test)
            row = {"data": data, "optimizer": name, "steps": run.steps, "intervals": found.intervals}
            row |= {"d²": near, "estimate²": found.error**2, "to GD": far, "%": 100 * near / far}
            rows.append(row | {"faster ×": run.seconds / found.seconds})
            show(rows[-1])
    return rows


def timed() -> list[Row]:
    rows: list[Row] = []
    task, model = problem("mnist", (0, 1), 100, (4096,), 1.0)
    slow = {
        "AdaGrad": partial(O.Adagrad, lr=1e-3),
        "RMSprop": partial(O.RMSprop, lr=1e-5),
        "Adam": partial(O.Adam, lr=4e-5),
        "gradient descent": descent(model, task, 0.2),
        "heavy ball": partial(O.SGD, lr=descent(model, task, 0.04).keywords["lr"], momentum=0.9),
        "Nesterov": partial(Nesterov, lr=descent(model, task, 0.005).keywords["lr"], r=3.0),
    }
    for name, optimizer in slow.items():
        found = min((wm.predict(model, task, optimizer, until=1e-5) for _ in range(2)), key=lambda p: p.seconds)
        run = wm.train(model, task, optimizer, until=1e-5, steps=6_000)
        row = {"optimizer": name, "steps": run.steps, "MSE": float(run.losses[-1]), "train s": run.seconds}
        row |= {"predict s": found.seconds, "predicted steps": found.steps, "linearizations": found.intervals}
        row |= {"d²": mean_square(found.test - run.test), "estimate²": found.error**2}
        rows.append(row | {"faster ×": run.seconds / found.seconds})
        show(rows[-1])
    return rows


def batches(width: int = 4096) -> list[Row]:
    rows: list[Row] = []
    task, model = problem("mnist", (0, 1), 100, (width,), 0.5)
    gd = wm.train(model, task, descent(model, task, 0.1), until=1e-5, steps=30_000)
    linearized_gd = wm.predict(model, task, descent(model, task, 0.1), until=1e-5, relinearize="never")
    error = mean_square(linearized_gd.test - gd.test)
    ends: dict[str, dict[int, dict[str, torch.Tensor]]] = {}
    for name, optimizer in (
        ("SGD", descent(model, task, 0.1)),
        ("Adam", partial(O.Adam, lr=1e-3)),
        ("AdaGrad", partial(O.Adagrad, lr=5e-3)),
    ):
        for size in (10, 25, 50):
            for seed in range(3):
                if name != "SGD" and seed:
                    continue
                course: Row = {"batch_size": size, "seed": seed}
                run = wm.train(model, task, optimizer, until=1e-5, steps=20_000, **course)
                row = {"optimizer": name, "batch": size, "order": seed, "steps": run.steps}
                row |= {"MSE": float(run.losses[-1]), "to GD": mean_square(run.test - gd.test)}
                found = {"trained": run.test}
                for kind in ("never", "auto"):
                    told = wm.predict(model, task, optimizer, until=1e-5, relinearize=kind, **course)
                    found[kind] = told.test
                    row |= {f"d² {kind}": mean_square(told.test - run.test)}
                rows.append(row | {"d² of GD's linearization": error})
                ends.setdefault(name, {})[size] = found
                show(rows[-1])
    for name in ("Adam", "AdaGrad"):
        for a, b in ((10, 25), (10, 50), (25, 50)):
            real, one, path = (
                mean_square(ends[name][a][kind] - ends[name][b][kind]) for kind in ("trained", "never", "auto")
            )
            row = {"optimizer": name, "between batches": f"{a}, {b}", "d² trained": real}
            row |= {"in units of the linearization error": real / error}
            row |= {
                f"{k} off %": 100 * abs((d / real) ** 0.5 - 1) for k, d in (("linearized", one), ("relinearized", path))
            }
            rows.append(row)
            show(rows[-1])
    return rows


def momentum(steps: int = 5_000) -> list[Row]:
    rows: list[Row] = []
    task, model = problem("mnist", (0, 1), 100, (4096,), 1.0)
    lr = descent(model, task, 0.05).keywords["lr"]
    rules: dict[str, Any] = {
        "gradient descent": partial(O.SGD, lr=lr),
        "heavy ball .9": partial(O.SGD, lr=lr, momentum=0.9),
        **{f"Nesterov r = {r}": partial(Nesterov, lr=lr, r=float(r)) for r in (2, 3, 6, 8)},
        "higher momentum .6, .3": partial(HigherMomentum, lr=lr, betas=(0.6, 0.3)),
    }
    for name, optimizer in rules.items():
        run = wm.train(model, task, optimizer, until=1e-5, steps=steps)
        times = sorted({round(1.15**k) for k in range(1, 62)} & set(range(1, run.steps + 1)))
        found = wm.predict(model, task, optimizer, steps=times)
        predicted = (found.train.double() - task.y.double()).square().mean((1, 2))
        ratio = predicted / run.losses[torch.tensor(times)]
        worst = float((ratio - 1).abs().max())
        late = [t for t in times if t >= run.steps / 10]
        x = torch.tensor(late, dtype=torch.float64).log()
        x = (x - x.mean()) / (x - x.mean()).square().sum()
        trained, told = (
            float(x @ y.log()) for y in (run.losses[torch.tensor(late)], predicted[[times.index(t) for t in late]])
        )
        rates = found.rates
        row = {"rule": name, "steps": run.steps, "MSE": float(run.losses[-1]), "worst %": 100 * worst}
        row |= {"log-log slope of the last decade": trained, "predicted": told}
        row |= {"theory": None if rates is None else rates.kind, "exponent": None if rates is None else rates.exponent}
        rows.append(row | {"notes": list(found.notes)})
        show(rows[-1])
    return rows


def steps() -> list[Row]:
    rows: list[Row] = []
    task, model = problem("mnist", (0, 1), 100, (1024,), 0.5)
    for name, optimizer in (
        ("SGD", descent(model, task, 0.1)),
        ("heavy ball", partial(O.SGD, lr=descent(model, task, 0.02).keywords["lr"], momentum=0.9)),
    ):
        for size in (10, 50):
            seconds = []
            for count in (200, 2_000, 22_000):
                begun = time.perf_counter()
                wm.predict(model, task, optimizer, steps=count, batch_size=size, relinearize="never")
                seconds.append(time.perf_counter() - begun)
            rows.append({"rule": name, "batch": size, "µs a step": 1e6 * (seconds[2] - seconds[1]) / 20_000})
            show(rows[-1])
    return rows


PARTS = {
    "linearized": linearized,
    "relinearized": relinearized,
    "time": timed,
    "batches": batches,
    "momentum": momentum,
    "steps": steps,
}


def show(row: Row) -> None:
    print({k: (f"{v:.3g}" if isinstance(v, float) else v) for k, v in row.items()}, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if "WHICHMIN_DATA" not in os.environ:
        raise SystemExit("set WHICHMIN_DATA to the folder that holds mnist and fashion-mnist")
    torch.set_num_threads(options.threads)
    for part in options.parts:
        print(f"\n{part}", flush=True)
        store(f"optimizers-{part}", PARTS[part](), vars(options))


if __name__ == "__main__":
    main()

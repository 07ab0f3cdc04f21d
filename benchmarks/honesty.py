"""Is the error estimate honest? Fifty varied problems: the estimated against the true distance to the trained network.

Data set, classes, number of outputs, N, depth, width, α, parametrization, biases, activation, learning rate, training
MSE and seed are drawn at random. Distances are root mean squares over test points. Needs WHICHMIN_DATA.
Usage: python benchmarks/honesty.py [--problems 50] [--first 0] [--optimizer sgd]

Adaptive rules take the rate at which a step of all parameters moves an output by 4 % (AdaGrad, whose steps shorten, by
40 %) of the targets' spread, times the drawn rate.
"""

from __future__ import annotations

import argparse
import os
import random
from functools import partial
from typing import Any

import torch
from _environment import store

import whichmin as wm


def draw(number: int) -> dict[str, Any]:
    r = random.Random(1000 + number)
    data = r.choice(["mnist", "fashion-mnist", "digits", "mnist", "fashion-mnist", "cifar-10"])
    outputs = r.choice([1, 1, 1, 3])
    classes = [0, 1] if data == "cifar-10" else r.sample(range(10), 2 if outputs == 1 else 3)
    depth = r.choice([1, 1, 1, 2, 2, 3])
    width = r.choice({1: [256, 512, 1024, 2048, 4096], 2: [200, 400, 600, 1024], 3: [200, 400]}[depth])
    parametrization = r.choice(["ntk", "ntk", "standard"])
    scale = r.choice([0.5, 0.7, 1.0, 1.0, 1.5, 2.0])
    return {
        "data": data,
        "classes": classes,
        "n": r.choice([30, 50, 60, 80, 100]),
        "hidden": [width] * depth,
        "scale": min(scale, 1.0) if parametrization == "standard" else scale,
        "parametrization": parametrization,
        "bias": r.random() < 0.3,
        "activation": r.choice(["relu", "relu", "relu", "erf", "gelu"]),
        "rate": r.choice([0.2, 0.4, 0.4, 0.6, 0.8]),
        "until": r.choice([1e-3, 1e-4, 1e-4, 1e-5]),
        "seed": r.randrange(100),
    }


def factory(name: str, model: torch.nn.Module, task: wm.Task, rate: float) -> partial:
    if name == "sgd":
        return partial(torch.optim.SGD, lr=rate * wm.spectrum(wm.tangent_kernel(model, task.X)).best_lr)
    moved = []
    for x in task.X[:5]:
        grads = torch.autograd.grad(model(x[None]).sum(), list(model.parameters()))
        moved.append(sum(float(g.abs().sum()) for g in grads))
    lr = 0.04 * rate * float(task.y.std()) * len(moved) / sum(moved)
    kinds = {"adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam}
    return partial(kinds[name], lr=10 * lr if name == "adagrad" else lr)


def measure(p: dict[str, Any], steps: int, optimizer: str) -> dict[str, Any] | None:
    task = wm.data.load(p["data"], classes=p["classes"], n_train=p["n"], n_test=60, seed=p["seed"])
    sizes = [task.X[0].numel(), *p["hidden"], task.outputs]
    keys = ("scale", "parametrization", "bias", "activation", "seed")
    model = wm.networks.MLP(sizes, **{k: p[k] for k in keys})
    rule = factory(optimizer, model, task, p["rate"])
    try:
        run = wm.train(model, task, rule, until=p["until"], steps=steps)
    except (wm.errors.TrainingError, wm.errors.ModelError) as error:
        print(f"left out, training diverges: {error}"[:120], flush=True)
        return None
    if not run.converged:  # stop both where training came to
        p = p | {"until": float(run.losses[-1]) * 1.0001}
        if p["until"] > 0.1:
            return None
        run = wm.train(model, task, rule, until=p["until"], steps=steps)
    row: dict[str, Any] = {"steps": run.steps, "train s": run.seconds}
    for name, relinearize in (("one", "never"), ("relinearized", "auto")):
        found = wm.predict(model, task, rule, until=p["until"], relinearize=relinearize)
        true = float((found.test - run.test).double().square().mean().sqrt())
        row |= {f"{name} true": true, f"{name} estimate": found.error, f"{name} ratio": found.error / true}
        row |= {f"{name} linearizations": found.intervals, f"{name} s": found.seconds, "notes": list(found.notes)}
        row["spread"] = found.target_std
    return row | p


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--optimizer", choices=["sgd", "adagrad", "rmsprop", "adam"], default="sgd")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if "WHICHMIN_DATA" not in os.environ:
        raise SystemExit("set WHICHMIN_DATA to the folder that holds mnist, fashion-mnist and cifar-10-batches-bin")
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    number = options.first
    while len(rows) < options.problems:
        row = measure(draw(number), options.steps, options.optimizer)
        number += 1
        if row is None:
            continue
        rows.append(row)
        shown = ("data", "hidden", "activation", "scale", "rate", "steps")
        print(number - 1, *(row[k] for k in shown), end=" ")
        for name in ("one", "relinearized"):
            print(f"| {name}: {row[f'{name} true']:.1e} est. {row[f'{name} estimate']:.1e}", end=" ")
            print(f"ratio {row[f'{name} ratio']:.2f}", end=" ")
        print(row["relinearized linearizations"], flush=True)
        if len(rows) % 10 == 0 or len(rows) == options.problems:
            summary(rows)
            store("honesty" if options.optimizer == "sgd" else f"honesty-{options.optimizer}", rows, vars(options))


def summary(rows: list[dict[str, Any]]) -> None:
    for name in ("one", "relinearized"):
        within = sum(0.25 <= r[f"{name} ratio"] <= 4 for r in rows)
        print(f"{name}: estimate within a factor of 4 of the truth on {within} of {len(rows)}", flush=True)


if __name__ == "__main__":
    main()

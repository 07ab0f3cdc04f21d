"""How far rounding carries real trainings, beside what predictions by real training say of it.

    python benchmarks/rounding.py [--nudges 2] [--only residual dense] [--steps 150 400] [--threads 1]

Random rows. A training is made again from parameters that differ by a few units of rounding, as it would be on another
machine: ``true`` is how far test outputs come apart, the root mean square over the nudges, and ``estimate`` the
prediction's error; ``true / estimate`` of 4 and more is too sure. Both are over the outputs' standard deviation.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from _environment import store
from torch import nn

import whichmin as wm

O = torch.optim  # noqa: E741
#: Parameters are multiplied by one plus so many times a normal number: four units of single precision.
NUDGE = 4 * 2.0**-23
RESIDUAL = {
    "gradient descent": partial(O.SGD, lr=0.05),
    "momentum": partial(O.SGD, lr=0.02, momentum=0.9),
    "Adam": partial(O.Adam, lr=1e-3),
    "RMSprop": partial(O.RMSprop, lr=1e-3),
}
DENSE = {
    "gradient descent": partial(O.SGD, lr=0.1),
    "Adam": partial(O.Adam, lr=1e-3),
    "Adam, 1e-2": partial(O.Adam, lr=1e-2),
    "RMSprop": partial(O.RMSprop, lr=1e-3),
    "AdaGrad": partial(O.Adagrad, lr=1e-2),
}
Problem = tuple[str, nn.Module, wm.Task, wm.Recipe, int]


def residual(steps: int) -> Iterator[Problem]:
    torch.manual_seed(0)
    X, y, X_test = torch.randn(60, 3, 16, 16), torch.randint(0, 2, (60,)), torch.randn(50, 3, 16, 16)
    task = wm.Task(X, y, X_test, loss=nn.CrossEntropyLoss())
    for name, optimizer in RESIDUAL.items():
        for size in (None, 20):
            yield (
                f"ResNet, {name}",
                wm.networks.ResNet(3, 2, 8, seed=1),
                task,
                wm.Recipe(optimizer, batch_size=size),
                steps,
            )


def dense(steps: int) -> Iterator[Problem]:
    torch.manual_seed(0)
    X, y, X_test = torch.randn(300, 100), torch.randint(0, 10, (300,)), torch.randn(100, 100)
    X[:, 70:] = 0  # columns of parameters without gradients
    task = wm.Task(X, y, X_test, loss=nn.CrossEntropyLoss())
    for width, depth, act in ((256, 1, nn.ReLU), (64, 3, nn.ReLU), (64, 3, nn.Tanh)):
        for name, optimizer in DENSE.items():
            for size in (None, 32):
                torch.manual_seed(1)
                widths = [100, *depth * [width]]
                layers = [[nn.Linear(m, n), act()] for m, n in pairwise(widths)]
                model = nn.Sequential(*[layer for pair in layers for layer in pair], nn.Linear(width, 10))
                label = f"{depth} × {width} {act.__name__}, {name}"
                yield label, model, task, wm.Recipe(optimizer, batch_size=size), steps


def nudged(model: nn.Module, seed: int) -> nn.Module:
    other, draw = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1 + NUDGE * torch.randn(p.shape, generator=draw))
    return other


def measured(problem: Problem, nudges: int) -> dict[str, Any]:
    name, model, task, recipe, steps = problem
    found = wm.predict(model, task, recipe, steps=steps)

    def trained(network: nn.Module) -> torch.Tensor:
        run = wm.train(network, task, recipe, steps=steps, until=None, progress=False)
        assert run.test is not None
        return run.test.double()

    outputs = trained(model)
    apart = [float((trained(nudged(model, seed)) - outputs).square().mean()) for seed in range(nudges)]
    spread = float(outputs.std())
    true, estimate = math.sqrt(sum(apart) / nudges) / spread, found.error / spread
    row = {"network": name, "batch": recipe.batch_size, "steps": steps, "way": found.method, "true": true}
    return row | {"estimate": estimate, "true / estimate": true / estimate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nudges", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=("residual", "dense"), default=("residual", "dense"))
    parser.add_argument("--steps", type=int, nargs=2, default=(150, 400), help="of residual and of dense networks")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    print(f"{'network':44s}{'batch':>6s}{'true':>9s}{'estimate':>10s}{'ratio':>8s}  way")
    for kind, problems, steps in zip(("residual", "dense"), (residual, dense), options.steps, strict=True):
        if kind not in options.only:
            continue
        for problem in problems(steps):
            rows.append(row := measured(problem, options.nudges))
            print(
                f"{row['network']:44s}{row['batch'] or 'all':>6}{row['true']:9.1e}{row['estimate']:10.1e}"
                f"{row['true / estimate']:8.2f}  {row['way']}",
                flush=True,
            )
    within = sum(row["true"] <= 4 * row["estimate"] for row in rows)
    print(f"{within} of {len(rows)} within four times the estimate")
    print(store("rounding", rows, vars(options)))


if __name__ == "__main__":
    main()

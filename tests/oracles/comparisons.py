"""Small problems and factories."""

from __future__ import annotations

from functools import partial

import torch

import whichmin as wm
from whichmin.studies.comparison import Failure

SGD = partial(torch.optim.SGD, lr="best")
SLOW = partial(torch.optim.SGD, lr=0.05)
ADAGRAD = partial(torch.optim.Adagrad, lr=0.05)


def problem(outputs: int = 1, *, tested: bool = True) -> wm.Task:
    generator = torch.Generator().manual_seed(0)
    X, X_test = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in (10, 14))
    if outputs == 1:
        y, y_test = torch.sign(X[:, 0]), torch.sign(X_test[:, 0])
    else:
        y, y_test = (torch.eye(outputs, dtype=X.dtype)[x[:, :outputs].argmax(1)] for x in (X, X_test))
    return wm.Task(X, y, X_test, y_test) if tested else wm.Task(X, y)


def network(seed: int, outputs: int = 1, width: int = 64) -> wm.networks.MLP:
    return wm.networks.MLP((6, width, outputs), seed=seed, dtype=torch.float64)


def comparison(*, trained: bool = True, failed: tuple[int, ...] = (), seeds: int = 7) -> wm.Comparison:
    """Three choices whose every number differs from every other; "c" has no outputs at the failed seeds."""
    task, generator = problem(), torch.Generator().manual_seed(3)
    names = ("a", "b", "c")

    def outputs(shift: float) -> dict[str, torch.Tensor]:
        common = torch.randn(seeds, 14, 1, generator=generator, dtype=torch.float64)
        scatter = {name: torch.randn(seeds, 14, 1, generator=generator, dtype=torch.float64) for name in names}
        return {name: common + 0.2 * scatter[name] + shift * i for i, name in enumerate(names)}

    predicted, real = outputs(0.7), outputs(0.9)
    errors = {name: 0.01 * (i + 1) + 0.002 * torch.arange(seeds).double() for i, name in enumerate(names)}
    steps = {name: 100.0 * (i + 1) + torch.arange(seeds).double() for i, name in enumerate(names)}
    for seed in failed:
        for values in (predicted, real, errors, steps):
            values["c"][seed] = torch.nan
    failures = tuple(Failure("c", seed, "predicted", "it diverges.") for seed in failed)
    return wm.Comparison(
        task, predicted, errors, real if trained else None, steps, 0.05, 1.5, failures, ("a note",), {"tol": 0.01}
    )

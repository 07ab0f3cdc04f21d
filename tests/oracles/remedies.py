"""A wide rectifier network with a loud initialization, in float64, and its remedies."""

from __future__ import annotations

from functools import cache, partial

import torch
from torch import Tensor, nn

import whichmin as wm
from whichmin.mitigation.validation import split
from whichmin.mitigation.work import Aim, Work

N, N_VALIDATION, N_TEST, INSIDE = 10, 40, 12, 5
#: The part of the limit of stability at which everything is trained.
RATE = 0.4


def data(n: int, seed: int, classes: bool = False) -> tuple[Tensor, Tensor]:
    """Directions, and a linear function of them: what a quiet network learns well."""
    X = torch.nn.functional.normalize(
        torch.randn(n, INSIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )
    y = X[:, 0] - 0.5 * X[:, 1]
    return X, (y > 0).long() if classes else y


def task(classes: bool = False) -> wm.Task:
    loss = nn.CrossEntropyLoss() if classes else nn.MSELoss()
    return wm.Task(*data(N, 1, classes), *data(N_TEST, 2, classes), loss=loss)


def validation(classes: bool = False) -> tuple[Tensor, Tensor]:
    return data(N_VALIDATION, 3, classes)


def network(scale: float = 2.0, width: int = 256, outputs: int = 1, seed: int = 0) -> nn.Module:
    return wm.networks.MLP((INSIDE, width, outputs), scale=scale, seed=seed, dtype=torch.float64)


def sgd(model: nn.Module, part: float = RATE, of: wm.Task | None = None) -> partial:
    """Gradient descent at a part of the limit of stability of a network."""
    problem = task() if of is None else of
    K = wm.spectrum(wm.tangent_kernel(model, problem.X))
    gamma = problem.objective.gamma
    return partial(torch.optim.SGD, lr=part * 2 / (gamma * float(K.eigenvalues[0])))


def work(model: nn.Module | None = None, *, until: float | None = 1e-5, steps: int | None = None) -> Work:
    """The problem of a network as the methods get it."""
    model = network() if model is None else model
    aim = Aim(until, steps, 1e-2, 0.05)
    return Work(model, split(task(), validation(), 0), wm.Recipe(sgd(model)), aim)


@cache
def found(train: str = "all") -> wm.Mitigation:
    """All remedies of the loud network."""
    model = network()
    return wm.mitigate(model, task(), sgd(model), validation=validation(), train=train, until=1e-5)  # type: ignore[arg-type]

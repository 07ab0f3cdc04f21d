"""Torch's own losses with targets that they are meant for, and a task with each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import whichmin as wm

Targets = Callable[[int, int, torch.Generator], Tensor]


def numbers(n: int, outputs: int, g: torch.Generator) -> Tensor:
    """Class numbers; every class is there, and so is the last."""
    return torch.cat([torch.arange(outputs), torch.randint(0, outputs, (n - outputs,), generator=g)])


def probabilities(n: int, outputs: int, g: torch.Generator) -> Tensor:
    return torch.softmax(2 * torch.randn(n, outputs, generator=g, dtype=torch.float64), 1)


def bits(n: int, outputs: int, g: torch.Generator) -> Tensor:
    return (torch.rand(n, outputs, generator=g) < 0.5).double()


def parts(n: int, outputs: int, g: torch.Generator) -> Tensor:
    return 0.1 + 0.8 * torch.rand(n, outputs, generator=g, dtype=torch.float64)


def reals(n: int, outputs: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, outputs, generator=g, dtype=torch.float64)


def counts(n: int, outputs: int, g: torch.Generator) -> Tensor:
    return torch.randint(1, 5, (n, outputs), generator=g).double()


def quartic(f: Tensor, y: Tensor) -> Tensor:
    return (f - y).pow(4).mean()


WEIGHTS = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


@dataclass(frozen=True)
class Kind:
    """A loss, as a user passes it, and as (outputs, targets) → scalar."""

    loss: Any
    targets: Targets
    minimizer: bool = True

    def torch(self, f: Tensor, y: Tensor) -> Tensor:
        if isinstance(self.loss, partial):
            variance = torch.as_tensor(self.loss.keywords["var"], dtype=f.dtype).expand_as(f)
            return self.loss.func(f, y, variance)
        if isinstance(self.loss, nn.GaussianNLLLoss):
            return self.loss(f, y, torch.ones_like(f))
        return self.loss(f, y)

    def task(self, n: int = 7, outputs: int = 3, features: int = 4, seed: int = 0) -> wm.Task:
        g = torch.Generator().manual_seed(seed)
        X, X_test = (torch.randn(k, features, generator=g, dtype=torch.float64) for k in (n, 5))
        y, y_test = (self.targets(k, outputs, g) for k in (n, 5))
        return wm.Task(X, y, X_test, y_test, self.loss)


KINDS: dict[str, Kind] = {
    "mean": Kind(nn.MSELoss(), reals),
    "sum": Kind(nn.MSELoss(reduction="sum"), reals),
    "classes": Kind(nn.CrossEntropyLoss(), numbers, False),
    "classes sum": Kind(nn.CrossEntropyLoss(reduction="sum"), numbers, False),
    "classes weighted": Kind(nn.CrossEntropyLoss(weight=WEIGHTS), numbers, False),
    "classes smoothed": Kind(nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2), numbers),
    "probabilities": Kind(nn.CrossEntropyLoss(label_smoothing=0.1), probabilities),
    "logistic": Kind(nn.BCEWithLogitsLoss(), bits, False),
    "logistic weighted": Kind(nn.BCEWithLogitsLoss(weight=WEIGHTS, pos_weight=WEIGHTS.flip(0)), parts),
    "huber": Kind(nn.HuberLoss(delta=0.3), reals),
    "smooth": Kind(nn.SmoothL1Loss(beta=0.5, reduction="sum"), reals),
    "poisson": Kind(nn.PoissonNLLLoss(full=True), counts),
    "gauss": Kind(partial(nn.GaussianNLLLoss(full=True), var=WEIGHTS), reals),
    "gauss of one": Kind(nn.GaussianNLLLoss(reduction="sum"), reals),
    "absolute": Kind(nn.L1Loss(), reals, False),
    "a function": Kind(quartic, reals, False),
    "a function of classes": Kind(lambda f, y: nn.functional.cross_entropy(f, y), numbers, False),
}

"""Small problems and factories."""

from __future__ import annotations

from functools import partial

import torch

import whichmin as wm

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

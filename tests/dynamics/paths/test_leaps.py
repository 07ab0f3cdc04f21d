"""Paths through networks with gates, whose outputs leap where no derivative tells."""

from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import rms, sgd


class Thresholds(nn.Module):
    """Units that are off below zero and begin at one above it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(4, 2)

    def forward(self, x):
        h = self.a(x)
        return self.c(x) + self.b((h > 0).to(h) * (1 + 0.5 * torch.tanh(h)))


class Rounded(nn.Module):
    """Units rounded to eighths, with the gradients of those that are not."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        return self.b(h + ((8 * h).round() / 8 - h).detach())


class BestExpert(nn.Module):
    """A mixture of which each row takes the best expert alone."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 2)) for _ in range(4))

    def forward(self, x):
        p = self.gate(x).softmax(1)
        best = p.topk(1, dim=1)
        weights = torch.zeros_like(p).scatter(1, best.indices, best.values)
        return sum(weights[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


def rectifiers():
    return nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))


def predicted(made, optimizer, way):
    """A prediction of 40 steps and how far it is from training."""
    torch.manual_seed(0)
    model, X, others = made(), torch.randn(30, 4), torch.randn(60, 4)
    task = wm.Task(X, 1.5 * torch.sin(X[:, :2]) + 1, others)
    trained = wm.train(model, task, optimizer, steps=40, until=None, progress=False)
    found = wm.predict(model, task, optimizer, steps=40, relinearize=way)
    return found, rms(found.test, trained.test)


ADAM = partial(torch.optim.Adam, lr=1e-2)
DECAYED = partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.5)


@pytest.mark.parametrize(
    ("made", "optimizer", "way"),
    [
        (Thresholds, ADAM, 10),
        (Thresholds, DECAYED, 10),
        (Rounded, ADAM, 10),
        (BestExpert, ADAM, 10),
        (Thresholds, sgd(0.1), 8),
        (Thresholds, partial(torch.optim.SGD, lr=0.1, weight_decay=0.1), 8),
    ],
)
def test_gates_that_open_within_intervals_are_in_the_error(made, optimizer, way):
    found, off = predicted(made, optimizer, way)
    assert off <= 2 * found.error
    assert any("leapt" in note for note in found.notes)


@pytest.mark.parametrize("optimizer", [ADAM, DECAYED, sgd(0.1)])
def test_rectifiers_do_not_leap(optimizer):
    found, off = predicted(rectifiers, optimizer, 10)
    assert off <= 4 * found.error <= 40 * off
    assert not any("leapt" in note for note in found.notes)


@pytest.mark.parametrize("optimizer", [partial(torch.optim.Adam, lr=1e-6), DECAYED, sgd(1e-5), sgd(0.1)])
def test_roundings_are_no_leaps(optimizer):
    """In a network that is linear in its parameters nothing turns, and what moves otherwise is rounding."""

    def frozen():
        network = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
        network[0].requires_grad_(False)
        return network

    found, off = predicted(frozen, optimizer, 4)
    assert off <= 4 * found.error
    assert not any("leapt" in note for note in found.notes)

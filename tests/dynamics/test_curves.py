"""Training errors at several times, by default settings, against networks that are really trained."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import mlp_problem
from whichmin.optimizers import HigherMomentum, Nesterov

RULES = {
    "descent": partial(torch.optim.SGD, lr=0.1),
    "heavy ball": partial(torch.optim.SGD, lr=0.03, momentum=0.9),
    "nesterov": partial(Nesterov, lr=0.03, r=3.0),
    "higher momentum": partial(HigherMomentum, lr=0.03, betas=(0.6, 0.3)),
}


@pytest.mark.parametrize(
    ("activation", "name"),
    [("relu", "descent"), ("tanh", "heavy ball"), ("tanh", "nesterov"), ("tanh", "higher momentum")],
)
def test_losses_on_the_way(name, activation):
    model, task = mlp_problem((4, 200), 8, n_test=40, activation=activation)
    run = wm.train(model, task, RULES[name], until=1e-5, steps=100)
    times = sorted({round(1.2**k) for k in range(1, 60)} & set(range(1, run.steps + 1)))
    found = wm.predict(model, task, RULES[name], steps=times, relinearize="path")
    off, lazy_off = (
        float(((p.train - task.y).square().mean((1, 2)) / run.losses[times] - 1).abs().max())
        for p in (found, wm.predict(model, task, RULES[name], steps=times, relinearize="never"))
    )
    assert found.method == "relinearized"
    assert found.notes == ()
    assert off < 0.05
    assert off < 0.5 * lazy_off


def test_a_network_that_is_linear_needs_no_path():
    _, task = mlp_problem((4, 4), 3)
    model = torch.nn.Linear(4, 1, dtype=torch.float64)
    found = wm.predict(model, task, RULES["heavy ball"], steps=[1, 10, 100], relinearize="path")
    assert found.method == "linearized"


def test_a_loss_that_cannot_be_told_is_noted(monkeypatch):
    monkeypatch.setattr("whichmin.dynamics.paths.function_space.MOST_INTERVALS", 3)
    model, task = mlp_problem((4, 20), 8, n_test=40)
    found = wm.predict(model, task, RULES["heavy ball"], steps=[10, 100, 400], tol=10.0, relinearize="path")
    assert any("training errors on the way may be off by" in note for note in found.notes)

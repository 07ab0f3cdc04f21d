"""Loops of one's own, replayed from their loader: the terms are those of ``whichmin.train`` with the same batches."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR
from torch.utils.data import DataLoader, TensorDataset

import whichmin as wm
from oracles.linear_rules import distance, problem
from whichmin.errors import InputError, ResultError
from whichmin.optimizers import Nesterov

STEPS = 42


def loader(task: wm.Task, seed: int = 3, batch: int = 4) -> DataLoader:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(task.X, task.y), batch_size=batch, shuffle=True, generator=generator)


def recorded(model, task, optimizer, *, schedule=None, clip=None, batches=None, steps=STEPS) -> wm.Recorder:
    scheduler = None if schedule is None else schedule(optimizer)
    batches = loader(task) if batches is None else batches
    with wm.Recorder(model, optimizer, task) as recorder:
        made = 0
        while made < steps:
            for x, y in batches:
                optimizer.zero_grad()
                nn.functional.mse_loss(model(x), y).backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), clip)
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                made += 1
                if made == steps:
                    break
    return recorder


OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1),
    "momentum": partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=1e-2),
    "nesterov": partial(Nesterov, lr=0.02, r=3.0),
    "adagrad": partial(torch.optim.Adagrad, lr=0.05),
    "adamw": partial(torch.optim.AdamW, lr=5e-3, weight_decay=0.1),
    "rprop": partial(torch.optim.Rprop, lr=1e-3),
}


@pytest.mark.parametrize(
    ("outputs", "schedule"), [(3, None), (1, partial(CosineAnnealingLR, T_max=60))], ids=["three", "scheduled"]
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_terms_are_those_of_train(name, schedule, outputs):
    model, task = problem("over", outputs)
    run = wm.train(model, task, OPTIMIZERS[name], until=None, steps=STEPS, batch_size=4, seed=3, scheduler=schedule)
    expected = wm.explain(run)
    recorder = recorded(model, task, OPTIMIZERS[name](model.parameters()), schedule=schedule)
    found = wm.explain(recorder, loader=loader(task))
    assert list(found.terms) == list(expected.terms)
    for term, value in expected.terms.items():
        assert distance(found.terms[term], value) < 1e-9, term
    assert distance(found.total, model(task.X_test).detach()) < 1e-10
    assert "trajectory" not in found.terms
    assert found.run.steps == STEPS
    assert found.run.reason == recorder.reason


def test_full_batches_in_parameter_groups():
    model, task = problem("over")
    settings = [{"lr": 0.05}, {"lr": 0.02}, {"lr": 0.05, "weight_decay": 0.1}, {"lr": 0.01}]

    def build(parameters):
        return torch.optim.SGD([{"params": [p], **s} for p, s in zip(parameters, settings, strict=True)], lr=1.0)

    expected = wm.explain(wm.train(model, task, build, until=None, steps=STEPS))
    recorder = recorded(model, task, build(model.parameters()), batches=[(task.X, task.y)])
    found = wm.explain(recorder, loader=[task.X])
    for term, value in expected.terms.items():
        assert distance(found.terms[term], value) < 1e-9, term


def test_a_rate_that_a_user_sets_by_hand():
    model, task = problem("over")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with wm.Recorder(model, optimizer, task) as recorder:
        for step in range(STEPS):
            optimizer.param_groups[0]["lr"] = 1e-2 if step % 10 < 5 else 3e-3
            optimizer.zero_grad()
            nn.functional.mse_loss(model(task.X), task.y).backward()
            optimizer.step()
    found = wm.explain(recorder, loader=[task.X])
    schedule = partial(LambdaLR, lr_lambda=lambda k: 1.0 if k % 10 < 5 else 0.3)
    fresh, _ = problem("over")
    run = wm.train(fresh, task, partial(torch.optim.Adam, lr=1e-2), until=None, steps=STEPS, scheduler=schedule)
    for term, value in wm.explain(run).terms.items():
        assert distance(found.terms[term], value) < 1e-9, term


class Flat(nn.Module):
    """One output per row, (n,)."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inside(x).squeeze(-1)


def test_a_network_of_one_flat_output():
    inside, task = problem("over")
    model = Flat(inside)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(STEPS):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(task.X), task.y[:, 0]).backward()
            optimizer.step()
    found = wm.explain(recorder, loader=[task.X])
    assert distance(found.total[:, 0], model(task.X_test).detach()) < 1e-10
    assert "history" in found.terms


@pytest.mark.parametrize(
    ("settings", "replayed"),
    [
        ({"clip": 0.05}, {}),
        ({}, {"seed": 4}),
        ({}, {"batch": 5}),
    ],
    ids=["clipped", "seed", "batch size"],
)
def test_a_replay_that_ends_elsewhere(settings, replayed):
    model, task = problem("over")
    recorder = recorded(model, task, torch.optim.SGD(model.parameters(), lr=0.1), **settings)
    with pytest.raises(ResultError, match=r"not the loop: after \d+ of 42 steps .* apart.*accumulated or clipped"):
        wm.explain(recorder, loader=loader(task, **replayed))
    assert "trajectory" in wm.explain(recorder).terms


@pytest.mark.parametrize(("off", "accepted"), [(0.004, True), (0.015, False), (0.05, False)])
def test_a_replay_may_end_a_percent_off(off, accepted):
    """Of how far the loop moved the training outputs: rounding that training amplifies, but no other loop."""
    model, task = problem("over")
    optimizer, scale = torch.optim.SGD(model.parameters(), lr=1e-3), 1.0 + off
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(20):
            optimizer.zero_grad()
            (scale * nn.functional.mse_loss(model(task.X), task.y)).backward()
            optimizer.step()
    if accepted:
        assert "trajectory" not in wm.explain(recorder, loader=[task.X]).terms
        return
    with pytest.raises(ResultError, match=r"the replay is not the loop: after \d+ of 20 steps"):
        wm.explain(recorder, loader=[task.X])


def test_a_replay_that_ends_at_the_same_minimizer_is_not_the_loop():
    """What was seen on the way tells them apart."""
    _, task = problem("over")
    task = wm.Task(task.X[:3], task.y[:3], task.X_test)
    torch.manual_seed(0)
    model = nn.Linear(4, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(1500):
            optimizer.zero_grad()
            (1.3 * nn.functional.mse_loss(model(task.X), task.y)).backward()
            optimizer.step()
    assert recorder.snapshots[-1].loss < 1e-8 * recorder.snapshots[0].loss
    with pytest.raises(ResultError, match=r"the replay is not the loop: after 1 of 1500 steps"):
        wm.explain(recorder, loader=[task.X])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda task: [task.X + 1e-3], "row 0 of batch 0 is not among the task's training inputs.*augmentation"),
        (lambda task: [task.X[:, :2]], r"batch 0 .* tensor of shape \(6, 2\); expected inputs of shape \(rows, 4\)"),
        (lambda task: [{"x": task.X}], "batch 0 of the loader holds a dict; expected inputs"),
        (lambda task: [], "gave 0 batches, and the loop made 42 steps"),
        (lambda task: iter([task.X] * 5), "gave 5 batches, and the loop made 42 steps"),
    ],
)
def test_loaders_that_are_not_the_loop_s(batches, message):
    model, task = problem("over")
    recorder = recorded(model, task, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(InputError, match=message):
        wm.explain(recorder, loader=batches(task))


def test_loops_that_cannot_be_replayed(tmp_path):
    model, task = problem("over")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    recorder = recorded(model, task, optimizer)
    recorder.save(tmp_path / "kept")
    with pytest.raises(ResultError, match="cannot be replayed: a recorder that was loaded"):
        wm.explain(wm.Recorder.load(tmp_path / "kept", model), loader=loader(task))
    with pytest.raises(ResultError, match="cannot be replayed: its optimizer had made steps before"):
        wm.explain(recorded(model, task, optimizer), loader=loader(task))
    momentum = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    recorded(model, task, momentum)
    with pytest.raises(ResultError, match="cannot be replayed: its optimizer had made steps before"):
        wm.explain(recorded(model, task, momentum), loader=loader(task))


def test_a_loop_whose_steps_were_skipped_is_not_replayed():
    model, task = problem("over", dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with wm.Recorder(model, optimizer, task) as recorder:
        for factor in (1.0, math.inf, 1.0):
            optimizer.zero_grad()
            scaler.scale(factor * nn.functional.mse_loss(model(task.X), task.y)).backward()
            scaler.step(optimizer)
            scaler.update()
    with pytest.raises(ResultError, match="cannot be replayed: a GradScaler skipped 1 of its steps"):
        wm.explain(recorder, loader=[task.X])


class Positional(torch.optim.SGD):
    def __init__(self, params, table, lr=0.1):
        super().__init__(params, lr=lr)
        self.table = table


def test_an_optimizer_that_cannot_be_built_again():
    model, task = problem("over")
    recorder = recorded(model, task, Positional(model.parameters(), {}))
    with pytest.raises(ResultError, match=r"another Positional cannot be built .*table"):
        wm.explain(recorder, loader=loader(task))


def test_rates_that_change_too_often(monkeypatch):
    monkeypatch.setattr("whichmin.training.blueprint.MOST_RATES", 20)
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = recorded(model, task, optimizer, schedule=partial(CosineAnnealingLR, T_max=60))
    with pytest.raises(ResultError, match="cannot be replayed: its learning rates changed too often"):
        wm.explain(recorder, loader=loader(task))


def test_a_loader_is_for_recorders():
    model, task = problem("over")
    run = wm.train(model, task, partial(torch.optim.SGD, lr=0.1), until=None, steps=3)
    with pytest.raises(InputError, match=r"knows its batches: loader is for a recorder"):
        wm.explain(run, loader=[task.X])
    with pytest.raises(InputError, match=r"loader is for a recorder; here whichmin trains"):
        wm.explain(model, task, partial(torch.optim.SGD, lr=0.1), loader=[task.X])


def test_snapshots_of_some_rows_are_compared_there(monkeypatch):
    monkeypatch.setattr("whichmin.training.recorder.ROWS", 5)
    model, task = problem("over")
    recorder = recorded(model, task, OPTIMIZERS["sgd"](model.parameters()))
    assert recorder.snapshots[1].rows is not None
    assert wm.explain(recorder, loader=loader(task)).run.steps == STEPS
    with pytest.raises(ResultError, match="the replay is not the loop: after 1 of 42 steps"):
        wm.explain(recorder, loader=loader(task, seed=4))

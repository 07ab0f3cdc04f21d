"""Whether a loop's loss is the task's: told where gradients tell, and never said wrongly."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whichmin as wm
from whichmin.decomposition.recorded import explain_recorder
from whichmin.training.gradients import MOST, Probe, is_another_loss


def classes(outputs, n=24, dtype=torch.float32):
    """A task of ±1 or one-hot targets, and the class numbers."""
    draw = torch.Generator().manual_seed(3)
    X, k = torch.randn(n, 8, generator=draw).to(dtype), torch.randint(0, max(outputs, 2), (n,), generator=draw)
    y = 2 * k[:, None] - 1 if outputs == 1 else F.one_hot(k, outputs)
    return wm.Task(X, y.to(dtype), X[:5] + 0.5), k


def network(outputs, width=64, dtype=torch.float32, more=()):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), *more, nn.Linear(width, outputs)).to(dtype)


def record(model, task, loss, *, batch=None, steps=40, replace=False, accumulate=1, change=None, noise=0.0):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(5)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(steps):
            optimizer.zero_grad()
            for _ in range(accumulate):
                rows = torch.arange(task.n)
                if batch is not None:
                    rows = torch.randint(0, task.n, (batch,), generator=draw) if replace else rows
                    rows = rows if replace else torch.randperm(task.n, generator=draw)[:batch]
                loss(model(task.X[rows] + noise * torch.randn(1)), rows).backward()
            if change is not None:
                change(model)
            optimizer.step()
    return recorder


def remarks(recorder):
    return [note for note in recorder.notes if "minimizes another loss" in note]


OTHERS = {
    "cross-entropy": (1, lambda f, k, y: F.binary_cross_entropy_with_logits(f[:, 0], k.to(f))),
    "cross-entropy of four": (4, lambda f, k, y: F.cross_entropy(f, k)),
    "hinge": (1, lambda f, k, y: F.relu(1 - f * y).mean()),
    "absolute": (4, lambda f, k, y: (f - y).abs().mean()),
    "other targets": (1, lambda f, k, y: F.mse_loss(f, 3 * y)),
}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("batch", "dtype"), [(None, torch.float32), (8, torch.float32), (8, torch.float64)])
@pytest.mark.parametrize("name", OTHERS)
def test_another_loss_is_remarked(name, dtype, batch, tmp_path):
    outputs, loss = OTHERS[name]
    task, k = classes(outputs, dtype=dtype)
    recorder = record(network(outputs, dtype=dtype), task, lambda f, r: loss(f, k[r], task.y[r]), batch=batch)
    (note,) = remarks(recorder)
    assert "not of its loss, MSELoss()" in note
    assert "give the task the loss and the targets of the loop" in note
    assert note[:60] in repr(recorder)
    if batch is None and dtype == torch.float32:
        found = explain_recorder(recorder)
        assert note in found.notes
        found.report(tmp_path / "report.html")
        assert "minimizes another loss" in (tmp_path / "report.html").read_text(encoding="utf-8")


def clip(model):
    nn.utils.clip_grad_norm_(model.parameters(), 0.1)


@pytest.mark.parametrize(
    ("outputs", "settings"),
    [
        *((outputs, {}) for outputs in (1, 4)),
        *((outputs, {"batch": 8}) for outputs in (1, 4)),
        *((outputs, {"batch": 8, "replace": True}) for outputs in (1, 4)),
        *((outputs, {"batch": 5, "accumulate": 3}) for outputs in (1, 4)),
        (4, {"batch": 8, "change": clip}),
        (1, {"change": clip, "accumulate": 2}),
        (1, {"steps": 500}),
        (4, {"batch": 8, "steps": 500}),
    ],
)
def test_the_tasks_own_loss_is_not(outputs, settings):
    task, _ = classes(outputs)
    recorder = record(network(outputs), task, lambda f, r: F.mse_loss(f, task.y[r]), **settings)
    assert not remarks(recorder)


def penalty(model):
    for p in model.parameters():
        p.grad.add_(p.detach(), alpha=0.3)


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ([nn.Dropout(0.3)], {}),
        ([nn.BatchNorm1d(64)], {"batch": 8}),
        ((), {"noise": 0.3}),
        ((), {"change": penalty}),
        ((), {"change": lambda m: nn.utils.clip_grad_value_(m.parameters(), 1e-3)}),
    ],
)
@pytest.mark.parametrize("mse", [True, False])
def test_what_tells_nothing_is_let_pass(more, settings, mse):
    task, _ = classes(1)
    loss = F.mse_loss if mse else lambda f, y: F.binary_cross_entropy_with_logits(f, (y + 1) / 2)
    recorder = record(network(1, more=more), task, lambda f, r: loss(f, task.y[r]), **settings)
    assert not remarks(recorder)


@pytest.mark.parametrize(("n", "width"), [(24, 2), (MOST + 1, 128)])
def test_with_few_parameters_or_many_rows_nothing_is_told(n, width):
    task, k = classes(1, n)
    recorder = record(
        network(1, width),
        task,
        lambda f, r: F.binary_cross_entropy_with_logits(f[:, 0], k[r].float()),
        batch=8,
        steps=5,
    )
    assert not remarks(recorder)


def test_weights_of_rows_are_another_loss():
    task, _ = classes(1)
    weights = torch.linspace(0.2, 2.0, task.n)[:, None]
    recorder = record(network(1), task, lambda f, r: (weights[r] * (f - task.y[r]).square()).mean())
    assert remarks(recorder)


def test_a_probe_stands_where_the_gradients_were_taken():
    task, _ = classes(1)
    model = network(1)
    F.mse_loss(model(task.X), task.y).backward()
    probe = Probe.of(7, model, dict(model.named_parameters()))
    assert probe.step == 7
    before = copy.deepcopy(model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
            p.grad.zero_()
    assert all(torch.equal(probe.state[n], p) for n, p in before.named_parameters())
    assert not is_another_loss(probe, copy.deepcopy(model), task)
    turned = Probe(7, probe.state, {n: -g for n, g in probe.gradients.items()})
    assert is_another_loss(turned, copy.deepcopy(model), task), "gradients of ascent"
    nothing = Probe(7, probe.state, {n: 0 * g for n, g in probe.gradients.items()})
    assert not is_another_loss(nothing, copy.deepcopy(model), task)

"""Errors that are told by few test outputs."""

from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.dynamics.paths.outcome import error_told_by
from whichmin.losses import root_mean_square


@pytest.mark.parametrize("outputs", [1, 2, 4, 50])
def test_four_times_the_error_told_by_few_outputs_covers_another_draw(outputs):
    truth, told = torch.randn(2, 4000, outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covered = [root_mean_square(a) <= 4 * error_told_by(b) for a, b in zip(truth, told, strict=True)]
    assert sum(covered) >= 0.95 * len(covered)
    assert error_told_by(told[0]) <= 5 * root_mean_square(told[0])


@pytest.mark.parametrize("optimizer", [partial(torch.optim.SGD, lr=0.05), partial(torch.optim.Adam, lr=1e-2)])
@pytest.mark.parametrize("way", ["never", "path"])
def test_one_test_output_tells_little(optimizer, way):
    beyond, noted = 0, "the error is estimated at one test output alone"
    for seed in range(8):
        torch.manual_seed(seed)
        X, y, one = torch.randn(10, 3), torch.randn(10), torch.randn(1, 3)
        model = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))
        task = wm.Task(X, y, one)
        run = wm.train(model, task, optimizer, steps=30, until=None)
        found = wm.predict(model, task, optimizer, steps=30, relinearize=way)
        assert any(note.startswith(noted) for note in found.notes)
        beyond += float((found.test - run.test).abs().max()) > 4 * found.error
    assert beyond <= 1
    many = wm.predict(model, wm.Task(X, y, torch.randn(3, 3)), optimizer, steps=30, relinearize=way)
    assert not any(note.startswith(noted) for note in many.notes)

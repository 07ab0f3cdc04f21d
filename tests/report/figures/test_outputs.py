"""The outputs over initializations: each mean with its own standard deviation, in ascending order."""

from __future__ import annotations

import math

import numpy as np
import torch

from whichmin import Task
from whichmin.infinite.predict import InfinitePrediction
from whichmin.report.figures.outputs import infinite_figure, seeds_figure
from whichmin.studies.seed_spread import SeedSpread


def drawn(figure) -> tuple[np.ndarray, np.ndarray]:
    """Means and the halves of the bars, from left to right."""
    (container,) = figure.axes[0].containers
    points, _, (bars,) = container
    return points.get_ydata(), np.array([np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()])


def test_of_seeds():
    test = torch.randn(5, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    task = Task(torch.ones(3, 1), torch.randn(3, 2), torch.ones(4, 1), torch.randn(4, 2))
    spread = SeedSpread(task, test, torch.zeros(5), test.argmax(dim=2), 0.0)
    means, halves = drawn(seeds_figure(spread))
    order = test.mean(dim=0).reshape(-1).argsort()
    np.testing.assert_allclose(means, test.mean(dim=0).reshape(-1)[order])
    np.testing.assert_allclose(halves, test.std(dim=0).reshape(-1)[order])


def test_of_classes_the_margins_of_the_true_one():
    test = torch.randn(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y_test = torch.tensor([0, 2, 1, 1])
    task = Task(torch.ones(3, 1), torch.arange(3), torch.ones(4, 1), y_test, torch.nn.CrossEntropyLoss())
    spread = SeedSpread(task, test, torch.zeros(5), test.argmax(dim=2), 0.0)
    margins = torch.stack(
        [test[:, i, y] - test[:, i, [k for k in range(3) if k != y]].amax(1) for i, y in enumerate(y_test.tolist())], 1
    )
    figure = seeds_figure(spread)
    means, halves = drawn(figure)
    order = margins.mean(dim=0).argsort()
    np.testing.assert_allclose(means, margins.mean(dim=0)[order])
    np.testing.assert_allclose(halves, margins.std(dim=0)[order])
    assert figure.axes[0].get_xlabel() == "margins at test points, ascending"


def test_of_infinitely_wide_networks():
    """All outputs of a point have the same standard deviation."""
    mean = torch.tensor([[3.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    covariance = torch.tensor([[0.25, 0.1], [0.1, 4.0]], dtype=torch.float64)
    prediction = InfinitePrediction(mean, covariance, mean, math.inf, False, math.inf, 2, 0.0)
    means, halves = drawn(infinite_figure(prediction))
    np.testing.assert_allclose(means, [0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(halves, [0.5, 2.0, 2.0, 0.5])

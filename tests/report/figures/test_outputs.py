"""The outputs over initializations: each mean with its own standard deviation, in ascending order."""

from __future__ import annotations

import math

import numpy as np
import torch

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
    spread = SeedSpread(test, None, torch.zeros(5), test.argmax(dim=2), 0.0)
    means, halves = drawn(seeds_figure(spread))
    order = test.mean(dim=0).reshape(-1).argsort()
    np.testing.assert_allclose(means, test.mean(dim=0).reshape(-1)[order])
    np.testing.assert_allclose(halves, test.std(dim=0).reshape(-1)[order])


def test_of_infinitely_wide_networks():
    """All outputs of a point have the same standard deviation."""
    mean = torch.tensor([[3.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    covariance = torch.tensor([[0.25, 0.1], [0.1, 4.0]], dtype=torch.float64)
    prediction = InfinitePrediction(mean, covariance, mean, math.inf, False, math.inf, 2, 0.0)
    means, halves = drawn(infinite_figure(prediction))
    np.testing.assert_allclose(means, [0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(halves, [0.5, 2.0, 2.0, 0.5])

"""Ticks of logarithmic axes are few, and none of their labels covers another."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from whichmin.report.axes import logarithmic, logarithmic_fine


@pytest.mark.parametrize(("low", "high"), [(0.14, 0.36), (0.9, 1.1), (0.03, 0.2), (1e-3, 10.0), (1e-9, 1e3)])
def test_labels_of_a_logarithmic_axis_stand_apart(low, high):
    figure = Figure(figsize=(3.7, 2.5), dpi=100)
    ax = figure.add_subplot()
    ax.set_xlim(low, high)
    logarithmic_fine(ax, "x")
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text() and low <= t.get_position()[0] <= high]
    assert 2 <= len(boxes) <= 9
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


@pytest.mark.parametrize(("low", "high"), [(0.65, 1.1), (1.0, 40.0), (1e-3, 1e3)])
def test_a_logarithmic_axis_has_several_labels_whatever_it_spans(low, high):
    ax = Figure(figsize=(4.6, 3.3), dpi=100).add_subplot()
    ax.plot([low, high], [low, high])
    logarithmic(ax, "y")
    ax.figure.canvas.draw()
    assert sum(bool(t.get_text()) and low <= t.get_position()[1] <= high for t in ax.get_yticklabels()) >= 3

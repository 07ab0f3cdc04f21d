"""The figure of a comparison shows its distances and what they may be off by."""

from __future__ import annotations

import numpy as np
import pytest

from oracles.builders import make_comparison
from whichmin.report.figures import distances
from whichmin.report.figures.distances import distances_figure
from whichmin.report.palette import RELINEARIZED, TRAINED

SHIFTS = {"gd": 0.0, "adam": 1.5, "rmsprop": 0.5, "again": 0.0}


def names_of(ax) -> list[tuple[str, str]]:
    one, other = zip(*(label.get_text().split(" – ") for label in ax.get_yticklabels()), strict=True)
    return list(zip(one, other, strict=True))


@pytest.mark.parametrize("trained", [True, False])
def test_distances_have_their_own_intervals_and_errors(trained):
    comparison = make_comparison(trained, shifts=SHIFTS)
    (ax,) = distances_figure(comparison).axes
    names = names_of(ax)
    means = [comparison.pairs[pair].best.paired.distance.mean for pair in names]
    assert len(names) == 6
    assert means == sorted(means)
    kinds = ("predicted", "trained") if trained else ("predicted",)
    shown = [(kind, question) for kind in kinds for question in ("paired", "systematic")]
    labels = [kind if question == "paired" else f"{kind}, shared by all seeds" for kind, question in shown]
    assert [container.get_label() for container in ax.containers] == labels
    for (kind, question), container in zip(shown, ax.containers, strict=True):
        found = [getattr(getattr(comparison.pairs[pair], kind), question).distance for pair in names]
        points, _, (bars,) = container
        np.testing.assert_allclose(points.get_xdata(), [e.mean for e in found])
        assert np.abs(points.get_ydata() - np.arange(6)).max() < 0.5
        assert points.get_color() == {"predicted": RELINEARIZED, "trained": TRAINED}[kind]
        intervals = [(e.low, e.high) for e in found]
        np.testing.assert_allclose([segment[:, 0] for segment in bars.get_segments()], intervals)
    (errors,) = [line for line in ax.lines if line.get_label() == "error of the predictions"]
    np.testing.assert_allclose(errors.get_xdata(), [comparison.pairs[pair].predicted.paired.error for pair in names])
    np.testing.assert_allclose(errors.get_ydata(), ax.containers[0][0].get_ydata())


def test_of_many_pairs_the_furthest_are_drawn(monkeypatch):
    monkeypatch.setattr(distances, "MOST", 2)
    comparison = make_comparison(shifts=SHIFTS)
    (ax,) = distances_figure(comparison).axes
    furthest = sorted(comparison.pairs, key=lambda pair: comparison.pairs[pair].best.paired.distance.mean)[-2:]
    assert names_of(ax) == furthest


def test_nothing_is_drawn_of_nothing():
    assert distances_figure(make_comparison(seeds=1)) is None

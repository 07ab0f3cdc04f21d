"""The figures of remedies show the losses of the result."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from oracles.builders import make_mitigation
from whichmin.report.figures.remedies import remedies_figure
from whichmin.report.figures.scale_search import search_figure


def losses(made, kind: str) -> list[float]:
    parts = [getattr(r, kind) for r in reversed(made.remedies)]
    return [made.validation.test_loss(part.validation) for part in parts if part is not None]


def shifted(outputs: Tensor, y: Tensor, by: float) -> Tensor:
    return (outputs - y).square().mean() - by


def test_each_method_has_its_losses():
    made = make_mitigation()
    (ax,) = remedies_figure(made).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["centered", "scale search", "as it is"]
    for container, kind in zip(ax.containers, ("predicted", "trained"), strict=True):
        assert container.get_label() == kind
        np.testing.assert_allclose(container.lines[0].get_xdata(), losses(made, kind))
    floor = made.validation.test_loss(made.interpolant.validation)
    assert any(np.allclose(line.get_xdata(), floor) for line in ax.lines)


def test_losses_below_zero_are_on_an_axis_that_has_them():
    """Poisson's loss, without a constant, is below zero for large targets."""
    made = make_mitigation()
    loss = partial(shifted, by=0.18)
    made = replace(made, validation=replace(made.validation, loss=loss), task=replace(made.task, loss=loss))
    assert min(losses(made, "predicted")) < 0 < max(losses(made, "predicted"))
    (bars,), (search,) = remedies_figure(made).axes, search_figure(made).axes
    assert bars.get_xscale() == search.get_yscale() == "linear"
    for container, kind in zip(bars.containers, ("predicted", "trained"), strict=True):
        np.testing.assert_allclose(container.lines[0].get_xdata(), losses(made, kind))


def test_without_training_there_is_one_kind():
    (ax,) = remedies_figure(make_mitigation(train=False)).axes
    assert [container.get_label() for container in ax.containers] == ["predicted"]


def test_the_search_curve_has_all_scales_and_the_choice():
    made = make_mitigation()
    search = made["scale_search"].search
    (ax,) = search_figure(made).axes
    curve = next(line for line in ax.lines if line.get_label() == "predicted")
    np.testing.assert_allclose(curve.get_xdata(), search.scales)
    np.testing.assert_allclose(curve.get_ydata(), search.losses)
    assert any(list(line.get_xdata()) == [search.scale] for line in ax.lines)


def test_without_a_search_there_is_no_curve():
    assert search_figure(make_mitigation(losses={"as_it_is": 0.1, "centered": 0.2})) is None

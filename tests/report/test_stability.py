"""The limit of stability that a report speaks of is that of the optimizer which trained."""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np
import pytest
import torch

import whichmin as wm
from oracles.builders import make_entry
from oracles.comparisons import network, problem
from oracles.pages import Page
from whichmin.report import Entry
from whichmin.report.entry_view import entry_views
from whichmin.report.figures.spectrum import spectrum_figure
from whichmin.report.numbers import number, percent
from whichmin.report.pages.entries import entries_page
from whichmin.report.stability import stabilities

SGD = torch.optim.SGD
#: The limit over that of gradient descent, 2/(γ λ_max): heavy ball 1 + μ, Nesterov's constant factor (1 + μ)/(1 + 2μ).
LIMITS = {
    "plain": (partial(SGD, lr=0.1), 1.0),
    "heavy ball": (partial(SGD, lr=0.1, momentum=0.5), 1.5),
    "nesterov": (partial(SGD, lr=0.1, momentum=0.5, nesterov=True), 1.5 / 2.0),
    "dampened": (partial(SGD, lr=0.1, momentum=0.5, dampening=0.5), 3.0),
    "mini-batches": (partial(SGD, lr=0.1, momentum=0.5), 1.5),
}
UNKNOWN = {"adam": partial(torch.optim.Adam, lr=1e-3), "rprop": partial(torch.optim.Rprop, lr=1e-3)}


def entry(factory, **arguments) -> Entry:
    prediction = wm.predict(network(0), problem(), factory, steps=5, relinearize="never", **arguments)
    return Entry("seed 0", linearized=prediction)


@pytest.mark.parametrize("name", LIMITS)
def test_the_prediction_carries_the_limit_of_its_own_optimizer(name):
    factory, part = LIMITS[name]
    prediction = entry(factory, batch_size=4 if name == "mini-batches" else None).linearized
    largest = float(prediction.eigenvalues[0])
    gamma = 2 / problem().y.numel()
    assert prediction.limit == pytest.approx(part * 2 / (gamma * largest), rel=1e-9)
    assert prediction.max_lr == pytest.approx(2 / (gamma * largest), rel=1e-9)
    assert prediction.optimizer == "SGD"


@pytest.mark.parametrize("name", LIMITS)
def test_beyond_the_limit_the_linearized_network_diverges(name):
    factory, _ = LIMITS[name]
    limit = entry(factory).linearized.limit
    settings = factory.keywords
    entry(partial(SGD, **settings | {"lr": 0.999 * limit}))
    with pytest.raises(wm.errors.DivergenceError):
        entry(partial(SGD, **settings | {"lr": 1.001 * limit}))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", LIMITS)
def test_the_report_tells_it(name):
    factory, _ = LIMITS[name]
    shown = entry(factory)
    prediction = shown.linearized
    words = Page(entries_page([shown])).section("training").replace("\u00a0", " ")
    used = percent(0.1 / prediction.limit).replace("\u00a0", " ")
    edge = number(float(prediction.eigenvalues[0]) * prediction.limit / 0.1)
    assert (
        f"SGD is stable up to a learning rate of {number(prediction.limit)}; the one used is {used} of that." in words
    )
    assert f"eigenvalues above {edge}, the red line, would diverge" in words
    assert "the learning rate’s limit" in words


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", UNKNOWN)
def test_of_an_optimizer_without_a_limit_nothing_is_said(name):
    shown = entry(UNKNOWN[name])
    assert shown.linearized.limit is None
    assert stabilities(entry_views([shown])) == {}
    words = Page(entries_page([shown])).section("training")
    assert "stable up to" not in words
    assert "limit" not in words
    assert "effective rank" in words


def test_of_a_flow_nothing_is_said():
    shown = entry(partial(SGD, lr=0.1, momentum=0.5), flow=True)
    assert shown.linearized.limit == math.inf
    assert stabilities(entry_views([shown])) == {}


def test_in_a_metric_nothing_is_said_of_the_kernel():
    def preconditioned(parameters):
        parameters = list(parameters)
        return wm.optimizers.Preconditioned(parameters, lr=0.1, metric=[torch.full_like(p, 2.0) for p in parameters])

    assert entry(preconditioned).linearized.limit is None


@pytest.mark.usefixtures("undrawn")
def test_a_rate_far_below_its_limit_is_not_drawn():
    shown = entry(partial(SGD, lr=1e-3))
    words = Page(entries_page([shown])).section("training")
    assert "stable up to" in words
    assert "red line" not in words
    assert "the learning rate’s limit" not in words


@pytest.mark.usefixtures("undrawn")
def test_optimizers_beside_each_other_have_their_own():
    entries = [
        Entry(f"{name}, seed 0", linearized=entry(factory).linearized, optimizer=name, member="seed 0")
        for name, factory in {"sgd": SGD_PLAIN, "sgd momentum=0.5": LIMITS["heavy ball"][0], **UNKNOWN}.items()
    ]
    views = entry_views(entries)
    found = stabilities(views)
    assert list(found) == ["sgd", "sgd momentum=0.5"]
    assert found["sgd momentum=0.5"].limit == pytest.approx(1.5 * found["sgd"].limit)
    lines = [line.get_ydata()[0] for line in spectrum_figure(views).axes[0].lines if len(set(line.get_ydata())) == 1]
    np.testing.assert_allclose(lines, [stability.largest_eigenvalue for stability in found.values()])
    words = Page(entries_page(entries)).words
    assert "sgd is stable up to" in words
    assert "sgd momentum=0.5 is stable up to" in words
    assert "adam is stable" not in words


SGD_PLAIN = LIMITS["plain"][0]


def test_means_are_over_the_entries():
    stability = stabilities(entry_views([make_entry(0), make_entry(1)]))[""]
    assert (stability.limit, stability.fraction) == (0.9, pytest.approx(0.4 / 0.9))
    assert stability.largest_eigenvalue == pytest.approx(100 * 0.9 / 0.4)


def test_means_are_of_each_number_and_not_of_their_parts():
    whole, parts = make_entry(), [(0.5, 0.1, 8.0), (2.0, 1.0, 3.0)]
    entries = [
        Entry(
            "a",
            linearized=dataclasses.replace(
                whole.linearized,
                limit=limit,
                learning_rate=lr,
                eigenvalues=torch.tensor([largest, 0.5], dtype=torch.float64),
            ),
        )
        for limit, lr, largest in parts
    ]
    stability = stabilities(entry_views(entries))[""]
    assert stability.limit == pytest.approx(1.25)
    assert stability.fraction == pytest.approx((0.2 + 0.5) / 2)
    assert stability.largest_eigenvalue == pytest.approx((8.0 / 0.2 + 3.0 / 0.5) / 2)

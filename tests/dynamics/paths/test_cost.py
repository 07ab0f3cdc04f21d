"""A kernel that fits is not formed where the few products that a linearization takes are had in less time."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import mlp_problem, sgd
from whichmin.dynamics.paths import cost, position
from whichmin.dynamics.paths.cost import LARGEST_EIGENVALUE, MANY_STEPS, are_products_cheaper, products_of


@pytest.fixture
def slow_kernels(monkeypatch):
    """Kernels count as slow ones; the seconds that were asked for are told."""
    told = []
    monkeypatch.setattr(position, "seconds_of_kernel", lambda *args: told.append(args) or 1e6)
    return told


def test_of_many_steps_no_more_products_are_taken():
    assert products_of(3.0) == 3 + LARGEST_EIGENVALUE
    assert products_of(1e9) == MANY_STEPS + LARGEST_EIGENVALUE
    assert products_of(math.inf) == math.inf


def test_one_product_is_timed_and_none_where_it_does_not_matter(monkeypatch):
    now, made = [0.0], []

    def product():
        made.append(1)
        now[0] += 0.1

    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
    assert are_products_cheaper(100, 20.1, product), "10 s are half of that"
    assert not are_products_cheaper(100, 19.9, product)
    assert len(made) == 2
    assert not are_products_cheaper(math.inf, 1e9, product)
    assert not are_products_cheaper(1, 1.9, product)
    assert len(made) == 2


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_outputs_are_the_same_and_terms_are_made_later(slow_kernels, momentum):
    model, task = mlp_problem((4, 30), 8, 2)
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=momentum)
    found = wm.predict(model, task, optimizer, steps=50, relinearize="never")
    assert len(slow_kernels) == 1
    assert any("is not formed: about 98 products" in note for note in found.notes)
    slow_kernels.clear()
    held = wm.predict(model, task, optimizer, steps=50, relinearize="path", tol=1e6)
    assert held.method == "linearized"
    torch.testing.assert_close(found.test, held.test, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.train, held.train, rtol=1e-9, atol=1e-9)
    assert found.error == pytest.approx(held.error, rel=1e-3)
    assert not slow_kernels
    assert set(found.terms) == set(held.terms)
    for name, term in held.terms.items():
        torch.testing.assert_close(found.terms[name], term, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(sum(found.terms.values()), found.test, rtol=1e-10, atol=1e-10)
    assert found.max_lr == pytest.approx(held.max_lr, rel=1e-10)
    torch.testing.assert_close(found.eigenvalues, held.eigenvalues, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    "asked",
    [
        {"batch_size": 4},
        {"steps": None},
        {"until": 0.5},
        {"relinearize": "path"},
        {"optimizer": partial(torch.optim.Adam, lr=1e-3)},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_where_more_is_asked_of_a_kernel_it_is_formed(slow_kernels, asked):
    model, task = mlp_problem((4, 30), 8, 2)
    settings = {"optimizer": sgd(0.05), "steps": 20, "relinearize": "never"} | asked
    found = wm.predict(model, task, settings.pop("optimizer"), **settings)
    assert not any("is not formed" in note for note in found.notes)


def test_of_more_outputs_than_parameters_it_is_formed(slow_kernels):
    model, task = mlp_problem((2, 2), 20)
    found = wm.predict(model, task, sgd(0.05), steps=20, relinearize="never")
    assert not slow_kernels
    assert not any("is not formed" in note for note in found.notes)

"""Measurements of the figures: networks that training leaves unfitted are told from others."""

from __future__ import annotations

import pytest

from whichmin.papers.measure import minimizer

SETTINGS = {
    "kind": "trained", "data": "digits", "n_train": 20, "n_test": 10, "width": 16, "depth": 1, "scale": 1.0, "seed": 0,
    "until": None,
}  # fmt: skip


@pytest.mark.parametrize("loss", ["MSELoss", "CrossEntropyLoss"])
@pytest.mark.parametrize(("lr", "fitted"), [("0.3", True), ("1e-6", False)])
def test_a_network_that_has_not_learned_is_unfitted(loss, lr, fitted):
    measured = minimizer(**SETTINGS, optimizer=f"sgd:lr={lr}", steps=100, loss=loss)
    assert measured.numbers["fitted"] is fitted


def test_a_network_that_died_is_unfitted():
    """At a rate far beyond the limit of stability all rectifiers are off at once: a loss of 1 for targets of ±1."""
    measured = minimizer(**SETTINGS, optimizer="sgd:lr=30", steps=100)
    assert measured.numbers["train_loss"] == pytest.approx(1.0, abs=0.05)
    assert measured.numbers["fitted"] is False

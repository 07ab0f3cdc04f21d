"""Measurements of the figures: networks that training leaves unfitted are told from others."""

from __future__ import annotations

import pytest

from whichmin.papers.figure import Size
from whichmin.papers.measure import minimizer
from whichmin.papers.registry import find

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


def test_wide_networks_of_two_hidden_layers_are_trained_on_a_gpu():
    (figure,) = find(["which-minimizer/fig2"])
    for device, trained in (("cpu", {1024}), ("cuda", {1024, 4096})):
        cells = [cell.arguments for cell in figure.cells(Size(quick=False, data="digits", device=device))]
        deep = [cell for cell in cells if cell.get("depth") == 2]
        assert {cell["width"] for cell in deep if cell["kind"] == "trained"} == trained
        assert {cell["width"] for cell in deep if cell["kind"] == "predicted"} == {1024, 4096}
        assert {cell.get("device") for cell in deep if (cell["kind"], cell["width"]) == ("trained", 4096)} <= {"cuda"}
        assert not any("device" in cell for cell in cells if cell["width"] < 4096 or cell["kind"] == "predicted")

"""The network that is moved: its start with all checks, and what follows when layers are contracted wrongly."""

from __future__ import annotations

import logging

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import distance, jacobian, mlp_problem, sgd
from oracles.odd_networks import KINDS
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.tangent.layers.dense import Dense
from whichmin.tangent.layers.matrix_products import MatrixProducts
from whichmin.tangent.memory import Memory


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_start(outputs):
    model, task = mlp_problem((4, 9), 6, outputs)
    network = MovingNetwork(model, task)
    features, spectrum = network.start()
    J = jacobian(model, task.X)
    assert distance(torch.from_numpy(spectrum.kernel), J @ J.T) < 1e-10
    assert distance(features.outputs.detach(), model(task.X).detach()) < 1e-12
    assert network.size == J.shape[1]


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_wrong_kernel_of_layers_is_noticed(outputs, monkeypatch, caplog):
    model, task = mlp_problem((4, 9), 6, outputs)
    truth = wm.predict(model, task, sgd(0.05), steps=30, relinearize=6)
    real = Dense.add_gram
    monkeypatch.setattr(Dense, "add_gram", lambda self, K, u, v, weight, grams: real(self, K, u, v, 1.01, grams))
    network = MovingNetwork(model, task)
    with caplog.at_level(logging.WARNING, logger="whichmin"):
        _, spectrum = network.start()
    assert "differs from plain autograd" in caplog.text
    J = jacobian(model, task.X)
    assert distance(torch.from_numpy(spectrum.kernel), J @ J.T) < 1e-10
    found = wm.predict(model, task, sgd(0.05), steps=30, relinearize=6)
    assert distance(found.test, truth.test) < 1e-10


@pytest.mark.parametrize("name", KINDS)
def test_its_directions_are_those_of_plain_autograd(name):
    """What moves the parameters, whichever layers are followed by their outputs."""
    kind = KINDS[name]
    X, model = kind.rows(8), kind.model()
    y = model(X.clone()).detach().reshape(8, -1)
    network = MovingNetwork(model, wm.Task(X, torch.randn_like(y), kind.rows(5, 1)))
    features, _ = network.start()
    c = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
    outputs = network.model(X.clone()).reshape(8, -1)
    plain = torch.autograd.grad(outputs, list(network.parameters.values()), c, allow_unused=True)
    before = network.position().values
    network.shift(features.pull(c), 1.0)
    network.settle()
    for (name, value), g in zip(network.position().values.items(), plain, strict=True):
        moved = value - before[name]
        torch.testing.assert_close(moved, torch.zeros_like(moved) if g is None else g, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "on disk"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_wrong_directions_are_noticed(outputs, on_disk, monkeypatch, caplog, tmp_path):
    model, task = mlp_problem((4, 9), 6, outputs)
    real = MatrixProducts.step
    monkeypatch.setattr(MatrixProducts, "step", lambda self, c, rows=None: real(self, c, rows).flip(0))
    network = MovingNetwork(model, task, Memory(1, tmp_path / "K") if on_disk else None)
    with caplog.at_level(logging.WARNING, logger="whichmin"):
        features, _ = network.start()
    assert "differs from plain autograd" in caplog.text
    c = torch.randn(6, outputs, dtype=torch.float64)
    plain = torch.autograd.grad(network.model(task.X), list(network.parameters.values()), c)
    pulled = features.pull(c).tensors
    for name, g in zip(network.parameters, plain, strict=True):
        assert distance(pulled[name], g) < 1e-10


@pytest.mark.parametrize("metric", [False, True], ids=["plain", "metric"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_the_gradient_of_an_eigenvalue(outputs, metric):
    """Against finite differences of vᵀK v, K = J D Jᵀ, along it."""
    model, task = mlp_problem((4, 9), 6, outputs)
    network = MovingNetwork(model, task)
    network.start()
    g = torch.Generator().manual_seed(0)
    v = torch.randn(6 * outputs, dtype=torch.float64, generator=g)
    v /= v.norm()
    D = None
    if metric:
        D = {n: 0.2 + torch.rand(p.shape, dtype=p.dtype, generator=g) for n, p in network.parameters.items()}
        network.release()
    gradient = network.eigenvalue_gradient(v, D)
    here, step, values = network.position(), 1e-5, []
    for by in (step, -step):
        network.shift(gradient, by)
        values.append(float(v @ network.features().gram(metric=D) @ v))
        network.put(here)
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(gradient.square(), rel=1e-6)

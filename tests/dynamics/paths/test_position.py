"""The network that is moved: its start with all checks, and what follows when layers are contracted wrongly."""

from __future__ import annotations

import logging

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import distance, jacobian, mlp_problem, sgd
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.tangent.layers.dense import Dense


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

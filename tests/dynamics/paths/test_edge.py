"""Back to the edge of stability: the largest eigenvalue comes down to just below the limit of the step's rate."""

from __future__ import annotations

import pytest
import torch

from oracles.linear_rules import mlp_problem
from whichmin.dynamics.paths.edge import BELOW_EDGE, SLACK, back_to_the_edge
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.recipe.schedule import Schedule


def outgrown(part: float, metric: bool = False, rates=lambda k: 1.0):
    """A network, its features and metric, and gradient descent whose limit at step 7 is this part of λ_max."""
    model, task = mlp_problem((4, 12), 6, 2)
    network = MovingNetwork(model, task)
    features, spectrum = network.start()
    D = {n: 0.5 + p.detach().abs() for n, p in network.parameters.items()} if metric else None
    if metric:
        network.release()
        features = network.features()
        spectrum = network.spectrum(features, D)
    largest, objective = float(spectrum.eigenvalues[0]), task.objective
    lr = 2 / (objective.gamma * part * largest) / rates(7)
    rule = GradientDescent(lr, schedule=Schedule(lr=lambda k: lr * rates(k)))
    return network, rule, objective, features, D, largest


@pytest.mark.parametrize("metric", [False, True])
@pytest.mark.parametrize("rates", [lambda k: 1.0, lambda k: 1.0 + k, lambda k: 1.0 / (1 + k)])
def test_it_is_brought_back_to_the_limit_of_the_step(metric, rates):
    network, rule, objective, features, D, largest = outgrown(0.95, metric, rates)
    before = network.values()
    after, spectrum, beyond = back_to_the_edge(network, rule, objective, 7.0, features, metric=D)
    assert beyond
    assert 0.97 * BELOW_EDGE * 0.95 * largest < float(spectrum.eigenvalues[0]) <= SLACK * 0.95 * largest
    now = network.spectrum(network.features(), D)
    torch.testing.assert_close(now.eigenvalues, spectrum.eigenvalues)
    torch.testing.assert_close(after.outputs, network.outputs(network.task.X))
    moved = sum(float((v - before[n]).square().sum()) for n, v in network.values().items())
    assert 0 < moved < 1e-2 * sum(float(v.square().sum()) for v in before.values())


@pytest.mark.parametrize("part", [1.0, 1.05])
def test_within_the_limit_nothing_is_moved(part):
    network, rule, objective, features, _, _ = outgrown(part)
    before = network.values()
    after, _, beyond = back_to_the_edge(network, rule, objective, 7.0, features)
    assert not beyond
    assert after is features
    assert all(torch.equal(v, before[n]) for n, v in network.values().items())


def test_without_projection_it_is_only_said():
    network, rule, objective, features, _, largest = outgrown(0.9)
    before = network.values()
    _, spectrum, beyond = back_to_the_edge(network, rule, objective, 7.0, features, project=False)
    assert beyond
    assert float(spectrum.eigenvalues[0]) == pytest.approx(largest, rel=1e-12)
    assert all(torch.equal(v, before[n]) for n, v in network.values().items())

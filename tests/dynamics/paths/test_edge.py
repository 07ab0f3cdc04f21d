"""Back to the edge of stability: the largest eigenvalue comes down to just below the limit of the step's rate."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import BEST, mlp_problem
from whichmin.dynamics.paths.edge import BELOW_EDGE, SLACK, back_to_the_edge, largest_eigenvalue
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.dynamics.rules.momentum import Momentum
from whichmin.kernels.spectrum import undecomposed
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
    found = back_to_the_edge(network, rule, objective, 7.0, features, metric=D)
    after, spectrum = found.features, found.spectrum
    assert found.is_beyond
    assert found.taken_back > 0
    assert 0.97 * BELOW_EDGE * 0.95 * largest < float(spectrum.eigenvalues[0]) <= SLACK * 0.95 * largest
    now = network.spectrum(network.features(), D)
    torch.testing.assert_close(now.eigenvalues, spectrum.eigenvalues)
    torch.testing.assert_close(after.outputs, network.outputs(network.task.X))
    moved = sum(float((v - before[n]).square().sum()) for n, v in network.values().items())
    assert 0 < moved < 1e-2 * sum(float(v.square().sum()) for v in before.values())


@pytest.mark.parametrize("part", [0.9, 0.88])
def test_far_beyond_the_limit_one_gradient_is_enough(monkeypatch, part):
    """The steps after Newton's are secants, which take no second derivatives."""
    network, rule, objective, features, _, largest = outgrown(part)
    gradient, taken, looked = network.eigenvalue_gradient, [], []
    monkeypatch.setattr(network, "eigenvalue_gradient", lambda *args: taken.append(args) or gradient(*args))
    spectrum_of = network.spectrum
    monkeypatch.setattr(network, "spectrum", lambda *args: looked.append(args) or spectrum_of(*args))
    spectrum = back_to_the_edge(network, rule, objective, 7.0, features).spectrum
    assert len(taken) == 1
    assert len(looked) > 2, "Newton's step alone does not get there"
    assert 0.97 * BELOW_EDGE * part * largest < spectrum.largest <= SLACK * part * largest


@pytest.mark.parametrize("metric", [False, True])
def test_beyond_the_limit_a_large_kernel_is_formed_only_where_it_is_back(monkeypatch, metric):
    monkeypatch.setattr("whichmin.dynamics.paths.edge.FORMED_FIRST", 0)
    network, rule, objective, features, D, largest = outgrown(0.95, metric)
    top = network.spectrum(features, D).top_vector
    near = top + 0.3 * torch.randn(len(top), generator=torch.Generator().manual_seed(0)).to(top)
    moved, shift, spectrum_of = [], network.shift, network.spectrum
    monkeypatch.setattr(network, "shift", lambda *args: moved.append(args) or shift(*args))
    monkeypatch.setattr(network, "spectrum", lambda *args: spectrum_of(*args) if moved else pytest.fail("too early"))
    found = back_to_the_edge(network, rule, objective, 7.0, features, metric=D, near=near)
    assert found.is_beyond
    assert 0.97 * BELOW_EDGE * 0.95 * largest < found.spectrum.largest <= SLACK * 0.95 * largest


@pytest.mark.parametrize("part", [0.9999, 1.05])
def test_what_two_products_do_not_tell_the_kernel_does(monkeypatch, part):
    """From a vector that is far from the eigenvector they tell less than the largest eigenvalue."""
    monkeypatch.setattr("whichmin.dynamics.paths.edge.FORMED_FIRST", 0)
    network, rule, objective, features, _, largest = outgrown(part)
    far = network.spectrum(features).vectors[:, -1]
    found = back_to_the_edge(network, rule, objective, 7.0, features, near=far)
    assert found.is_beyond is (part < 1)
    assert found.spectrum.largest <= SLACK * part * largest


@pytest.mark.parametrize("part", [1.0, 1.05])
def test_within_the_limit_nothing_is_moved(part):
    network, rule, objective, features, _, _ = outgrown(part)
    before = network.values()
    found = back_to_the_edge(network, rule, objective, 7.0, features)
    assert not found.is_beyond
    assert found.taken_back == 0
    assert found.features is features
    assert all(torch.equal(v, before[n]) for n, v in network.values().items())


def test_without_projection_it_is_only_said():
    network, rule, objective, features, _, largest = outgrown(0.9)
    before = network.values()
    found = back_to_the_edge(network, rule, objective, 7.0, features, project=False)
    assert found.is_beyond
    assert found.taken_back == 0
    assert float(found.spectrum.eigenvalues[0]) == pytest.approx(largest, rel=1e-12)
    assert all(torch.equal(v, before[n]) for n, v in network.values().items())


def test_what_is_taken_back_is_a_length_along_the_gradient_in_the_metric():
    """λ_max falls by ∇λ·D ∇λ a unit of it, to first order."""
    network, rule, objective, features, D, largest = outgrown(0.995, metric=True)
    gradient = network.eigenvalue_gradient(network.spectrum(features, D).top_vector, D)
    found = back_to_the_edge(network, rule, objective, 7.0, features, metric=D)
    assert found.taken_back * gradient.square(D) == pytest.approx(largest * (1 - BELOW_EDGE * 0.995), rel=0.05)


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


@pytest.mark.parametrize("steps", [40, 80, 160])
def test_how_far_outputs_swing_at_the_edge_is_known_and_in_the_error(steps):
    """Half of the difference of two steps of real training, whose average is what the path follows."""
    model, task = mlp_problem((8, 60), 40, seed=1, bias_std=0.1, n_test=20)
    lr = 0.95 * wm.predict(model, task, BEST, steps=2, relinearize="never").max_lr
    optimizer = partial(torch.optim.SGD, lr=lr)
    one, next_one = (wm.train(model, task, optimizer, steps=k, until=None).test for k in (steps, steps + 1))
    found = wm.predict(model, task, optimizer, steps=steps, relinearize=24)
    note = next(note for note in found.notes if "outputs swing about it by" in note)
    swing, half = float(note.split("swing about it by ")[1].split(",")[0]), apart(one, next_one) / 2
    assert half > 0.05
    assert 0.7 * half < swing < 1.8 * half
    assert found.error >= 0.95 * swing, "which the note rounds"
    assert apart(found.test, one) < 1.5 * found.error
    assert apart(found.test, (one + next_one) / 2) < 0.5 * found.error, "of the average it is much surer"


@pytest.mark.parametrize("metric", [False, True])
@pytest.mark.parametrize("convolved", [False, True])
def test_the_largest_eigenvalue_from_products(monkeypatch, metric, convolved):
    """Of many outputs no kernel is formed: λ_max to a thousandth from products with J and Jᵀ."""
    network, _, _, features, D, _ = outgrown(0.95, metric)
    if convolved:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv1d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)).double()
        X = torch.randn(8, 1, 6, dtype=torch.float64)
        network = MovingNetwork(model, wm.Task(X, torch.randn(8, 2, dtype=torch.float64)))
        features, _ = network.start()
        D = {n: 0.5 + p.detach().abs() for n, p in network.parameters.items()} if metric else None
    formed = largest_eigenvalue(features, D)
    monkeypatch.setattr("whichmin.dynamics.paths.edge.FORMED", 4)
    assert largest_eigenvalue(features, D) == pytest.approx(formed, rel=1e-3)


def test_a_dead_network_has_none():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    for p in model.parameters():
        nn.init.zeros_(p)
    nn.init.constant_(model[0].bias, -1.0)
    alive = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1, bias=False)).double()
    network = MovingNetwork(alive, wm.Task(torch.randn(5, 3).double(), torch.randn(5).double()))
    network.start()
    network.model.load_state_dict(model.state_dict())
    assert largest_eigenvalue(network.features()) == 0


@pytest.mark.parametrize("metric", [False, True])
def test_the_largest_eigenvalue_beside_a_vector(monkeypatch, metric):
    """From any vector, its own or another one."""
    _, _, _, features, D, _ = outgrown(0.95, metric)
    values, Q = torch.linalg.eigh(features.gram(metric=D))
    monkeypatch.setattr("whichmin.dynamics.paths.edge.FORMED_BESIDE", 4)
    for vector in (Q[:, -1], Q[:, 0], torch.ones(len(Q)).double()):
        assert largest_eigenvalue(features, D, vector.numpy()) == pytest.approx(float(values[-1]), rel=2e-3)


@pytest.mark.parametrize("which", [-1, 0, 5])
def test_a_search_beside_an_eigenvector_finds_the_largest(which):
    g = torch.Generator().manual_seed(0)
    A = torch.randn(40, 60, generator=g, dtype=torch.float64)
    values, Q = torch.linalg.eigh(A @ A.T)
    found = undecomposed(A @ A.T, 1.0, 1e-16, 8, near=Q[:, which].numpy())
    assert found.largest == pytest.approx(float(values[-1]), rel=1e-12)
    assert abs(float(found.top_vector @ Q[:, -1])) == pytest.approx(1.0, abs=1e-8)


def test_momentum_drifts_by_its_rate_over_what_it_forgets():
    """Against a gradient that stays 1, run step by step."""
    for rule in (GradientDescent(0.1), Momentum(0.1, momentum=0.8), Momentum(0.1, momentum=0.8, nesterov=True)):
        A, B = rule.step(0)
        state = np.zeros(len(B))
        for _ in range(200):
            before, state = state, A @ state + B
        assert rule.drift(0) == pytest.approx(before[0] - state[0], rel=1e-10)
    assert Momentum(0.1, momentum=0.8).drift(0) == pytest.approx(0.5)

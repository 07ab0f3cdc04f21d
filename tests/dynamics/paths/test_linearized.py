"""One linearization against the linearized network trained step by step in weight space."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import whichmin as wm
from oracles.linear_rules import BEST, Dense, distance, flat, problem, sgd
from whichmin.dynamics.prepare import prepare
from whichmin.recipe.recipe import Recipe

KINDS = pytest.mark.parametrize("kind", ["over", "under"])
OUTPUTS = pytest.mark.parametrize("outputs", [1, 3])


def lazy(model, task, optimizer=BEST, **arguments):
    return wm.predict(model, task, optimizer, relinearize="never", **arguments)


@KINDS
@OUTPUTS
@pytest.mark.parametrize("steps", [0, 1, 7, 1000])
def test_steps_are_those_of_a_loop_in_weight_space(kind, outputs, steps):
    model, task = problem(kind, outputs)
    dense = Dense.of(model, task)
    prediction = lazy(model, task, steps=steps)
    delta = dense.descend(prediction.learning_rate, steps)
    train, test = dense.outputs(delta)
    assert prediction.train.shape == task.y.shape
    assert prediction.test.shape == (task.n_test, outputs)
    assert distance(prediction.train, train) < 1e-10
    assert distance(prediction.test, test) < 1e-10
    assert distance(flat(prediction.parameters(), model), dense.theta + delta) < 1e-10


@OUTPUTS
def test_the_limit_with_enough_parameters_is_the_nearest_interpolator(outputs):
    model, task = problem("over", outputs)
    dense = Dense.of(model, task)
    assert dense.J.shape[1] > len(dense.y)
    prediction = lazy(model, task)
    assert prediction.steps == math.inf
    assert distance(prediction.train, task.y) < 1e-10
    assert distance(prediction.test, dense.outputs(dense.limit())[1]) < 1e-10
    assert distance(flat(prediction.parameters(), model), dense.theta + dense.limit()) < 1e-10


@OUTPUTS
def test_the_limit_with_too_few_parameters_is_least_squares(outputs):
    model, task = problem("under", outputs)
    dense = Dense.of(model, task)
    assert dense.J.shape[1] < len(dense.y)
    delta = -torch.linalg.solve(dense.J.T @ dense.J, dense.J.T @ dense.r0)
    train, test = dense.outputs(delta)
    prediction = lazy(model, task)
    assert distance(prediction.train, train) < 1e-10
    assert distance(prediction.test, test) < 1e-10
    assert any(note.startswith(f"underparameterized: {dense.J.shape[1]} parameters") for note in prediction.notes)


def test_the_learning_rate_is_that_of_sgd_with_mseloss():
    # On a network that is linear in its parameters the prediction is torch's own loop.
    model, task = problem("over", 3)
    for layer in model.layers[:-1]:
        layer.requires_grad_(False)
    prediction = wm.predict(model, task, sgd(0.3), steps=40, relinearize="path")
    copy = wm.networks.MLP([4, 12, 3], activation="tanh", bias=True, bias_std=1.0, dtype=torch.float64)
    copy.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(copy.layers[-1].parameters(), lr=0.3)
    for _ in range(40):
        optimizer.zero_grad()
        nn.MSELoss()(copy(task.X), task.y).backward()
        optimizer.step()
    assert distance(prediction.train, copy(task.X).detach()) < 1e-11
    assert distance(prediction.test, copy(task.X_test).detach()) < 1e-11


@KINDS
def test_a_sequence_of_steps_is_as_many_calls(kind):
    model, task = problem(kind, 3)
    steps = [0, 1, 7, 1000, math.inf]
    together = lazy(model, task, steps=steps)
    assert together.steps.tolist() == steps
    assert together.train.shape == (5, *task.y.shape)
    assert together.test.shape == (5, task.n_test, 3)
    for k, s in enumerate(steps):
        alone = lazy(model, task, steps=s)
        assert distance(together.train[k], alone.train) < 1e-12
        assert distance(together.test[k], alone.test) < 1e-12


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor])
def test_steps_may_be_any_sequence(kind):
    model, task = problem("over")
    several = lazy(model, task, steps=kind([0, 5]))
    assert several.test.shape == (2, task.n_test, 1)
    assert distance(several.test[1], lazy(model, task, steps=5).test) < 1e-13


def test_a_sequence_of_one_keeps_the_time_axis():
    model, task = problem("over")
    one = lazy(model, task, steps=[5])
    assert one.test.shape == (1, task.n_test, 1)
    assert one.train.shape == (1, task.n, 1)


@KINDS
def test_the_spectrum_is_that_of_the_kernel(kind):
    model, task = problem(kind, 3)
    dense, prediction = Dense.of(model, task), lazy(model, task)
    expected = torch.linalg.svdvals(dense.J) ** 2
    rank = len(expected)
    values = prediction.eigenvalues
    assert len(values) == len(dense.y)
    assert distance(values[:rank], expected) < 1e-10 * float(expected[0])
    assert values[rank:].abs().sum() == 0
    assert prediction.max_lr == pytest.approx(2 / (dense.gamma * float(expected[0])), rel=1e-12)
    best = 2 / (dense.gamma * float(expected[0] + expected[-1]))
    assert prediction.best_lr == pytest.approx(best, rel=1e-8)
    assert prediction.learning_rate == pytest.approx(best, rel=1e-8)


def test_the_certificate_is_the_network_at_the_predicted_parameters():
    model, task = problem("over", 3)
    dense = Dense.of(model, task)
    delta = dense.descend(0.2, 50)
    moved = wm.networks.MLP([4, 12, 3], activation="tanh", bias=True, bias_std=1.0, dtype=torch.float64)
    nn.utils.vector_to_parameters(dense.theta + delta, moved.parameters())
    with torch.no_grad():
        train_loss = float((moved(task.X) - task.y).square().mean())
        deviation = float((moved(task.X_test).reshape(-1) - dense.outputs(delta)[1]).square().mean())
    assert deviation > 1e-4, "a lazy network would not tell the certificate from zero"
    for steps in (50, [1, 20, 50]):  # of the last step
        certificate = lazy(model, task, sgd(0.2), steps=steps).certificate
        assert certificate.train_loss == pytest.approx(train_loss, rel=1e-10)
        assert certificate.test_deviation == pytest.approx(deviation, rel=1e-10)


@pytest.mark.parametrize("t", [1, 4, 15])
def test_a_change_of_the_residual_is_trained_away_as_training_would(t):
    """By heavy ball, whose modes swing to the other side: as far as so many steps from that residual take it."""
    model, task = problem("over", 3)
    optimizer = partial(torch.optim.SGD, lr=0.2, momentum=0.9)
    linearization = prepare(model, task, Recipe(optimizer), (float(t),)).linearization
    dense = Dense.of(model, task)
    change = torch.linspace(-1, 2, len(dense.y), dtype=torch.float64)
    K, r, b = dense.J @ dense.J.T, change.clone(), torch.zeros_like(change)
    for _ in range(t):
        b = 0.9 * b + dense.gamma * r
        r = r - 0.2 * K @ b
    assert distance(K @ linearization.correction_for(change, t), r - change) < 1e-10


def test_the_curve_is_the_training_error_at_its_steps():
    model, task = problem("over")
    dense = Dense.of(model, task)
    prediction = lazy(model, task, sgd(0.2), steps=300)
    curve = prediction.curve
    assert curve.steps[0] == 0
    assert curve.steps[-1] == 300
    assert bool((curve.steps.diff() > 0).all())
    for k in range(0, len(curve.steps), 7):
        train = dense.outputs(dense.descend(0.2, int(curve.steps[k])))[0]
        assert float(curve.losses[k]) == pytest.approx(float((train - dense.y).square().mean()), rel=1e-9)


def test_frozen_parameters_do_not_move():
    model, task = problem("over")
    model.layers[0].weight.requires_grad_(False)
    dense = Dense.of(model, task)
    assert dense.J.shape[1] == 12 + 12 + 1
    prediction = lazy(model, task, steps=20)
    assert distance(prediction.test, dense.outputs(dense.descend(prediction.learning_rate, 20))[1]) < 1e-10
    assert torch.equal(prediction.parameters()["layers.0.weight"], model.layers[0].weight)


def test_without_a_test_set_there_are_training_outputs_only():
    model, task = problem("over")
    full, bare = lazy(model, task, steps=9), lazy(model, wm.Task(task.X, task.y), steps=9)
    assert bare.test is None
    assert bare.terms == {}
    assert distance(bare.train, full.train) < 1e-13
    assert math.isfinite(bare.error)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 7),
    outputs=st.integers(1, 3),
    width=st.integers(1, 9),
    steps=st.integers(0, 30),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 100),
)
def test_any_shape(n, outputs, width, steps, fraction, seed):
    model, task = problem("over", outputs, seed)
    model = wm.networks.MLP([4, width, outputs], activation="erf", bias=True, seed=seed, dtype=torch.float64)
    X = torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    task = wm.Task(X, X[:, :1] ** 2 + task.y[:1], task.X)
    dense = Dense.of(model, task)
    lr = fraction * 2 / (dense.gamma * float(torch.linalg.matrix_norm(dense.J, 2)) ** 2)
    prediction = lazy(model, task, sgd(lr), steps=steps)
    train, test = dense.outputs(dense.descend(lr, steps))
    scale = 1 + float(test.abs().max())
    assert distance(prediction.train, train) < 1e-10 * scale
    assert distance(prediction.test, test) < 1e-10 * scale
    assert distance(sum(prediction.terms.values()), prediction.test) < 1e-9 * scale

"""Gradient flow against matrix exponentials and integrated differential equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from torch import nn

import whichmin as wm
from oracles.linear_rules import Dense, distance, mlp_problem, problem, sgd


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("kind", ["over", "under"])
@pytest.mark.parametrize("t", [0.0, 0.37, 12.5, 400.0])
def test_one_linearization_is_a_matrix_exponential(kind, outputs, t):
    model, task = problem(kind, outputs)
    dense, lr = Dense.of(model, task), 0.3
    P = len(dense.theta)
    generator = np.zeros((P + 1, P + 1))  # of (δ, 1): δ' = −lr γ Jᵀ(Jδ + r₀)
    generator[:P, :P] = -lr * dense.gamma * (dense.J.T @ dense.J).numpy()
    generator[:P, P] = -lr * dense.gamma * (dense.J.T @ dense.r0).numpy()
    delta = torch.from_numpy(expm(t * generator)[:P, P])
    train, test = dense.outputs(delta)
    prediction = wm.predict(model, task, sgd(lr), steps=t, flow=True, relinearize="never")
    assert prediction.flow
    assert distance(prediction.train, train) < 1e-10
    assert distance(prediction.test, test) < 1e-10


def test_the_limits_of_flow_and_descent_agree():
    model, task = problem("over", 3)
    flow = wm.predict(model, task, sgd(1e3), flow=True, relinearize="never")
    descent = wm.predict(model, task, sgd(0.1), relinearize="never")
    assert distance(flow.test, descent.test) < 1e-12


def test_descent_becomes_flow_as_the_rate_falls():
    model, task = problem("over")
    flow = wm.predict(model, task, sgd(1.0), steps=3.0, flow=True, relinearize="never")
    errors = [
        distance(wm.predict(model, task, sgd(3.0 / n), steps=n, relinearize="never").test, flow.test)
        for n in (100, 1000, 10_000)
    ]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.1)


def test_flow_takes_any_rate_and_time():
    model, task = problem("over")
    a = wm.predict(model, task, sgd(50.0), steps=0.02, flow=True, relinearize="never")
    b = wm.predict(model, task, sgd(0.02), steps=50.0, flow=True, relinearize="never")
    assert distance(a.test, b.test) < 1e-12
    with pytest.raises(wm.errors.DivergenceError):
        wm.predict(model, task, sgd(50.0), steps=1, relinearize="path")


def test_until_of_a_flow_is_the_time_of_crossing():
    model, task = problem("over")
    until = 1e-3
    t = wm.predict(model, task, sgd(0.5), until=until, flow=True, relinearize="never").steps

    def mse(s):
        outputs = wm.predict(model, task, sgd(0.5), steps=s, flow=True, relinearize="never").train
        return float((outputs - task.y).square().mean())

    assert mse(t) < until < mse(t * (1 - 1e-6))


def test_a_followed_flow_approaches_the_real_one():
    model, task = mlp_problem((3, 8), 5)
    lr, t = 0.5, 20.0
    copy = wm.networks.MLP([3, 8, 1], activation="tanh", bias=True, bias_std=1.0, dtype=torch.float64)

    def velocity(_, theta):
        nn.utils.vector_to_parameters(torch.from_numpy(theta), copy.parameters())
        loss = nn.MSELoss()(copy(task.X), task.y)
        grads = torch.autograd.grad(loss, list(copy.parameters()))
        return -lr * torch.cat([g.reshape(-1) for g in grads]).numpy()

    theta = nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    end = solve_ivp(velocity, (0, t), theta, rtol=1e-10, atol=1e-12, method="DOP853").y[:, -1]
    nn.utils.vector_to_parameters(torch.from_numpy(end), copy.parameters())
    truth = copy(task.X_test).detach()
    lazy = wm.predict(model, task, sgd(lr), steps=t, flow=True, relinearize="never")
    errors = [
        distance(wm.predict(model, task, sgd(lr), steps=t, flow=True, relinearize=n).test, truth) for n in (8, 32, 128)
    ]
    assert distance(lazy.test, truth) > 2 * errors[0]
    orders = [math.log(errors[i] / errors[i + 1], 4) for i in range(2)]
    assert all(0.7 < order < 2.5 for order in orders), (errors, orders)

"""Fewer parameters than training outputs: the linearized minimizer is least squares, whatever the optimizer."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.finite_networks import jacobian, normal
from oracles.linear_rules import sgd


def problem(n, outputs=1, *, trained="all"):
    """A network of 15 inputs and 4 hidden units, and n noisy targets."""
    model = wm.networks.MLP((15, 4, outputs), activation="gelu", weight_std=3.0, dtype=torch.float64)
    if trained == "first":
        with torch.no_grad():
            model.layers[1].weight.copy_(torch.tensor([[1.0, -1.0, 1.0, -1.0]]))
        model.layers[1].requires_grad_(False)
    X, noise = normal(n + 50, 15), 0.3 * normal(n + 50, outputs, seed=1)
    y = X[:, :1].sign() + X[:, 1 : 1 + outputs] * X[:, 4:5] + noise
    return model, wm.Task(X[:n], y[:n], X[n:], y[n:])


def dense(model, task):
    """J and r₀ on the training inputs, f₀ and J on the test inputs, outputs in one axis."""
    J, J_test = jacobian(model, task.X).flatten(0, 1), jacobian(model, task.X_test).flatten(0, 1)
    return J, (model(task.X).detach() - task.y).flatten(), model(task.X_test).detach(), J_test


def trained(J, r0, factory, *, steps, fall=1.0):
    """δ after full-batch training of the linear model, after 50 mini-batch steps that make a path of its own."""
    delta = torch.zeros(J.shape[1], dtype=torch.float64)
    optimizer = factory([delta])
    group = optimizer.param_groups[0]
    full = group["lr"]
    for step in range(steps):
        batch = torch.randperm(len(J))[: len(J) // 5] if step < 50 else slice(None)
        part = J[batch]
        delta.grad = 2.0 / len(part) * (part.T @ (part @ delta + r0[batch]))
        group["lr"] = full * (0.2 if step < 50 else fall ** (step / steps))
        optimizer.step()
    return delta


def rules(J):
    """Optimizers, each with how much its rate falls."""
    rate = len(J) / float(torch.linalg.matrix_norm(J, 2)) ** 2
    return {
        "momentum": (partial(torch.optim.SGD, lr=0.5 * rate, momentum=0.9), 1.0),
        "AdaGrad": (partial(torch.optim.Adagrad, lr=2.0), 1.0),
        "Adam": (partial(torch.optim.Adam, lr=2e-2, betas=(0.9, 0.95), eps=1e-14), 1e-6),
    }


@pytest.mark.parametrize(("outputs", "layers"), [(1, "all"), (2, "all"), (1, "first")])
def test_predict_is_the_least_squares_formula(outputs, layers):
    model, task = problem(120, outputs, trained=layers)
    J, r0, f0, J_test = dense(model, task)
    assert J.shape[1] < len(J)
    delta = -torch.linalg.solve(J.T @ J, J.T @ r0)
    prediction = wm.predict(model, task, sgd("best"), relinearize="never")
    torch.testing.assert_close(prediction.test, f0 + (J_test @ delta).reshape(f0.shape), rtol=1e-7, atol=1e-7)
    said = f"underparameterized: {J.shape[1]} parameters for {len(J)} training outputs"
    assert [note for note in prediction.notes if note.startswith(said)]


def test_every_optimizer_ends_at_the_prediction():
    model, task = problem(120, trained="first")
    J, r0, f0, J_test = dense(model, task)
    predicted = wm.predict(model, task, sgd("best"), relinearize="never").test
    for name, (factory, fall) in rules(J).items():
        test = f0 + (J_test @ trained(J, r0, factory, steps=5000, fall=fall))[:, None]
        torch.testing.assert_close(test, predicted, rtol=0, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


def test_with_more_parameters_than_points_each_optimizer_ends_at_its_own():
    model, task = problem(20, trained="first")
    J, r0, f0, J_test = dense(model, task)
    predicted = wm.predict(model, task, sgd("best"), relinearize="never")
    assert not [note for note in predicted.notes if note.startswith("underparameterized")]
    ends = {}
    for name, (factory, fall) in rules(J).items():
        delta = trained(J, r0, factory, steps=7000, fall=fall)
        assert (J @ delta + r0).abs().max() < 0.01 * r0.abs().max(), name
        ends[name] = f0 + (J_test @ delta)[:, None]
    torch.testing.assert_close(ends["momentum"], predicted.test, rtol=0, atol=1e-6)
    for a, b in (("AdaGrad", "momentum"), ("Adam", "momentum"), ("Adam", "AdaGrad")):
        assert (ends[a] - ends[b]).square().mean().sqrt() > 0.2 * task.y.std(), (a, b)


@pytest.mark.parametrize("really", [True, False])
def test_explaining_says_so(really):
    model, task = problem(120, trained="first")
    until = None if really else 0.5
    explanation = wm.explain(model, task, sgd("best"), until=until, steps=30, train=really)
    (note,) = [note for note in explanation.prediction.notes if note.startswith("underparameterized")]
    assert "60 parameters for 120 training outputs" in note

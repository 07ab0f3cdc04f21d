from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from oracles.finite_networks import normal
from whichmin import networks
from whichmin.errors import DataError, DivergenceError, InputError, ModelError, OptimizerError
from whichmin.infinite import FullyConnected, describe, predict
from whichmin.kernels.large import LargeSpectrum
from whichmin.minimizers import minimum_complexity
from whichmin.task import Task

NETWORK = FullyConnected(3, "relu", bias_std=0.2)
X_TEST = normal(4, 3, seed=2)


def task(n: int = 7, outputs: int = 2) -> Task:
    return Task(normal(n, 3), normal(n, outputs, seed=1), X_TEST)


def largest(t: Task) -> float:
    """The learning rate at which gradient descent stops converging."""
    return float(t.y.numel() / torch.linalg.eigvalsh(NETWORK.ntk(t.X))[-1])


@pytest.mark.parametrize("steps", [0, 1, 7, 200])
@pytest.mark.parametrize("fraction", [0.05, 0.6, 0.97])
def test_steps_one_by_one(steps, fraction):
    t = task()
    lr, n, gamma = fraction * largest(t), t.n, 2 / t.y.numel()
    X_all = torch.cat([t.X, X_TEST])
    kernel = NETWORK.ntk(X_all, t.X)
    # The outputs everywhere as a linear function of the outputs at initialization, and of the targets.
    of_start, of_targets = torch.eye(len(X_all)).double(), torch.zeros(len(X_all), n).double()
    for _ in range(steps):
        of_targets = of_targets - lr * gamma * kernel @ (of_targets[:n] - torch.eye(n).double())
        of_start = of_start - lr * gamma * kernel @ of_start[:n]
    got = predict(NETWORK, t, lr, steps=steps)
    torch.testing.assert_close(torch.cat([got.train_mean, got.mean]), of_targets @ t.y, rtol=1e-10, atol=1e-10)
    covariance = (of_start @ NETWORK.nngp(X_all) @ of_start.mT)[n:, n:]
    torch.testing.assert_close(got.covariance, covariance, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got.std, covariance.diagonal().sqrt(), rtol=1e-10, atol=1e-10)
    assert (got.steps, got.time) == (steps, lr * steps)


@pytest.mark.parametrize(("name", "time"), [("5", 5.0), ("inf", math.inf)])
def test_agrees_with_neural_tangents(reference, name, time):
    t = Task(reference["ensemble/x"], reference["ensemble/y"], reference["ensemble/x_test"])
    network = FullyConnected(3, "relu", [1.4, 1.4, 1.0], 0.3)
    # The peer's loss is half of torch's.
    got = predict(network, t, None if math.isinf(time) else 0.01, steps=50 * time, flow=True)
    torch.testing.assert_close(got.mean, reference[f"ensemble/{name}/mean"], rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(got.covariance, reference[f"ensemble/{name}/covariance"], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("again", [False, True])
def test_at_many_points_the_limit_takes_no_modes(monkeypatch, again):
    """Unless the kernel is singular, as of inputs that are there twice."""
    t = task(60)
    X, y = (torch.cat([v, v[:20]]) if again else v for v in (t.X, t.y))
    t = Task(X, y, X_TEST)
    expected = predict(NETWORK, t)
    monkeypatch.setattr("whichmin.kernels.spectrum.COMPLETE", 8)
    for name, value in {"COMPLETE": 8, "SHOWN": 8, "LARGEST_SPACE": 40}.items():
        monkeypatch.setattr(f"whichmin.kernels.large.{name}", value)
    decomposed = []
    whole = LargeSpectrum.decomposed
    monkeypatch.setattr(LargeSpectrum, "decomposed", lambda self: decomposed.append(1) or whole(self))
    got = predict(NETWORK, t)
    assert bool(decomposed) is again
    for name in ("mean", "covariance", "train_mean"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name), rtol=1e-6, atol=1e-6)
    assert (got.rank, got.steps, got.time) == (expected.rank, math.inf, math.inf)
    assert got.unreached == pytest.approx(expected.unreached, abs=1e-9)
    steps = predict(NETWORK, t, 0.5 * largest(t), steps=9)
    assert steps.steps == 9
    assert decomposed


def test_at_the_start():
    t = task()
    got = predict(NETWORK, t, 0.1, steps=0)
    assert (got.mean == 0).all()
    torch.testing.assert_close(got.covariance, NETWORK.nngp(X_TEST), rtol=1e-12, atol=1e-12)


def test_at_the_end():
    t = task()
    got = predict(NETWORK, t)
    expected = minimum_complexity(NETWORK.ntk(t.X), NETWORK.ntk(X_TEST, t.X), t.y)
    torch.testing.assert_close(got.mean, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got.train_mean, t.y, rtol=1e-10, atol=1e-10)
    assert (got.rank, got.steps, got.time) == (t.n, math.inf, math.inf)
    assert got.unreached < 1e-12
    late = predict(NETWORK, t, 0.9 * largest(t), steps=10**7)
    torch.testing.assert_close(late.mean, got.mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(predict(NETWORK, t, flow=True).mean, got.mean)


def test_training_inputs_end_at_their_targets_with_certainty():
    t = task()
    got = predict(NETWORK, Task(t.X, t.y, t.X))
    torch.testing.assert_close(got.mean, t.y, rtol=1e-9, atol=1e-9)
    assert got.std.max() < 1e-6


def test_small_steps_are_gradient_flow():
    t = task()
    time = 3 * largest(t)
    flow = predict(NETWORK, t, time / 1.5, steps=1.5, flow=True)
    assert (flow.steps, flow.flow, flow.time) == (1.5, True, pytest.approx(time))
    gaps = [(predict(NETWORK, t, time / k, steps=k).mean - flow.mean).norm() for k in (100, 200)]
    assert gaps[0] / gaps[1] == pytest.approx(2.0, rel=0.05)


def test_identical_inputs_with_different_targets():
    t = task()
    X = t.X.clone()
    X[1] = X[0]
    got = predict(NETWORK, Task(X, t.y, X_TEST))
    assert got.rank == t.n - 1
    assert got.unreached == pytest.approx(float((t.y[0] - t.y[1]).norm() / math.sqrt(2) / t.y.norm()), rel=1e-8)
    torch.testing.assert_close(got.train_mean[0], (t.y[0] + t.y[1]) / 2, rtol=1e-8, atol=1e-8)


class Diagonal:
    """A tangent kernel of given eigenvalues between the training inputs, as the kernels of infinite networks come."""

    def __init__(self, values, dtype):
        self.values, self.dtype = torch.tensor(values, dtype=dtype), dtype

    def ntk(self, x1, x2=None):
        return torch.diag(self.values)

    nngp = ntk


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("multiple", "rank"), [(0.5, 2), (5.0, 3), (20.0, 3)])
def test_the_rank_follows_the_type_of_the_kernel(dtype, multiple, rank):
    small = 4.0 * multiple * 10 * torch.finfo(dtype).eps
    t = Task(normal(3, 3), torch.tensor([3.0, 4.0, 0.0]).double().flip(0), normal(3, 3))
    got = predict(Diagonal([4.0, 1.0, small], dtype), t)
    assert got.rank == rank
    assert got.unreached == pytest.approx(0.0 if rank == 3 else 0.6)


def test_takes_modules_and_limits():
    t = task()
    model = networks.MLP((3, 64, 64, 2), bias=True, bias_std=0.2)
    expected = predict(NETWORK, t)
    for network in (model, describe(model), NETWORK.limit(3)):
        torch.testing.assert_close(predict(network, t).mean, expected.mean, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_real_training_of_an_ensemble():
    seeds, steps, t = 150, 150, task(n=5, outputs=1)
    network = FullyConnected(2, "erf", bias_std=0.1)
    lr = float(t.y.numel() / torch.linalg.eigvalsh(network.ntk(t.X))[-1]) * 0.5
    models = [
        networks.MLP((3, 256, 1), activation="erf", bias=True, seed=seed, dtype=torch.float64) for seed in range(seeds)
    ]
    values, _ = torch.func.stack_module_state(models)

    def outputs(values, x):
        return torch.func.functional_call(models[0], values, (x,))

    step = torch.func.vmap(torch.func.grad(lambda v: nn.functional.mse_loss(outputs(v, t.X), t.y)))
    values = {name: value.detach() for name, value in values.items()}
    for _ in range(steps):
        values = {name: value - lr * g for (name, value), g in zip(values.items(), step(values).values(), strict=True)}
    found = torch.func.vmap(outputs, (0, None))(values, X_TEST)[..., 0]
    got = predict(network, t, lr, steps=steps)
    assert ((found.mean(0) - got.mean[:, 0]).abs() <= 4 * got.std / math.sqrt(seeds) + 0.01).all()
    torch.testing.assert_close(found.std(0), got.std, rtol=4 / math.sqrt(2 * seeds), atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"steps": -1.0, "flow": True}, InputError, "steps is -1.0; expected a number of 0 or more"),
        ({"steps": math.nan, "flow": True}, InputError, "steps is nan; expected"),
        ({"steps": math.nan}, InputError, "steps is nan; expected"),
        ({"steps": 1.5, "flow": True}, OptimizerError, "steps=1.5 needs the learning rate"),
        ({"steps": -1}, InputError, "steps is -1; expected an integer"),
        ({"steps": 1.5, "lr": 0.1}, InputError, "steps is 1.5; expected an integer"),
        ({"steps": 5}, OptimizerError, "steps=5 needs the learning rate: pass lr="),
        ({"lr": 0.0}, OptimizerError, "lr is 0.0; expected a positive number"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        predict(NETWORK, task(), **arguments)


def test_divergence():
    t = task()
    with pytest.raises(DivergenceError, match="gradient descent converges below") as raised:
        predict(NETWORK, t, 1.01 * largest(t))
    assert raised.value.limit == pytest.approx(largest(t), rel=1e-10)
    predict(NETWORK, t, 0.99 * largest(t))
    predict(NETWORK, t, 10 * largest(t), steps=3, flow=True)


def test_bad_tasks_and_models():
    with pytest.raises(DataError, match="the task has no test inputs"):
        predict(NETWORK, Task(normal(3, 2), normal(3)))
    with pytest.raises(ModelError, match=r"Conv2d.* is not supported"):
        predict(nn.Sequential(nn.Conv2d(1, 2, 3)), task())
    with pytest.raises(DataError, match="x1 has 3 features per row; expected 5"):
        predict(nn.Linear(5, 2), task())

"""Where gradient descent takes an ensemble of infinitely wide networks: mean and covariance, at any time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from whichmin.errors import DataError, DivergenceError, InputError, OptimizerError
from whichmin.infinite.reading import describe
from whichmin.results import Result, by_point
from whichmin.task import Task


class Kernels(Protocol):
    """What has both kernels: :class:`FullyConnected`, :class:`Limit`, or one's own."""

    def ntk(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The tangent kernel per output, (n1, n2)."""
        ...

    def nngp(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The outputs' covariance at initialization, (n1, n2)."""
        ...


@dataclass(frozen=True, eq=False)
class InfinitePrediction(Result):
    """The outputs of trained infinitely wide networks, a Gaussian process over initializations.

    Args:
        mean: on the test inputs, (n_test, C).
        covariance: between test inputs, the same for each output and zero between outputs, (n_test, n_test).
        train_mean: on the training inputs, (N, C).
        steps: of gradient descent, or None for gradient flow.
        time: lr·steps; ∞ at convergence.
        rank: the number of eigenvalues of the tangent kernel that count as more than zero.
        unreached: the part of the targets, relative in norm, that no amount of training reaches.
    """

    kind: ClassVar[str] = "infinite_prediction"

    mean: Tensor
    covariance: Tensor
    train_mean: Tensor
    steps: float | None
    time: float
    rank: int
    unreached: float

    @property
    def std(self) -> Tensor:
        """The standard deviation over initializations at each test input, (n_test,)."""
        return self.covariance.diagonal().clamp(min=0.0).sqrt()

    def _columns(self) -> Mapping[str, Any]:
        """One row per test point and output: ``point``, ``output``, ``mean`` and ``std``."""
        return by_point({"mean": self.mean, "std": self.std})


def predict(
    network: Kernels | nn.Module,
    task: Task,
    lr: float | None = None,
    *,
    steps: float | None = None,
    time: float | None = None,
) -> InfinitePrediction:
    """The mean and covariance, over initializations, of networks trained by full-batch gradient descent.

    With Θ the tangent kernel, Σ the covariance at initialization, γ = 2/(NC), M = (1 − lr γ Θ)^steps (e^{−γ Θ time}
    for gradient flow) and A = Θ(x', X) Θ⁻¹ (1 − M):

        mean = A Y,   covariance = Σ(x', x') + A Σ(X, X) Aᵀ − A Σ(X, x') − Σ(x', X) Aᵀ

    (Lee et al. 2019, eqs. 13–15; all networks' weights trained). In the loss and units of ``torch.nn.MSELoss()`` and
    ``torch.optim.SGD``. Costs five kernels and one eigendecomposition of Θ, N³. Eigenvalues below N·ε·λ_max count as
    zero; what of the targets they carry is reported as ``unreached``.

    Args:
        network: a :class:`FullyConnected` or another object with ``ntk`` and ``nngp``, or a model for :func:`describe`.
        task: with test inputs.
        lr: the learning rate; needed for a finite number of steps, and checked for stability where given.
        steps: of gradient descent; ∞ by default.
        time: of gradient flow, lr·steps, instead of ``steps``.

    Raises:
        DataError: a task without test inputs, inputs that do not fit the network.
        InputError: both ``steps`` and ``time``, or a negative one.
        OptimizerError: a finite number of steps without a learning rate, a learning rate that is not positive.
        DivergenceError: lr γ λ_max ≥ 2; ``limit`` is the largest learning rate that converges.
        ModelError: a model whose limit is not known.
    """
    if task.X_test is None:
        raise DataError("the task has no test inputs: pass X_test to Task, for example the training inputs again.")
    steps, time = _when(lr, steps, time)
    kernels = describe(network) if isinstance(network, nn.Module) else network
    y = task.y.to(torch.float64)
    values, vectors = torch.linalg.eigh(kernels.ntk(task.X))
    kept = values > len(values) * torch.finfo(torch.float64).eps * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    gamma = 2.0 / y.numel()
    if lr is not None and lr * gamma * float(values[-1]) >= 2.0:
        limit = 2.0 / (gamma * float(values[-1]))
        raise DivergenceError(f"lr is {lr:g} and gradient descent converges below {limit:.6g}: lower it.", limit)
    learned = _learned(values * gamma, lr, steps, time)
    coordinates = vectors.mT @ y
    gain = kernels.ntk(task.X_test, task.X) @ (vectors * (learned / values)) @ vectors.mT
    cross = gain @ kernels.nngp(task.X, task.X_test)
    covariance = kernels.nngp(task.X_test) + gain @ kernels.nngp(task.X) @ gain.mT - cross - cross.mT
    missed = torch.linalg.vector_norm(y - vectors @ coordinates) / torch.linalg.vector_norm(y).clamp(min=1e-300)
    return InfinitePrediction(
        mean=gain @ y,
        covariance=(covariance + covariance.mT) / 2,
        train_mean=vectors @ (learned[:, None] * coordinates),
        steps=steps,
        time=time,
        rank=len(values),
        unreached=float(missed),
    )


def _when(lr: float | None, steps: float | None, time: float | None) -> tuple[float | None, float]:
    """Steps, None for gradient flow, and time; checked."""
    if steps is not None and time is not None:
        raise InputError(
            f"got steps={steps} and time={time}: pass one, steps of gradient descent or time of gradient flow."
        )
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise OptimizerError(f"lr is {lr}; expected a positive number.")
    if time is not None:
        if not time >= 0:
            raise InputError(f"time is {time}; expected a number of 0 or more, or math.inf.")
        return None, float(time)
    steps = math.inf if steps is None else steps
    if not (steps >= 0 and (math.isinf(steps) or steps == int(steps))):
        raise InputError(f"steps is {steps}; expected an integer of 0 or more, or math.inf.")
    if math.isinf(steps):
        return steps, math.inf
    if lr is None:
        raise OptimizerError(f"steps={steps} needs the learning rate: pass lr=, or leave steps out for the minimizer.")
    return steps, lr * steps


def _learned(rates: Tensor, lr: float | None, steps: float | None, time: float) -> Tensor:
    """1 − (1 − lr·rate)^steps per eigenvalue, without cancellation; 1 − e^{−rate·time} for gradient flow."""
    if math.isinf(time):
        return torch.ones_like(rates)
    if steps is None:
        return -torch.expm1(-rates * time)
    assert lr is not None
    z = lr * rates
    slow = -torch.expm1(steps * torch.log1p(-z.clamp(max=0.5)))
    return torch.where(z <= 0.5, slow, 1.0 - (1.0 - z).pow(steps))

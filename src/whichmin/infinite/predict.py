"""Where gradient descent takes an ensemble of infinitely wide networks: mean and covariance, at any time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from whichmin.devices import default_device_aside
from whichmin.errors import DataError, DivergenceError, InputError, OptimizerError, SingularKernelError
from whichmin.infinite.reading import describe
from whichmin.inputs import single_tensor
from whichmin.kernels.modes import Spectrum, rounding_unit
from whichmin.kernels.spectrum import decompose
from whichmin.results import Result, by_point
from whichmin.task import Task
from whichmin.terms import Interpolator


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

    ``to_frame`` has one row per test point and output: ``point``, ``output``, ``mean`` and ``std``.

    Args:
        mean: on the test inputs, (n_test, C).
        covariance: between test inputs, the same for each output and zero between outputs, (n_test, n_test).
        train_mean: on the training inputs, (N, C).
        steps: of gradient descent, or of length lr along the gradient flow; ∞ at convergence.
        flow: whether this is gradient flow.
        time: lr·steps; ∞ at convergence.
        rank: the number of eigenvalues of the tangent kernel that count as more than zero.
        unreached: the part of the targets, relative in norm, that no amount of training reaches.
    """

    kind: ClassVar[str] = "infinite_prediction"

    mean: Tensor
    covariance: Tensor
    train_mean: Tensor
    steps: float
    flow: bool
    time: float
    rank: int
    unreached: float

    @property
    def std(self) -> Tensor:
        """The standard deviation over initializations at each test input, (n_test,)."""
        return self.covariance.diagonal().clamp(min=0.0).sqrt()

    def _columns(self) -> Mapping[str, Any]:
        return by_point({"mean": self.mean, "std": self.std})


@default_device_aside()
def predict(
    network: Kernels | nn.Module,
    task: Task,
    lr: float | None = None,
    *,
    steps: float | None = None,
    flow: bool = False,
) -> InfinitePrediction:
    """The mean and covariance, over initializations, of networks trained by full-batch gradient descent.

    With Θ the tangent kernel, Σ the covariance at initialization, γ = 2/(NC), M = (1 − lr γ Θ)^steps (e^{−γ Θ lr·steps}
    for gradient flow) and A = Θ(x', X) Θ⁺ (1 − M):

        mean = A Y,   covariance = Σ(x', x') + A Σ(X, X) Aᵀ − A Σ(X, x') − Σ(x', X) Aᵀ

    (Lee et al. 2019, eqs. 13–15; all networks' weights trained). In the loss and units of ``torch.nn.MSELoss()`` and
    ``torch.optim.SGD``. Costs five kernels and one eigendecomposition of Θ, about 10·N³ multiplications; for the limit
    of infinitely many steps of more than 4,096 training points Cholesky's factorization, N³/3. Eigenvalues up to
    :func:`whichmin.kernels.modes.rank_cutoff` count as zero; what of the targets they carry is ``unreached``.

    Args:
        network: a :class:`FullyConnected` or another object with ``ntk`` and ``nngp``, or a model for :func:`describe`.
        task: with test inputs.
        lr: the learning rate; needed for a finite number of steps, and checked for stability where given, but for flow.
        steps: an integer, or with ``flow=True`` any number of 0 or more; None (or ``math.inf``) for the limit.
        flow: gradient flow at time lr·steps.

    Returns:
        An :class:`InfinitePrediction`, in float64 on the CPU.

    Raises:
        DataError: a task without test inputs, inputs that do not fit the network.
        InputError: steps out of range, or a tangent kernel that is zero.
        OptimizerError: a finite number of steps without a learning rate, a learning rate that is not positive.
        DivergenceError: lr γ λ_max ≥ 2; ``limit`` is the largest learning rate that converges.
        ModelError: a model whose limit is not known.
    """
    if task.X_test is None:
        raise DataError("the task has no test inputs: pass X_test to Task, for example the training inputs again.")
    if not task.loss.is_quadratic:
        raise InputError(
            "the ensemble of infinitely wide networks is known for the mean square error, and the task has "
            f"{task.loss!r}: pass a Task with loss=torch.nn.MSELoss(), or predict networks of a finite width."
        )
    steps = math.inf if steps is None else steps
    _check_times(lr, steps, flow)
    kernels = describe(network) if isinstance(network, nn.Module) else network
    X, X_test = _points(task)
    spectrum = _spectrum(kernels.ntk(X), task)
    if lr is not None and not flow and lr >= spectrum.max_lr:
        limit = spectrum.max_lr
        raise DivergenceError(f"lr is {lr:g} and gradient descent converges below {limit:.6g}: lower it.", limit)
    cross, y = _double(kernels.ntk(X_test, X)), _double(task.y)
    settings = {"steps": steps, "flow": flow, "time": _time(lr, steps)}
    if math.isinf(steps) and not spectrum.is_affordable:
        with contextlib.suppress(SingularKernelError):  # all modes are known of what no solver takes
            gain = torch.from_numpy(spectrum.solve(cross.mT.numpy())).mT
            return _ensemble(kernels, task, spectrum, gain, train_mean=spectrum.project(y), **settings)
    spectrum = spectrum.decomposed()
    learned, Q = _learned(spectrum.gamma * spectrum.eigenvalues, lr, steps, flow), spectrum.vectors
    gain = Interpolator(cross, spectrum).filtered(learned)
    return _ensemble(kernels, task, spectrum, gain, train_mean=Q @ (learned[:, None] * (Q.mT @ y)), **settings)


def _ensemble(kernels: Kernels, task: Task, spectrum: Spectrum, gain: Tensor, **settings: Any) -> InfinitePrediction:
    """The moments of f(x') = f₀(x') + A (Y − f₀(X)) over initializations; ``gain`` is A."""
    X, X_test = _points(task)
    y = _double(task.y)
    cross = gain @ _double(kernels.nngp(X, X_test))
    covariance = _double(kernels.nngp(X_test)) + gain @ _double(kernels.nngp(X)) @ gain.mT - cross - cross.mT
    missed = torch.linalg.vector_norm(y - spectrum.project(y)) / torch.linalg.vector_norm(y).clamp(min=1e-300)
    return InfinitePrediction(
        mean=gain @ y,
        covariance=(covariance + covariance.mT) / 2,
        rank=spectrum.rank,
        unreached=float(missed),
        **settings,
    )


def _points(task: Task) -> tuple[Tensor, Tensor]:
    """The training and the test inputs."""
    assert task.X_test is not None
    what = "an infinitely wide network"
    return single_tensor(task.X, what), single_tensor(task.X_test, what)


def _spectrum(ntk: Tensor, task: Task) -> Spectrum:
    """Of the tangent kernel per output, (N, N), with γ of all N·C training outputs."""
    return decompose(_double(ntk), task.objective.gamma, rounding_unit(ntk.dtype))


def _double(values: Tensor) -> Tensor:
    return values.detach().double().cpu()


def _check_times(lr: float | None, steps: float, flow: bool) -> None:
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise OptimizerError(f"lr is {lr}; expected a positive number.")
    if flow and not steps >= 0:
        raise InputError(f"steps is {steps}; expected a number of 0 or more, or math.inf.")
    if not flow and not (steps >= 0 and (math.isinf(steps) or steps == int(steps))):
        raise InputError(f"steps is {steps}; expected an integer of 0 or more, or math.inf. With flow=True any number.")
    if math.isfinite(steps) and lr is None:
        raise OptimizerError(f"steps={steps} needs the learning rate: pass lr=, or leave steps out for the minimizer.")


def _time(lr: float | None, steps: float) -> float:
    """lr·steps."""
    if lr is None or math.isinf(steps):
        return math.inf
    return lr * steps


def _learned(rates: Tensor, lr: float | None, steps: float, flow: bool) -> Tensor:
    """1 − M per eigenvalue, of the rates γλ: 1 − (1 − lr·rate)^steps without cancellation, 1 − e^{−rate·lr·steps}."""
    if math.isinf(steps):
        return (rates > 0).to(rates)
    assert lr is not None
    if flow:
        return -torch.expm1(-rates * lr * steps)
    z = lr * rates
    slow = -torch.expm1(steps * torch.log1p(-z.clamp(max=0.5)))
    return torch.where(z <= 0.5, slow, 1.0 - (1.0 - z).pow(steps))

"""Minimizers in closed form: smallest complexity, smallest step, and where AdaGrad takes a single training point."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from whichmin.arrays import as_tensor
from whichmin.errors import DataError, ModelError, SingularKernelError
from whichmin.kernels.layout import to_matrix
from whichmin.kernels.linearize import Tangent
from whichmin.kernels.spectrum import decompose, rank_cutoff, rounding_unit
from whichmin.losses import MeanSquaredError
from whichmin.task import Task
from whichmin.terms import Interpolator

#: Part of the targets, relative in norm, that may be out of reach before there is no interpolator; √ε of the kernel's
#: type where that is more, as rounding of the kernel turns its range.
_REACH = 1e-6


def minimum_complexity(kernel_train: Tensor, kernel_test: Tensor, y: Tensor) -> Tensor:
    """The interpolator of smallest norm in the kernel's Hilbert space, K(x', X) K⁻¹ Y.

    It is where gradient descent on the linearized network ends that starts from zero outputs, and the same function as
    :func:`minimum_norm_interpolator` (Nonnenmacher, Reeb and Steinwart 2021, Lemmas 2 and 3). Costs an
    eigendecomposition of K; eigenvalues up to ``rank_cutoff`` of the type that K comes in count as zero.

    Args:
        kernel_train: K(X, X), (N, N) where outputs share it, else (N, N, C, C) as from ``whichmin.tangent_kernel``.
        kernel_test: K(x', X), (n_test, N) or (n_test, N, C, C).
        y: targets, (N,) or (N, C).

    Returns:
        (n_test, C), float64; C = 1 for y of one axis.

    Raises:
        DataError: shapes that do not match, numbers that are not finite.
        InputError: K(X, X) is zero, or not positive semidefinite.
        SingularKernelError: no function of the kernel's space meets the targets, as for identical inputs with different
            targets.
    """
    eps = _rounding(kernel_train)
    train, test, y = _real(kernel_train, "kernel_train"), _real(kernel_test, "kernel_test"), _targets(y)
    n, outputs = y.shape
    stacked = train.ndim == 4
    if tuple(train.shape) != ((n, n, outputs, outputs) if stacked else (n, n)):
        raise DataError(
            f"kernel_train has shape {tuple(train.shape)}; expected ({n}, {n}) or ({n}, {n}, {outputs}, {outputs}) for "
            f"y of shape {tuple(y.shape)}."
        )
    expected = (len(test), *train.shape[1:]) if test.ndim else ()
    if tuple(test.shape) != expected:
        raise DataError(
            f"kernel_test has shape {tuple(test.shape)}; expected (n_test, {', '.join(map(str, train.shape[1:]))}), "
            "the rows of K(x', X) beside the K(X, X) given."
        )
    if stacked:
        train, test, target = to_matrix(train), to_matrix(test), y.reshape(-1, 1)
    else:
        target = y
    interpolator = Interpolator(test.cpu(), decompose(train, MeanSquaredError().curvature(y.numel()), eps))
    target = target.cpu()
    _check_reached(target, interpolator.spectrum.project(target), eps)
    return interpolator(target).reshape(-1, outputs).to(y.device)


def minimum_norm_interpolator(J: Tensor, J_test: Tensor, y: Tensor) -> Tensor:
    """The least-2-norm solution of the linearized model, J(x') J(X)⁺ Y.

    Of all δ with J δ = Y the shortest, evaluated on test inputs: J(x') δ. The same function as
    :func:`minimum_complexity` of K = J Jᵀ, at the square root of its condition number. Costs a thin singular value
    decomposition of J; singular values whose square, an eigenvalue of K, is at most ``rank_cutoff`` of the type that J
    comes in count as zero.

    Args:
        J: the Jacobian at the training inputs, (N, P) for one output or features that all outputs share, or (N, C, P).
        J_test: at the test inputs, (n_test, P) or (n_test, C, P).
        y: targets of the linearized part, (N,) or (N, C).

    Returns:
        (n_test, C), float64; C = 1 for y of one axis.

    Raises:
        DataError: shapes that do not match, numbers that are not finite.
        SingularKernelError: no δ meets the targets.
    """
    eps = _rounding(J)
    train, test, y = _real(J, "J"), _real(J_test, "J_test"), _targets(y)
    n, outputs = y.shape
    if train.ndim not in (2, 3) or len(train) != n or (train.ndim == 3 and train.shape[1] != outputs):
        raise DataError(
            f"J has shape {tuple(train.shape)}; expected ({n}, P) or ({n}, {outputs}, P) for y of shape "
            f"{tuple(y.shape)}."
        )
    if test.ndim != train.ndim or test.shape[1:] != train.shape[1:]:
        raise DataError(
            f"J_test has shape {tuple(test.shape)}; expected (n_test, {', '.join(map(str, train.shape[1:]))}), like J."
        )
    target = y if train.ndim == 2 else y.reshape(-1, 1)
    left, values, right = torch.linalg.svd(train.flatten(0, -2), full_matrices=False)
    kept = values.square() > rank_cutoff(float(values[0]) ** 2, eps)
    coordinates = left[:, kept].mT @ target
    _check_reached(target, left[:, kept] @ coordinates, eps)
    step = right[kept].mT @ (coordinates / values[kept, None])
    return (test.flatten(0, -2) @ step).reshape(-1, outputs)


def adagrad_one_point(model: nn.Module, x1: Tensor, y1: Tensor | float, X_test: Tensor) -> Tensor:
    """Where AdaGrad takes the linearized network of one output that is trained on a single point.

        f_∞(x') = f₀(x') + J(x')·sign J(x₁) / ‖J(x₁)‖₁ · (y₁ − f₀(x₁))

    All gradients are multiples of J(x₁), so that the preconditioner stays a multiple of diag(1/|J(x₁)|) and every
    parameter that the output at x₁ depends on moves equally far. It is the smallest step in the largest coordinate,
    where gradient descent takes the smallest in the 2-norm: the optimizer chooses the minimizer. Exact for any
    learning rate with which ``torch.optim.Adagrad`` converges, from zero accumulators and without ε (``eps=0`` divides
    zero by zero where a parameter has no part in the output; ``eps=1e-30`` does not). Costs one backward pass and a few
    forward passes.

    Args:
        model: the network at θ₀, of one output; it is not changed.
        x1: the training input, (1, …) or (…).
        y1: its target, one number.
        X_test: test inputs, (n_test, …).

    Returns:
        (n_test, 1), float64; computed in the model's type.

    Raises:
        DataError: more than one training point or target, shapes that do not match, numbers that are not finite.
        ModelError: a network of several outputs; see also :func:`whichmin.tangent_kernel`.
        SingularKernelError: no parameter moves the output at x₁.

    Nonnenmacher, Reeb and Steinwart 2021, Example 1.
    """
    task = _one_point(x1, y1, X_test)
    assert task.X_test is not None
    tangent = Tangent(model)
    start = tangent.f0(task.X)
    if tuple(start.shape) != (1, 1):
        raise ModelError(
            f"the network has {start.shape[-1]} outputs; with more than one the gradients are no multiples of one "
            "another and the minimizer has no such formula. Pass a network of one output."
        )
    J = tangent.vjp(task.X, torch.ones_like(start))
    reach = sum(float(part.double().abs().sum()) for part in J.values())
    if reach == 0:
        raise SingularKernelError("no parameter moves the output at x1: its gradient is zero, training stays at θ₀.")
    step = (float(task.y) - float(start)) / reach
    signs = {name: part.sign() for name, part in J.items()}
    return tangent.f0(task.X_test).double() + step * tangent.jvp(task.X_test, signs).double()


def _one_point(x1: Tensor, y1: Tensor | float, X_test: Tensor) -> Task:
    """The task of one training input and one target, checked."""
    x1, X_test, target = as_tensor(x1, "x1"), as_tensor(X_test, "X_test"), as_tensor(y1, "y1").double()
    if target.numel() != 1:
        raise DataError(f"y1 has shape {tuple(target.shape)}; expected one number.")
    if x1.ndim == X_test.ndim - 1:
        x1 = x1[None]
    if x1.ndim == 0 or len(x1) != 1:
        raise DataError(f"x1 has shape {tuple(x1.shape)}; expected one training input, (1, …) or (…).")
    return Task(x1, target.reshape(1, 1), X_test)


def _rounding(value: Tensor) -> float:
    return rounding_unit(torch.as_tensor(value).dtype)


def _real(value: Tensor, name: str) -> Tensor:
    tensor = as_tensor(value, name).to(torch.float64)
    if tensor.numel() == 0:
        raise DataError(f"{name} is empty, shape {tuple(tensor.shape)}; expected one row or more.")
    if not torch.isfinite(tensor).all():
        raise DataError(f"{name} holds NaN or infinity: look for the inputs or weights that led to it.")
    return tensor


def _targets(y: Tensor) -> Tensor:
    y = _real(y, "y")
    if y.ndim not in (1, 2):
        raise DataError(f"y has shape {tuple(y.shape)}; expected (N,) or (N, C).")
    return y.reshape(len(y), -1)


def _check_reached(target: Tensor, reached: Tensor, eps: float) -> None:
    missed = torch.linalg.vector_norm(target - reached)
    if missed > max(_REACH, math.sqrt(eps)) * torch.linalg.vector_norm(target):
        raise SingularKernelError(
            f"no parameters meet the targets: {float(missed / torch.linalg.vector_norm(target)):.2g} of their norm is "
            "out of reach of the linearized network. Look for identical inputs with different targets, or widen it."
        )

"""The interpolator of smallest norm, from kernels and from Jacobians."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from whichmin.devices import default_device_aside
from whichmin.errors import DataError, SingularKernelError
from whichmin.kernels.layout import to_matrix
from whichmin.kernels.modes import rank_cutoff
from whichmin.kernels.spectrum import decompose
from whichmin.losses import MeanSquaredError
from whichmin.minimizers._checks import check_kernels, real, rounding, targets
from whichmin.terms import Interpolator

#: Part of the targets, relative in norm, that may be out of reach before there is no interpolator; √ε of the kernel's
#: type where that is more, as rounding of the kernel turns its range.
_REACH = 1e-6


@default_device_aside()
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
    eps = rounding(kernel_train)
    train, test, y = real(kernel_train, "kernel_train"), real(kernel_test, "kernel_test"), targets(y)
    n, outputs = y.shape
    check_kernels(train, test, n, outputs)
    if train.ndim == 4:
        train, test, target = to_matrix(train), to_matrix(test), y.reshape(-1, 1)
    else:
        target = y
    interpolator = Interpolator(test.cpu(), decompose(train, MeanSquaredError().curvature(y.numel()), eps))
    target = target.cpu()
    _check_reached(target, interpolator.spectrum.project(target), eps)
    return interpolator(target).reshape(-1, outputs).to(y.device)


@default_device_aside()
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
    eps = rounding(J)
    train, test, y = real(J, "J"), real(J_test, "J_test"), targets(y)
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


def _check_reached(target: Tensor, reached: Tensor, eps: float) -> None:
    missed = torch.linalg.vector_norm(target - reached)
    if missed > max(_REACH, math.sqrt(eps)) * torch.linalg.vector_norm(target):
        raise SingularKernelError(
            f"no parameters meet the targets: {float(missed / torch.linalg.vector_norm(target)):.2g} of their norm is "
            "out of reach of the linearized network. Look for identical inputs with different targets, or widen it."
        )

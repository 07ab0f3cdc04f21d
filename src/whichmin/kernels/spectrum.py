"""A kernel to solve with: all its modes where that is cheap, functions of it on a few vectors where it is not."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin.arrays import as_tensor
from whichmin.devices import default_device_aside
from whichmin.errors import InputError
from whichmin.kernels.large import COMPLETE, HELD, LargeSpectrum
from whichmin.kernels.modes import Spectrum, rounding_unit
from whichmin.losses import MeanSquaredError

#: Kernels of up to this many rows are decomposed where a prediction needs them; a Lanczos space is faster beyond.
DENSE = 512


@default_device_aside()
def spectrum(K: Tensor) -> Spectrum:
    """The eigendecomposition of a tangent kernel of the training inputs, with γ of ``torch.nn.MSELoss()``.

    Args:
        K: (N, N, C, C) as from :func:`whichmin.tangent_kernel`, or (N, N); a tensor or an array.

    Cost: O((N·C)³) in float64 up to 4,096 outputs; of larger kernels nothing before it is asked for, a few hundred
    products for the largest eigenvalues, a Cholesky factor for ``solve``, ``smallest`` and ``rank``.

    Raises:
        InputError: another shape, a kernel that is not finite, not symmetric, or zero.
    """
    return lazy_spectrum(K, COMPLETE).checked()


def lazy_spectrum(K: Tensor, most: int = DENSE) -> Spectrum:
    """As :func:`spectrum` where functions of K on a few vectors are needed: decomposed only up to so many outputs."""
    K = as_tensor(K, "K")
    if K.ndim not in (2, 4) or K.shape[0] != K.shape[1] or (K.ndim == 4 and K.shape[2] != K.shape[3]):
        raise InputError(f"a kernel of shape {tuple(K.shape)}; expected (N, N, C, C) or (N, N), of one set of inputs.")
    if not K.is_floating_point():
        raise InputError(f"the kernel is {K.dtype}; expected a floating-point type: K.double().")
    if not bool(torch.isfinite(K).all()):
        raise InputError("the kernel holds NaN or infinity: check the network's parameters and inputs.")
    size = K.shape[0] if K.ndim == 2 else K.shape[0] * K.shape[2]
    matrix = K if K.ndim == 2 else K.permute(0, 2, 1, 3).reshape(size, size)
    matrix = matrix if size > HELD else matrix.double()
    eps = rounding_unit(K.dtype)
    largest = float(matrix.abs().max())
    if float((matrix - matrix.T).abs().max()) > 1e4 * eps * largest:
        raise InputError("the kernel is not symmetric: pass K(X, X) of one set of inputs.")
    return undecomposed(matrix, MeanSquaredError().curvature(size), eps, most)


def decompose(matrix: Tensor, gamma: float, eps: float) -> Spectrum:
    """As :func:`spectrum`, for a matrix and with what follows from the loss and from the kernel's type given.

    Where all modes are cheap it is decomposed at once, and refused where it is not positive semidefinite.

    Args:
        matrix: K, (N·C, N·C).
        gamma: γ of the loss.
        eps: the rounding unit of the type that K was computed in.

    Raises:
        InputError: the matrix is zero or not positive semidefinite.
    """
    return undecomposed(matrix, gamma, eps, COMPLETE).checked()


def undecomposed(
    matrix: Tensor, gamma: float, eps: float, most: int = DENSE, near: NDArray[np.float64] | None = None
) -> Spectrum:
    """As :func:`decompose`, for those who need functions of K on a few vectors, or no more than products.

    Args:
        matrix: K, (N·C, N·C).
        gamma: γ of the loss.
        eps: the rounding unit of the type that K was computed in.
        most: up to so many outputs all modes are found.
        near: the eigenvector of λ_max of a matrix like K, (N·C,), where the search for that of K begins.

    Raises:
        InputError: the matrix is zero.
    """
    if not bool(matrix.diagonal().any()) and not bool(matrix.any()):
        raise InputError("the kernel is zero: no trainable parameter moves the outputs on these inputs.")
    return LargeSpectrum(matrix, gamma, eps, near=near) if len(matrix) > most else Spectrum(matrix, gamma, eps)

"""Where losses without a finite minimizer take linear features: the classes are separated by the largest margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whichmin.devices import default_device_aside
from whichmin.errors import DataError, SingularKernelError
from whichmin.kernels.layout import to_matrix
from whichmin.kernels.modes import Spectrum, rank_cutoff, rounding_unit
from whichmin.kernels.spectrum import spectrum
from whichmin.minimizers._checks import check_kernels, real, targets
from whichmin.shown import Shown
from whichmin.terms import Interpolator

#: How far, relative to their size, the conditions of optimality may be missed. Where they hold to δ, the direction is
#: right to √(2δ); rounding misses them by some 1e-14, and by more where the margin is small beside the features.
_OPTIMALITY = 1e-8

#: Weights of a row, relative to the largest, that are no part of what makes the classes inseparable but rounding.
_NO_PART = 1e-6

#: How many rows a message lists.
_LISTED = 5


@dataclass(frozen=True, eq=False)
class MaxMargin(Shown):
    """The largest-margin separator θ̂ of the training data in the features J, scaled so that the margins are 1 or more.

    Training approaches its direction only: outputs of a trained network compare with ``train`` and ``test`` up to one
    positive factor, which grows without end.

    Attributes:
        test: J(x') θ̂, (n_test, C), float64.
        train: J(X) θ̂, (N, C), float64.
        margin: 1/‖θ̂‖, the smallest margin that the direction θ̂/‖θ̂‖ has, in the units of the features.
        coefficients: β with θ̂ = J(X)ᵀ β, (N, C), so that K(x', X) β are the outputs anywhere. They are y_i α_i of one
            output in −1 and 1; of several, −α_ic at other classes c than a row's own, at its own their sum with the
            opposite sign. α ≥ 0 is the solution of the dual program.
    """

    test: Tensor
    train: Tensor
    margin: float
    coefficients: Tensor

    def _finding(self) -> Sequence[str]:
        rows = f"{len(self.support)} of {len(self.coefficients)} training rows hold it"
        return (f"The largest margin is {self.margin:.4g}: {rows}.",)

    @property
    def support(self) -> Tensor:
        """The training rows that hold the margin, those of coefficients that are not 0: the support vectors."""
        return self.coefficients.any(dim=1).nonzero()[:, 0]


@default_device_aside()
def max_margin(kernel_train: Tensor, kernel_test: Tensor, y: Tensor) -> MaxMargin:
    """The separator of largest margin in the features J: a hard-margin support vector machine on K = JJᵀ, no offset.

        θ̂ = argmin ½‖θ‖²  with  ỹ_i f(x_i) ≥ 1                          f = Jθ of one output, ỹ = −1 or 1
                           or    f_{y_i}(x_i) − f_c(x_i) ≥ 1, all c ≠ y_i   of several

    The logistic loss (one output) and cross-entropy (several) have no finite minimizer on linear features that separate
    the classes. Gradient descent, with or without momentum and mini-batches, from any start, diverges along θ̂:
    θ_t/‖θ_t‖ → θ̂/‖θ̂‖, slowly, the difference falling as 1/log t. It is the limit of a linearized network, whatever its
    initial outputs, but not that of adaptive rules, which have other geometries.

    The dual, min ½ αᵀGα − Σα over α ≥ 0 with G the kernel of the differences above, is solved as a least-distance
    program (Lawson and Hanson 1974, chapter 23): the separator points to where the convex hull of the differences'
    features is closest to the origin. An active-set method finds the support vectors, a triangular factorization then
    θ̂, whose conditions of optimality are verified. Eigenvalues of K up to ``rank_cutoff`` of the type that it comes in
    count as zero.

    Args:
        kernel_train: K(X, X), (N, N, C, C) as from ``whichmin.tangent_kernel``, or (N, N) of one output.
        kernel_test: K(x', X), (n_test, N, C, C) or (n_test, N).
        y: classes, as numbers 0 … C − 1, (N,), or as one-hot rows, (N, C), of zeros or minus ones beside the one. Of
            one output two different whole numbers, such as −1 and 1; the output is positive for the larger one.

    Cost: one eigendecomposition of K, and about M·S² operations for M = N·(C − 1) differences (N of one output) of
    which S are active: about half a minute on one core for M = 2000, most of them active.

    Raises:
        DataError: shapes that do not match, numbers that are not finite, y that does not name classes.
        InputError: K(X, X) is zero, not symmetric or not positive semidefinite.
        SingularKernelError: the features do not separate the classes, which those of a kernel of full rank always do,
            or by less than float64 resolves.

    Soudry, Hoffer, Nacson, Gunasekar and Srebro 2018, "The Implicit Bias of Gradient Descent on Separable Data". Lyu
    and Li 2020, "Gradient Descent Maximizes the Margin of Homogeneous Neural Networks": there the same, in the features
    where training ends.
    """
    train, test, labels = real(kernel_train, "kernel_train"), real(kernel_test, "kernel_test"), targets(y)
    n, outputs = len(labels), train.shape[-1] if train.ndim == 4 else 1
    check_kernels(train, test, n, outputs)
    classes = _class_numbers(labels.cpu(), outputs)
    modes = spectrum(torch.as_tensor(kernel_train)).decomposed()
    kept = modes.eigenvalues > 0
    features = modes.vectors[:, kept] * modes.eigenvalues[kept].sqrt()

    differences = _Differences(classes, outputs)
    D = differences.of(features.reshape(n, outputs, -1)).flatten(0, -2)
    weights = _closest_in_hull(D)
    _check_separated(differences.transposed(weights), modes, rounding_unit(torch.as_tensor(kernel_train).dtype))
    theta, alpha = _separator(D, weights > 0)
    _check_optimal(D, theta, alpha)
    values = features @ theta
    cross = to_matrix(test) if test.ndim == 4 else test
    results = (
        Interpolator(cross.cpu(), modes)(values).reshape(-1, outputs),
        values.reshape(n, outputs),
        differences.transposed(alpha.clamp(min=0.0)),
    )
    test_values, train_values, coefficients = (value.to(labels.device) for value in results)
    return MaxMargin(test_values, train_values, 1.0 / float(torch.linalg.vector_norm(theta)), coefficients)


def _class_numbers(y: Tensor, outputs: int) -> Tensor:
    """(N, 1) or (N, C) → the class of each row, (N,); 0 or 1 for one output.

    Raises:
        DataError: y does not name classes.
    """
    values = y.unique()
    whole = torch.equal(values, values.round())
    if outputs == 1:
        if y.shape[1] != 1 or len(values) != 2 or not whole:
            raise DataError(
                f"y has shape {tuple(y.shape)} and {_listed(values)}; expected, for one output, (N,) of two different "
                "whole numbers, such as −1 and 1. For C classes pass K of a network of C outputs, (N, N, C, C)."
            )
        return (y[:, 0] == values[1]).long()
    if y.shape[1] == 1:
        if not whole or values[0] < 0 or values[-1] >= outputs:
            raise DataError(f"y has {_listed(values)}; expected class numbers 0 … {outputs - 1}, or one-hot rows.")
        return y[:, 0].long()
    largest = y == y.amax(dim=1, keepdim=True)
    if y.shape[1] != outputs or len(values) != 2 or bool((largest.sum(dim=1) != 1).any()):
        raise DataError(
            f"y has shape {tuple(y.shape)} and {_listed(values)}; expected class numbers, (N,), or one-hot rows, "
            f"(N, {outputs}), of zeros or minus ones beside the one."
        )
    return y.argmax(dim=1)


def _listed(values: Tensor) -> str:
    text = ", ".join(f"{v:g}" for v in values[:_LISTED].tolist()) + (", …" if len(values) > _LISTED else "")
    return f"the values {text}"


class _Differences:
    """What is to be 1 or more: f_{y_i} − f_c for all c ≠ y_i, or ± f of one output."""

    def __init__(self, classes: Tensor, outputs: int) -> None:
        self.classes, self.outputs = classes, outputs
        self.signs = 2.0 * classes.double() - 1.0
        self.others = torch.nn.functional.one_hot(classes, max(outputs, 2)) == 0

    def of(self, f: Tensor) -> Tensor:
        """(N, C, …) → (N, C − 1, …), of one output (N, 1, …)."""
        if self.outputs == 1:
            return f * self.signs.view(-1, *[1] * (f.ndim - 1))
        n = len(f)
        own = f[torch.arange(n), self.classes].unsqueeze(1)
        return own - f[self.others].reshape(n, self.outputs - 1, *f.shape[2:])

    def transposed(self, alpha: Tensor) -> Tensor:
        """The transposed map of one weight per difference, (M,) → (N, C)."""
        if self.outputs == 1:
            return (self.signs * alpha)[:, None]
        n = len(self.classes)
        beta = torch.zeros(n, self.outputs, dtype=alpha.dtype)
        beta[self.others] = -alpha
        beta[torch.arange(n), self.classes] = alpha.reshape(n, -1).sum(dim=1)
        return beta


def _closest_in_hull(D: Tensor) -> Tensor:
    """Weights p ≥ 0, Σp = 1, of the rows of D, (M, r), with which ‖Dᵀp‖ is smallest; the separator is Dᵀp/‖Dᵀp‖².

    With E = [Dᵀ; 1ᵀ] and e the last unit vector, p is proportional to argmin ‖E u − e‖ over u ≥ 0.
    """
    from scipy.optimize import nnls  # is slow to import, and only this function needs it

    D = D / torch.linalg.vector_norm(D, dim=1).max()
    E = np.vstack([D.mT.numpy(), np.ones(len(D))])
    e = np.zeros(len(E))
    e[-1] = 1.0
    try:
        u, _ = nnls(E, e, maxiter=10 * len(D))
    except RuntimeError as error:
        raise SingularKernelError(
            f"the separator was not found, scipy.optimize.nnls: {error} The kernel is too close to singular: compute "
            "it in float64, or leave out rows that are nearly identical."
        ) from error
    return torch.from_numpy(u / u.sum())


def _check_separated(combination: Tensor, modes: Spectrum, eps: float) -> None:
    """Refuse differences of which a convex combination b has bᵀKb = 0 up to the rounding of K."""
    b = combination.reshape(-1)
    size = float(b @ torch.from_numpy(modes.apply(b.numpy())))
    if size > rank_cutoff(float(modes.eigenvalues[0]), eps) * float(b.square().sum()):
        return
    parts = combination.abs().amax(dim=1)
    rows = (parts > _NO_PART * parts.max()).nonzero()[:, 0].tolist()
    listed = ", ".join(map(str, rows[:_LISTED])) + (", …" if len(rows) > _LISTED else "")
    raise SingularKernelError(
        f"the classes cannot be separated on these features: no parameters give each of the training rows {listed} "
        f"({len(rows)} of {len(combination)}) its own class. The kernel has rank {modes.rank} of {b.numel()}; of full "
        "rank it separates any classes. Look for identical inputs with different classes, or widen the network."
    )


def _separator(D: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """The shortest θ with D θ = 1 in the active rows, (r,), and α, (M,), 0 elsewhere, with θ = Dᵀα."""
    Q, R = torch.linalg.qr(D[active].mT)
    ones = torch.ones(len(R), 1, dtype=D.dtype)
    inner = torch.linalg.solve_triangular(R.mT, ones, upper=False)
    alpha = torch.zeros(len(D), dtype=D.dtype)
    alpha[active] = torch.linalg.solve_triangular(R, inner, upper=True)[:, 0]
    return (Q @ inner)[:, 0], alpha


def _check_optimal(D: Tensor, theta: Tensor, alpha: Tensor) -> None:
    """Verify D θ ≥ 1, α ≥ 0, θ = Dᵀα and α (Dθ − 1) = 0, relative to the size of each.

    Raises:
        SingularKernelError: by how much they are missed.
    """
    margins, length = D @ theta, torch.linalg.vector_norm(theta)
    missed = {
        "margins of 1": float(1.0 - margins.min()),
        "coefficients of 0 or more": -float(alpha.min() / alpha.abs().max()),
        "a combination of the features": float(torch.linalg.vector_norm(theta - D.mT @ alpha) / length),
        "no slack at support vectors": float((margins - 1.0)[alpha != 0].abs().max()),
    }
    name = max(missed, key=lambda key: missed[key])
    if not missed[name] <= _OPTIMALITY:
        raise SingularKernelError(
            f"the separator misses its conditions, {name}, by {missed[name]:.2g}; up to {_OPTIMALITY:g} is rounding. "
            f"Its margin is {float(1.0 / length):.2g} beside features of size "
            f"{float(torch.linalg.vector_norm(D, dim=1).max()):.2g}: compute the kernel in float64, or leave out rows "
            "of different classes that are nearly identical."
        )

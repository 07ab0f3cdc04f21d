"""The interpolator A = K(x', X) K⁺ and the terms of the linearized network: pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from whichmin.kernels.modes import Spectrum

#: The terms of the linearized network, in the order in which :func:`linearized_terms` returns them.
LINEARIZED_TERMS = ("interpolant", "initialization", "geometry", "history", "decay", "unconverged")


@dataclass(frozen=True, eq=False)
class Interpolator:
    """A = K(x', X) K⁺: from values on the training inputs to those of the smallest function that takes them.

    Attributes:
        cross: K(x', X), (n·C, N·C), float64, on the CPU.
        spectrum: of K(X, X); modes whose eigenvalue counts as zero are left out.
    """

    cross: Tensor = field(repr=False)
    spectrum: Spectrum

    def __call__(self, v: Tensor) -> Tensor:
        """A v for v (N·C,) or, one column each, (N·C, k); (n·C,) or (n·C, k), float64."""
        return self.cross @ torch.from_numpy(self.spectrum.solve(v.numpy()))

    def filtered(self, factors: Tensor) -> Tensor:
        """A Q diag(g) Qᵀ as a matrix, (n·C, N·C): only the part g_i of mode i is interpolated.

        Args:
            factors: g, (N·C,), one per eigenvalue, in descending order of the eigenvalues.
        """
        values, Q = self.spectrum.eigenvalues, self.spectrum.vectors
        return self.cross @ (Q * torch.where(values > 0, factors / values, 0.0)) @ Q.mT


def linearized_terms(
    plain: Interpolator,
    *,
    y: Tensor | None,
    f0: Tensor,
    f0_test: Tensor,
    train: Tensor,
    in_metric: Interpolator | None = None,
    decay: tuple[Tensor, Tensor] | None = None,
    memory: tuple[Tensor, Tensor] | None = None,
    test: Tensor | None = None,
    remainder: str = "history",
) -> dict[str, Tensor]:
    """What put the linearized network where it is, as terms that add up to its test outputs.

    With A = K(x', X) K⁺, and A_D = K_D(x', X) K_D⁺ in the optimizer's metric D:

    ==============  ==========================================================================================
    interpolant     A Y, or A f(X) without Y
    initialization  f₀(x') − A f₀(X)
    geometry        (A_D − A) (f(X) − f₀(X)); with ``in_metric``
    decay           d(x') − A_D d(X), d what weight decay moved the outputs by; with ``decay``, A without metric
    unconverged     A (f(X) − Y); with Y
    history         m(x') − A_D m(X), m what the optimizer remembered at θ₀ moved the outputs by; with ``memory``.
                    Else the rest of the test outputs: metrics before the last one; with ``test``
    ==============  ==========================================================================================

    Args:
        plain: A.
        y: the outputs Y at which the loss is least, the targets of the mean square error, (N·C,), float64 and on the
            CPU as all that follow; None where there are none or many, as of cross-entropy.
        f0: f₀(X), (N·C,).
        f0_test: f₀(x'), (n·C,).
        train: f(X), the linearized network's training outputs, (N·C,).
        in_metric: A_D.
        decay: d(X), (N·C,), and d(x'), (n·C,).
        memory: m(X), (N·C,), and m(x'), (n·C,).
        test: f(x'), the linearized network's test outputs, (n·C,): then the terms add up to exactly these.
        remainder: the term that is ``test`` minus all others: ``history``, or one whose formula holds up to rounding
            and that takes the rounding on itself.

    Returns:
        The terms, (n·C,) each, in the order of ``LINEARIZED_TERMS``.
    """
    carried = plain if in_metric is None else in_metric
    # One solve for all columns: a kernel that is not decomposed is read once for them.
    interpolant, initialization, unconverged = plain(
        torch.stack([train if y is None else y, f0, torch.zeros_like(train) if y is None else train - y], dim=1)
    ).unbind(1)
    terms = {"interpolant": interpolant, "initialization": f0_test - initialization}
    if in_metric is not None:
        terms["geometry"] = in_metric(train - f0) - plain(train - f0)
    if decay is not None:
        terms["decay"] = decay[1] - carried(decay[0])
    if memory is not None:
        terms["history"] = memory[1] - carried(memory[0])
    if y is not None:
        terms["unconverged"] = unconverged
    if test is not None:
        assert remainder in LINEARIZED_TERMS
        others = [term for name, term in terms.items() if name != remainder]
        terms[remainder] = test - torch.stack(others).sum(0)
    return {name: terms[name] for name in LINEARIZED_TERMS if name in terms}

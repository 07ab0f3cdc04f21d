"""The solution of least squares with the smallest norm."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from whichmin.devices import default_device_aside
from whichmin.linear import _checks
from whichmin.linear._checks import tensor
from whichmin.linear._problem import pose


@default_device_aside()
def least_squares(X: Any, Y: Any, *, rcond: float | None = None) -> Tensor:
    """Θ̂ = X⁺Y, the smallest of the matrices that minimize ½‖Y − XΘ‖²_F.

    Args:
        X: inputs, (N, d).
        Y: targets, (N, m) or (N,).
        rcond: singular values of X up to rcond times the largest count as zero; 10 rounding units of X's type by
            default.

    Returns:
        (d, m), float64. One thin SVD of X, O(Nd·min(N, d)).

    Raises:
        DataError: not finite, of different lengths, or X zero.
    """
    problem = pose(_checks.data(X, Y), rcond)
    return tensor(problem.row_space @ problem.solution)

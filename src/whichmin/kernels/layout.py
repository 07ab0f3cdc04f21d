"""The two layouts of a kernel K(x, x') of networks with C outputs, and the conversions between them.

=======  ===============  ========================================================================================
layout   shape            where output c of row i stands
=======  ===============  ========================================================================================
blocks   (n₁, n₂, C, C)   K[i, j, c, d]: what ``tangent_kernel`` returns
matrix   (n₁·C, n₂·C)     row i·C + c, as in ``outputs.reshape(-1)``: what is solved with
=======  ===============  ========================================================================================

A conversion of a kernel of one output copies nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def to_matrix(K: Tensor) -> Tensor:
    """Blocks (n₁, n₂, C, C) → matrix (n₁·C, n₂·C)."""
    n1, n2, C, _ = K.shape
    return K.transpose(1, 2).reshape(n1 * C, n2 * C)


def from_matrix(M: Tensor, C: int) -> Tensor:
    """Matrix (n₁·C, n₂·C) → blocks (n₁, n₂, C, C), contiguous."""
    n1, n2 = M.shape[0] // C, M.shape[1] // C
    return M.reshape(n1, C, n2, C).transpose(1, 2).contiguous()


def matrix_rows(rows: Sequence[int], C: int) -> list[int]:
    """Where the outputs of some inputs stand among the rows of a matrix."""
    return [i * C + c for i in rows for c in range(C)]

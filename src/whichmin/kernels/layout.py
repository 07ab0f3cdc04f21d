"""The layouts of a kernel K(x, x') of networks with C outputs, and the conversions between them.

============  =================  =============================================================================
layout        shape              where output c of row i stands
============  =================  =============================================================================
blocks        (n₁, n₂, C, C)     K[i, j, c, d]: what ``tangent_kernel`` returns
matrix        (n₁·C, n₂·C)       row i·C + c, as in ``outputs.reshape(-1)``: what is solved with
output-major  (C·n₁, C·n₂)       row c·n₁ + i: what layers are contracted to
============  =================  =============================================================================

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
    n1, n2 = _rows(M, C)
    return M.reshape(n1, C, n2, C).transpose(1, 2).contiguous()


def to_output_major(K: Tensor) -> Tensor:
    """Blocks (n₁, n₂, C, C) → output-major (C·n₁, C·n₂)."""
    n1, n2, C, _ = K.shape
    return K.permute(2, 0, 3, 1).reshape(C * n1, C * n2)


def from_output_major(M: Tensor, C: int) -> Tensor:
    """Output-major (C·n₁, C·n₂) → blocks (n₁, n₂, C, C), contiguous."""
    n1, n2 = _rows(M, C)
    return M.reshape(C, n1, C, n2).permute(1, 3, 0, 2).contiguous()


def output_major_to_matrix(M: Tensor, C: int) -> Tensor:
    """Output-major (C·n₁, C·n₂) → matrix (n₁·C, n₂·C); M itself for C = 1."""
    if C == 1:
        return M
    n1, n2 = _rows(M, C)
    return M.reshape(C, n1, C, n2).permute(1, 0, 3, 2).reshape(M.shape)


def matrix_rows(rows: Sequence[int], C: int) -> list[int]:
    """Where the outputs of some inputs stand among the rows of a matrix."""
    return [i * C + c for i in rows for c in range(C)]


def _rows(M: Tensor, C: int) -> tuple[int, int]:
    return M.shape[0] // C, M.shape[1] // C

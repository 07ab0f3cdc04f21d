"""The layouts of a kernel against their definitions, with n₁ ≠ n₂ and several outputs."""

from __future__ import annotations

import pytest
import torch

from whichmin.kernels.layout import from_matrix, matrix_rows, to_matrix

SIZES = pytest.mark.parametrize(("n1", "n2", "C"), [(3, 5, 2), (5, 3, 3), (4, 2, 1), (1, 1, 4)])


def blocks(n1, n2, C):
    return torch.arange(n1 * n2 * C * C, dtype=torch.float64).reshape(n1, n2, C, C)


@SIZES
def test_where_each_entry_stands(n1, n2, C):
    K = blocks(n1, n2, C)
    matrix = to_matrix(K)
    assert matrix.shape == (n1 * C, n2 * C)
    for i in range(n1):
        for j in range(n2):
            for c in range(C):
                for d in range(C):
                    assert matrix[i * C + c, j * C + d] == K[i, j, c, d]


@SIZES
def test_there_and_back(n1, n2, C):
    K = blocks(n1, n2, C)
    assert torch.equal(from_matrix(to_matrix(K), C), K)
    assert from_matrix(to_matrix(K), C).is_contiguous()


@SIZES
def test_a_matrix_multiplies_flattened_outputs(n1, n2, C):
    K, v = blocks(n1, n2, C), torch.randn(n2, C, dtype=torch.float64)
    product = torch.einsum("ijcd,jd->ic", K, v)
    torch.testing.assert_close(to_matrix(K) @ v.reshape(-1), product.reshape(-1))


@SIZES
def test_rows_of_a_matrix(n1, n2, C):
    K = blocks(n1, n2, C)
    left, right = [0, n1 - 1], [n2 - 1]
    rows, columns = matrix_rows(left, C), matrix_rows(right, C)
    assert torch.equal(to_matrix(K)[rows][:, columns], to_matrix(K[left][:, right]))


def test_one_output_is_not_copied():
    K = blocks(3, 2, 1)
    matrix = to_matrix(K)
    assert matrix.data_ptr() == K.data_ptr()
    assert from_matrix(matrix, 1).data_ptr() == K.data_ptr()

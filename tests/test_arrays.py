"""What is read as an array, and in which type; refusals are in ``task/test_task.py``."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from whichmin import linear
from whichmin.arrays import as_tensor
from whichmin.errors import DataError, ModelError

THIRD = 1.0 / 3.0


@pytest.mark.parametrize(
    "value", [[[THIRD]], pd.DataFrame({"a": [THIRD]}), pd.Series([THIRD])], ids=lambda v: type(v).__name__
)
def test_what_has_no_type_of_its_own_gets_the_one_asked_for(value):
    assert as_tensor(value, "X").dtype == torch.float32
    assert as_tensor(value, "X", torch.float64).reshape(-1).tolist() == [THIRD]


def test_what_has_a_type_keeps_it():
    for value in (torch.ones(2, dtype=torch.float16), np.ones(2, np.float32), [torch.ones(2, dtype=torch.float64)]):
        expected = value[0].dtype if isinstance(value, list) else torch.as_tensor(value).dtype
        assert as_tensor(value, "X", torch.float64).dtype == expected
    assert as_tensor([1, 2], "X", torch.float64).dtype == torch.int64
    assert as_tensor(pd.Series([1, 2]), "X", torch.float64).dtype == torch.int64
    array = np.ones(2)
    array.flags.writeable = False
    assert as_tensor(array, "X").tolist() == [1.0, 1.0]
    assert not as_tensor(torch.ones(2, requires_grad=True), "X").requires_grad


def test_linear_networks_take_lists_in_double_precision_and_name_what_they_cannot_read():
    U, V, X, Y = [[1.0], [0.0]], [[THIRD]], [[1.0, 0.0], [0.0, 1.0]], [[THIRD], [0.0]]
    assert float(linear.analyze_weights(U, V, X, Y).loss) < 1e-30
    with pytest.raises(DataError, match="X is sparse"):
        linear.analyze_weights(U, V, torch.eye(2).to_sparse(), Y)
    with pytest.raises(ModelError, match="U is sparse"):
        linear.analyze_weights(torch.eye(2).to_sparse(), V, X, Y)
    with pytest.raises(DataError, match=r"X has columns that are not numbers: 'a' \("):
        linear.analyze_weights(U, V, pd.DataFrame({"a": ["u", "v"], "b": [1.0, 2.0]}), Y)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).astype(">f8"),
        np.arange(6.0).reshape(2, 3).astype(">f4"),
        np.arange(12.0).reshape(2, 6)[:, ::-2],
        np.arange(6.0).reshape(2, 3)[::-1],
        np.arange(6.0).reshape(3, 2).T,
        np.arange(6.0, dtype=np.longdouble).reshape(2, 3),
        np.arange(6, dtype=np.uint16).reshape(2, 3),
        np.arange(6, dtype=np.uint64).reshape(2, 3),
        np.broadcast_to(np.arange(3.0), (2, 3)),
        np.zeros(4, dtype=[("a", "i1"), ("b", "f4")])["b"],
    ],
    ids=["big endian", "big endian single", "backwards", "rows backwards", "columns first", "long", "uint16", "uint64",
         "one row", "part of a structure"],
)  # fmt: skip
def test_arrays_of_any_order_and_stride(array):
    read = as_tensor(array, "X")
    assert read.dtype in (torch.float32, torch.float64, torch.int64)
    assert read.double().tolist() == array.astype(np.float64).tolist()
    read += 1  # its own memory, or that of an array that may be written to


def test_arrays_that_may_not_be_written_to_are_copied():
    array = np.arange(3.0)
    array.flags.writeable = False
    read = as_tensor(array, "X")
    read += 1
    assert array.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ma.masked_invalid([[1.0, np.nan]]), r"X is a masked array, 1 of its 2 entries masked: fill them, X.filled"),
        (np.ma.array([1.0, 2.0]), r"X is a masked array, 0 of its 2 entries .* where none is masked, X.data"),
        (np.zeros(3, dtype=[("a", "f4"), ("b", "f4")]), "X is a structured array of the fields 'a', 'b'"),
        (np.array([2**64 - 1], dtype=np.uint64), "X holds the whole number 18446744073709551615, beyond int64"),
        (
            np.array([[1.0, "x", {}], [2.0, "y", 3]], dtype=object),
            r"whose columns 1 \(str, such as 'x'\), 2 \(dict",
        ),
    ],
)
def test_arrays_that_cannot_be_read(value, message):
    with pytest.raises(DataError, match=message):
        as_tensor(value, "X")


def test_arrays_of_objects_that_are_numbers_are_read():
    assert as_tensor(np.array([[1, 2.5], [3, 4]], dtype=object), "X").tolist() == [[1.0, 2.5], [3.0, 4.0]]

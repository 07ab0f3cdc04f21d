"""What is read as an array, and in which type; refusals are in ``test_task.py``."""

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

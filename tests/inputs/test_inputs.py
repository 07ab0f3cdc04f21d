"""Several inputs as one, and the output that is picked."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from whichmin.errors import DataError, InputError, ModelError
from whichmin.inputs import (
    Inputs,
    Output,
    as_inputs,
    called,
    of_batch,
    only_tensor,
    pair_of_inputs,
    picked,
    row_bytes,
    row_groups,
    single_tensor,
)

A, B = torch.tensor([[1.0], [1.0], [2.0]]), torch.tensor([[3], [4], [3]])
NAMED, PLACED = as_inputs({"a": A, "b": B}, "X"), as_inputs((A, B), "X")
Pair = namedtuple("Pair", ["logits", "other"])


@dataclass
class Returned:
    """An object with attributes."""

    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] = ()


def test_a_tensor_stays_itself():
    assert as_inputs(A, "X") is A
    assert pair_of_inputs(A, A) == (A, A)
    assert only_tensor(A) is A


@pytest.mark.parametrize("X", [NAMED, PLACED], ids=["named", "placed"])
def test_rows_are_taken_of_all(X):
    assert len(X) == 3
    for rows in (slice(1, None), [1, 2], torch.tensor([1, 2]), torch.tensor([False, True, True])):
        part = X[rows]
        assert len(part) == 2
        a, b = part.tensors.values() if X is NAMED else part.tensors
        assert torch.equal(a, A[1:])
        assert torch.equal(b, B[1:])
    copy = X.clone()
    (copy["a"] if X is NAMED else copy.tensors[0]).zero_()
    assert A.any(), "a copy is a copy"


def test_models_are_called_by_name_or_by_position():
    assert torch.equal(called(lambda b, a: a - b, NAMED), A - B)
    assert torch.equal(called(lambda a, b: a - b, PLACED), A - B)
    assert torch.equal(called(lambda x: x * 2, A), A * 2)


def test_rows_are_equal_where_all_tensors_are():
    assert row_groups(A).tolist() == [0, 0, 1]
    assert len(set(row_groups(NAMED).tolist())) == 3
    assert len(set(row_bytes(NAMED))) == 3
    assert len(set(row_bytes(A))) == 2


@pytest.mark.parametrize(
    ("batch", "X"),
    [
        ((A, 0), A),
        (A, A),
        ([A.double(), 0], A),
        ({"a": A, "b": B, "labels": 0}, NAMED),
        (({"b": B, "a": A}, 0), NAMED),
        ((A, B, 0), PLACED),
        (((A, B), 0), PLACED),
    ],
)
def test_inputs_of_a_batch(batch, X):
    assert row_bytes(of_batch(batch, X)) == row_bytes(X)


@pytest.mark.parametrize(
    ("batch", "X"), [("x", A), ((A[:, :0], 0), A), ({"a": A}, NAMED), ((A,), PLACED), ((A, 0), NAMED)]
)
def test_a_batch_without_such_inputs(batch, X):
    assert of_batch(batch, X) is None


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (A, None),
        ({"logits": A, "other": B}, None),
        (Returned(A), None),
        (Pair(A, B), None),
        (SimpleNamespace(logits=A), None),
        ({"other": A}, "other"),
        (Pair(B, A), "other"),
        (SimpleNamespace(scores=A), "scores"),
        ((B, A), lambda out: out[1]),
        (Returned(B, (B, A)), lambda out: out.hidden[-1]),
    ],
)
def test_an_output_is_picked(returned, output):
    assert picked(returned, Output.of(output)) is A


@pytest.mark.parametrize(
    ("returned", "output", "message"),
    [
        ((A, B), None, r"returned a tuple of 2; expected a tensor, .* Task\(…, output=lambda out: out\[0\]\)"),
        ({"scores": A, "boxes": B}, None, r"a dict with 'scores', 'boxes'; expected .* Task\(…, output='scores'\)"),
        (None, None, "returned a NoneType; expected a tensor"),
        ({"logits": 3}, None, "a dict with 'logits'; expected a tensor"),
        ({"scores": A}, "logits", "output='logits' is not among what the model returned, a dict with 'scores'"),
        (Returned(A), "scores", "output='scores' is not among .*, a Returned with 'logits', 'hidden'"),
        (A, "logits", r"output='logits' asks for a part of a tensor, \(3, 1\): leave output out"),
        (Returned(A, (A,)), "hidden", "output='hidden' gives a tuple of 1; expected a tensor"),
        (Returned(A), lambda out: out["logits"], "output= failed on what the model returned, a Returned .*: TypeError"),
    ],
)
def test_outputs_that_are_not_there(returned, output, message):
    with pytest.raises(ModelError, match=message):
        picked(returned, Output.of(output))


def test_a_function_that_was_not_saved_is_told():
    with pytest.raises(ModelError, match=r"picked by a function, and functions are not saved"):
        Output(None)(A)


def test_what_takes_one_tensor_says_so():
    with pytest.raises(DataError, match=r"the inputs are a \(3, 1\), .*, b \(3, 1\), .*; a linear network takes a"):
        single_tensor(NAMED, "a linear network")
    with pytest.raises(InputError, match="there is no input 'c': the inputs are a"):
        NAMED["c"]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({"a": A, "b": B[:2]}, r"x1\['b'\] has 2 rows and x1\['a'\] has 3"),
        ({"a": A * float("nan")}, r"x1\['a'\] holds NaN or infinity, first in row 0"),
        ({"a": A.to_sparse()}, r"x1\['a'\] is sparse"),
        ((A[:0], B[:0]), r"x1\[0\] is \(0, 1\); expected a tensor of at least one row"),
        ([1.0], "x1 is list; expected a tensor of at least one row, .* or a mapping or tuple of them"),
    ],
)
def test_inputs_of_kernels_that_do_not_fit(x, message):
    with pytest.raises(DataError, match=message):
        pair_of_inputs(x, None)


def test_the_second_input_is_the_first_where_it_is_the_same_object():
    x = {"a": A}
    first, second = pair_of_inputs(x, x)
    assert isinstance(first, Inputs)
    assert second is first

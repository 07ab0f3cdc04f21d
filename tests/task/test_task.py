"""Tasks: what is stored, and every input that is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch import nn

import whichmin as wm
from whichmin.errors import DataError, InputError

X, X_TEST = torch.randn(6, 3), torch.randn(4, 3)
Y, Y_TEST = torch.randn(6), torch.randn(4)


def spoiled(array, row, value):
    array = array.clone()
    array.reshape(len(array), -1)[row, 0] = value
    return array


@settings(deadline=None)
@given(
    n=st.integers(1, 5),
    outputs=st.integers(1, 4),
    n_test=st.integers(1, 3),
    shape=st.lists(st.integers(1, 3), max_size=3),
)
def test_what_is_counted(n, outputs, n_test, shape):
    task = wm.Task(torch.zeros(n, *shape), torch.zeros(n, outputs), torch.zeros(n_test, *shape))
    assert (task.n, task.outputs, task.n_test) == (n, outputs, n_test)
    assert task.y.shape == (n, outputs)


def test_flat_targets_become_a_column():
    task = wm.Task(X, Y, X_TEST, Y_TEST)
    assert torch.equal(task.y, Y.reshape(6, 1))
    assert torch.equal(task.y_test, Y_TEST.reshape(4, 1))
    bare = wm.Task(X, Y)
    assert bare.X_test is None
    assert bare.y_test is None
    assert bare.n_test == 0


def test_integer_targets_become_those_of_the_inputs_type():
    assert wm.Task(X, torch.arange(6)).y.dtype == torch.float32
    assert wm.Task(X.double(), torch.arange(6) > 2).y.dtype == torch.float64
    assert wm.Task(torch.arange(6)[:, None], torch.arange(6)).y.dtype == torch.get_default_dtype()
    assert wm.Task(X, torch.arange(6)).y[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_arrays_and_lists_are_read():
    task = wm.Task(np.ones((2, 3)), [1.0, -1.0], np.zeros((1, 3)))
    assert task.X.dtype == torch.float64
    assert task.y.tolist() == [[1.0], [-1.0]]
    lists = wm.Task(X.tolist(), Y.tolist())
    assert lists.X.dtype == torch.float32
    assert torch.equal(lists.X, X)
    assert torch.equal(wm.Task(list(X), list(Y)).X, X)
    assert torch.equal(wm.Task([x.numpy() for x in X], Y).X, X)
    assert wm.Task(X, np.array([1, 2.5, 3, 4, 5, 6], dtype=object)).y[1, 0] == 2.5


def test_it_is_frozen_and_holds_no_graph():
    task = wm.Task(X.clone().requires_grad_(), Y)
    assert not task.X.requires_grad
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.X = X


def test_to_moves_what_is_floating():
    task = wm.Task(torch.arange(6).reshape(6, 1), Y, torch.arange(4).reshape(4, 1), Y_TEST).to(torch.float64)
    assert task.X.dtype == task.X_test.dtype == torch.int64
    assert task.y.dtype == task.y_test.dtype == torch.float64
    double = wm.Task(X, Y, X_TEST, Y_TEST).to(torch.float64)
    assert double.X.dtype == double.X_test.dtype == double.y.dtype == torch.float64
    assert torch.equal(double.X.float(), X)
    assert wm.Task(X, Y).to("cpu").X_test is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["X", "y", "X_test", "y_test"])
def test_values_that_are_not_finite(name, value):
    arrays = {"X": X, "y": Y, "X_test": X_TEST, "y_test": Y_TEST}
    arrays[name] = spoiled(spoiled(arrays[name], 2, value), 3, value)
    n = len(arrays[name])
    with pytest.raises(DataError, match=rf"^{name} holds NaN or infinity in 2 of {n} rows, first in row 2: drop or"):
        wm.Task(**arrays)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((X[:0], Y[:0]), r"X is empty, shape \(0, 3\)"),
        ((X[:, :0], Y), r"X is empty, shape \(6, 0\)"),
        ((X, Y[:0]), "y is empty"),
        ((X, Y, X_TEST[:0]), "X_test is empty"),
        ((X, Y, X_TEST, Y_TEST[:0]), "y_test is empty"),
        ((X, Y[:5]), "y has 5 rows and X has 6: one target per input"),
        ((X, Y, X_TEST, Y), "y_test has 6 rows and X_test has 4"),
        (
            (X, torch.zeros(6, 2, 3), X_TEST, torch.zeros(4, 3, 2)),
            r"a row of y_test has shape \(3, 2\) and one of y \(2",
        ),
        ((X, Y, X_TEST, torch.zeros(4, 2)), "y_test has rows of shape .2,., torch.float32, and y of .1,."),
        ((X, Y, torch.randn(4, 2)), r"rows of X_test have shape \(2,\) and those of X \(3,\)"),
        ((X, Y, torch.randn(4)), r"rows of X_test have shape \(\) and those of X \(3,\)"),
        ((X, Y, X_TEST.double()), r"X is torch.float32 and X_test torch.float64.*X_test.to\(X.dtype\)"),
        ((X, Y, None, Y_TEST), "y_test without X_test"),
        ((torch.tensor(1.0), Y), "X is a single number"),
        ((X, 1.0), "y is a single number"),
        ((X.to(torch.complex64), Y), "X is complex"),
        ((X.to_sparse(), Y), r"X is sparse \(torch.sparse_coo\); expected dense rows: X.to_dense\(\)"),
        ((X, Y[:, None].to_sparse_csr()), r"y is sparse .* y.to_dense\(\)"),
        ((csr_array(X.numpy()), Y), r"X is sparse \(scipy's csr_array\); expected dense rows: X.toarray\(\)"),
        (([[1.0, 2.0], [1.0]], [1.0, 2.0]), "X is a list that torch.as_tensor cannot read.*nested lists of one length"),
        (([np.ones(2), np.ones(3)], [1.0, 2.0]), "X is a list of arrays that numpy.stack cannot join"),
        (([X[0], X[0, :2]], [1.0, 2.0]), "X is a list of tensors that torch.stack cannot join"),
        (({}, Y), "X is an empty mapping; expected tensors by the names of the model's arguments"),
        (({"a": X, 1: X}, Y), "X has the key 1; expected names of arguments of the model"),
        (({"a": X, "b": X[:5]}, Y), r"X\['b'\] has 5 rows and X\['a'\] has 6: rows run along axis 0 of each"),
        (((X, X[:5]), Y), r"X\[1\] has 5 rows and X\[0\] has 6"),
        (({"a": X, "b": None}, Y), r"X\['b'\] is None; expected a tensor with the rows along axis 0"),
        (({"a": X, "b": "text"}, Y), r"X\['b'\] is 'text'; expected a tensor"),
        (((X, 3), Y), r"X\[1\] is 3; expected a tensor with the rows along axis 0"),
        (({"a": X, "b": torch.tensor(1.0)}, Y), r"X\['b'\] is a single number; expected a tensor with the rows"),
        (({"a": X, "b": spoiled(X, 2, float("nan"))}, Y), r"X\['b'\] holds NaN or infinity in 1 of 6 rows, first in"),
        (({"a": X, "b": X.long().to("meta")}, Y), r"X\['b'\] is on meta and others on cpu: move them to one device"),
        (({"a": X}, Y, {"b": X_TEST}), r"X_test is b \(4, 3\), .* and X is a \(6, 3\), .*: pass the same arguments"),
        (({"a": X}, Y, X_TEST), r"X_test is \(4, 3\), .* and X is a \(6, 3\)"),
        (({"a": X}, Y, {"a": X_TEST[:, :2]}), r"rows of X_test\['a'\] have shape \(2,\) and those of X\['a'\] \(3,\)"),
        (({"a": X}, Y, {"a": X_TEST.double()}), r"X\['a'\] is torch.float32 and X_test\['a'\] torch.float64"),
        ((np.array([{}] * 6), Y), r"X is an array of objects \(dict\); expected numbers"),
        (("pixels", Y), "X is a str that torch.as_tensor cannot read"),
        ((X, [None] * 6), "y is a list that torch.as_tensor cannot read"),
        ((X.long(), Y, X_TEST.long().to("meta")), "X is on cpu and X_test on meta"),
    ],
)
def test_arrays_that_do_not_fit(arrays, message):
    with pytest.raises(DataError, match=message):
        wm.Task(*arrays)


def test_several_inputs_by_name_or_by_position():
    ids, test_ids = torch.arange(6)[:, None], torch.arange(4)[:, None]
    named = wm.Task({"x": X, "ids": ids}, Y, {"ids": test_ids, "x": X_TEST}, Y_TEST)
    assert (named.n, named.n_test, named.outputs) == (6, 4, 1)
    assert torch.equal(named.X["x"], X)
    assert torch.equal(named.X[[4, 1]]["ids"], ids[[4, 1]])
    double = named.to(torch.float64)
    assert double.X["x"].dtype == double.X_test["x"].dtype == double.y.dtype == torch.float64
    assert double.X["ids"].dtype == torch.int64, "numbers that are looked up stay whole"
    positional = wm.Task((X.numpy(), ids), Y)
    assert torch.equal(positional.X.tensors[0], X)
    assert torch.equal(positional.X[2:4].tensors[1], ids[2:4])
    with pytest.raises(InputError, match=r"there is no input 'mask': the inputs are x \(6, 3\)"):
        named.X["mask"]


def test_rows_of_several_inputs_are_equal_where_all_are():
    a, b = torch.tensor([[0.0], [0.0], [1.0], [0.0]]), torch.tensor([5, 6, 5, 5])
    assert wm.Task({"a": a, "b": b}, torch.tensor([1.0, 2.0, 3.0, 1.0])).contradiction() is None
    assert wm.Task({"a": a, "b": b}, torch.tensor([1.0, 2.0, 3.0, 4.0])).contradiction() == (0, 3)


def test_targets_of_several_axes_are_flattened():
    y = torch.randn(6, 2, 3)
    task = wm.Task(X, y, X_TEST, torch.zeros(4, 6))
    assert (task.outputs, task.row_shape) == (6, (2, 3))
    assert torch.equal(task.y, y.reshape(6, 6))
    assert task.to(torch.float64).row_shape == (2, 3)


@pytest.mark.parametrize("output", [3, ["logits"]])
def test_an_output_is_a_name_or_a_function(output):
    with pytest.raises(InputError, match="expected the name of a key or attribute of what the model returns"):
        wm.Task(X, Y, output=output)


def test_a_contradiction_is_two_equal_rows_with_other_targets():
    X = torch.tensor([[0.0, 1.0], [2.0, 3.0], [0.0, 1.0], [2.0, 3.0], [2.0, 3.0]])
    assert wm.Task(X, torch.tensor([1.0, 2.0, 1.0, 2.0, 2.0])).contradiction() is None
    assert wm.Task(X, torch.tensor([1.0, 2.0, 1.0, 2.0, 5.0])).contradiction() == (1, 4)
    assert wm.Task(X.reshape(5, 1, 2), torch.tensor([1.0, 2.0, 7.0, 2.0, 2.0])).contradiction() == (0, 2)
    two = torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 0.5], [2.0, 0.0], [2.0, 0.0]])
    assert wm.Task(X, two).contradiction() == (0, 2), "each output counts"


FRAME = pd.DataFrame(X.double().numpy(), columns=list("abc"))


def test_data_frames_of_numbers_are_read():
    task = wm.Task(FRAME, pd.Series(Y.numpy()), FRAME.iloc[:4])
    assert task.X.dtype == task.X_test.dtype == task.y.dtype == torch.float32
    assert torch.equal(task.X, X)
    assert torch.equal(task.X_test, X[:4])
    assert torch.equal(task.y[:, 0], Y)
    mixed = wm.Task(FRAME.assign(b=[True, False] * 3, c=range(6)), pd.DataFrame({"u": Y, "v": Y}))
    assert mixed.X[:, 1:].tolist() == [[1 - i % 2, i] for i in range(6)]
    assert mixed.outputs == 2
    whole = wm.Task(pd.DataFrame({"a": range(6)}), pd.Series([True, False] * 3))
    assert whole.X.dtype == whole.y.dtype == torch.float32
    with pytest.raises(DataError, match="X holds NaN or infinity in 1 of 6 rows, first in row 2"):
        wm.Task(FRAME.assign(a=pd.array([1, 2, None, 4, 5, 6], dtype="Int64")), Y)


@pytest.mark.parametrize(
    "column",
    [
        ["x", "y"] * 3,
        pd.Categorical(["x", "y"] * 3),
        pd.date_range("2020", periods=6),
        [None, *"abcde"],
        [1j] * 6,
    ],
)
def test_columns_that_are_no_numbers_are_named(column):
    with pytest.raises(DataError, match=r"X has columns that are not numbers: 'b' \(.*get_dummies\(X, columns=\['b'\]"):
        wm.Task(FRAME.assign(b=column), Y)
    with pytest.raises(DataError, match=r"X_test has columns that are not numbers: 'b'"):
        wm.Task(FRAME, Y, FRAME.assign(b=column))


def test_frames_whose_rows_have_other_labels():
    y = pd.Series(Y.numpy())
    with pytest.raises(DataError, match=r"the index of y is not that of X: pass y\.loc\[X\.index\], .*y\.to_numpy\(\)"):
        wm.Task(FRAME.iloc[::-1], y)
    with pytest.raises(DataError, match="the index of y_test is not that of X_test"):
        wm.Task(FRAME, y, FRAME.iloc[:3], y.iloc[3:])
    assert torch.equal(wm.Task(FRAME.iloc[::-1], y.loc[FRAME.index[::-1]]).X, X.flip(0))
    assert torch.equal(wm.Task(FRAME.iloc[::-1], y.to_numpy()).y[:, 0], Y)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "b"] * 3,
        np.array(["a", "b"] * 3),
        np.array(["a", "b"] * 3, dtype=object),
        pd.Series(["a", "b"] * 3),
        pd.Series(pd.Categorical(["a", "b"] * 3)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_labels_that_are_text(labels):
    with pytest.raises(
        DataError, match=r"^y (holds text, such as 'a'|is a series of .*); expected numbers\. For classes"
    ):
        wm.Task(X, labels)
    names, codes = np.unique(labels, return_inverse=True)
    assert wm.Task(X, 2.0 * torch.nn.functional.one_hot(torch.tensor(codes)) - 1).outputs == len(names)
    assert wm.Task(X, 2.0 * torch.tensor(codes) - 1).y[:, 0].tolist() == [-1.0, 1.0] * 3


def test_class_numbers_are_refused_with_both_remedies():
    y = torch.arange(6) % 3
    for given_y in (
        y,
        y.numpy(),
        y.tolist(),
        pd.Series(y.numpy()),
        y[:, None],
        y.to(torch.int8),
        y + 4,
        y.numpy().astype("O"),
    ):
        with pytest.raises(
            DataError, match=r"y holds the integers .*: 3 different ones in 6 rows.*\.one_hot\("
        ) as caught:
            wm.Task(X, given_y)
        assert "if they are amounts, torch.as_tensor(y).float()" in str(caught.value)
    assert wm.Task(X, 2.0 * torch.nn.functional.one_hot(torch.as_tensor(y).long()) - 1).outputs == 3
    other = torch.unique(torch.as_tensor(y + 4), return_inverse=True)[1]
    assert torch.equal(other, y)
    assert wm.Task(X, torch.as_tensor(y).float()).outputs == 1
    with pytest.raises(DataError, match="100 different ones in 300 rows"):
        wm.Task(torch.randn(300, 3), torch.arange(300) % 100)


def test_amounts_and_two_classes_are_not():
    assert wm.Task(X, torch.arange(6) % 2).y.unique().tolist() == [0.0, 1.0]
    assert wm.Task(X, torch.arange(6) > 2).outputs == 1
    assert wm.Task(X, torch.arange(6) * 7).outputs == 1
    assert wm.Task(X, torch.ones(6, dtype=torch.int64)).outputs == 1
    assert wm.Task(torch.randn(100, 3), 3 * (torch.arange(100) % 30)).outputs == 1, "thirty counts are no class numbers"
    assert wm.Task(X, torch.stack([torch.arange(6) % 3] * 2, 1)).outputs == 2, "one-hot rows are integers as well"
    assert wm.Task(X, torch.arange(6).float() % 3).outputs == 1


def test_types_for_storage_and_numbers_beyond_int64():
    X, y = torch.randn(4, 2), torch.randn(4)
    with pytest.raises(
        DataError, match=r"X is torch\.float8_e4m3fn, a type for storage; expected numbers: X\.float\(\)"
    ):
        wm.Task(X.to(torch.float8_e4m3fn), y)
    beyond = pd.Series(np.array([2**63 + 1, 2, 3, 4], dtype=np.uint64))
    with pytest.raises(DataError, match="y holds the whole number 9223372036854775809, beyond int64"):
        wm.Task(X, beyond)


@pytest.mark.parametrize("classes", [3.0, -1, 0, ()])
def test_classes_that_are_no_number_and_no_labels(classes):
    y = torch.tensor([0, 1, 2, 0])
    with pytest.raises(DataError, match="expected the number of classes, or their labels"):
        wm.Task(torch.randn(4, 2), y, loss=nn.CrossEntropyLoss(), classes=classes)
    assert wm.Task(torch.randn(4, 2), y, loss=nn.CrossEntropyLoss(), classes=np.int64(3)).classes == (0, 1, 2)


def test_without_rows_everything_else_stays():
    X, y = torch.arange(10.0).reshape(5, 2), torch.tensor([0, 2, 1, 2, 0])
    task = wm.Task(X, y, X[:2], y[:2], loss=torch.nn.CrossEntropyLoss(), classes=("a", "b", "c"))
    rest = task.without([3, 0])
    assert torch.equal(rest.X, X[[1, 2, 4]])
    assert rest.y.tolist() == [2, 1, 0]
    assert rest.classes == ("a", "b", "c")
    assert torch.equal(rest.X_test, task.X_test)
    assert rest.loss == task.loss
    assert task.n == 5
    several = wm.Task({"a": X, "b": X + 1}, y.double(), {"a": X, "b": X}).without((1, 2, 3))
    assert torch.equal(several.X["b"], X[[0, 4]] + 1)
    assert torch.equal(task.only(torch.tensor([4, 4])).y, torch.tensor([0, 0]))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (torch.ones(6, 3, device="meta"), "X is on the meta device and holds no numbers"),
        (torch.nested.nested_tensor([torch.ones(n) for n in range(1, 7)]), "X is a nested tensor.*to_padded_tensor"),
        (
            torch.nested.nested_tensor([torch.ones(n) for n in range(1, 7)], layout=torch.jagged),
            "X is a nested tensor",
        ),
    ],
    ids=["meta", "nested", "jagged"],
)
def test_tensors_without_an_array_of_numbers(X, message):
    with pytest.raises(DataError, match=message):
        wm.Task(X, torch.ones(6))

"""Tasks of data frames: what is encoded how, on which rows, and what is refused."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import whichmin as wm
from whichmin.errors import DataError
from whichmin.frames import split_frame

N = 40


def table(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "area": rng.normal(80, 20, n),
            "city": rng.choice(["Rome", "Bonn", "Oslo"], n),
            "rooms": rng.integers(1, 6, n),
            "garden": rng.random(n) < 0.5,
            "price": rng.normal(3e5, 5e4, n),
            "kind": np.resize(["villa", "flat", "flat"], n),
        }
    )


def test_numbers_are_standardized_and_categories_get_a_column_each_on_the_training_rows():
    frame = table().drop(columns="kind")
    task = wm.Task.from_frame(frame, target="price", test=0.3, seed=1)
    assert (task.n, task.n_test, task.outputs, task.classes) == (28, 12, 1, None)
    assert task.X.dtype == task.y.dtype == torch.float32
    prices = torch.tensor(frame["price"].to_numpy(), dtype=torch.float32)
    rows = [int((prices == y).nonzero()[0, 0]) for y in task.y[:, 0]]
    test_rows = [int((prices == y).nonzero()[0, 0]) for y in task.y_test[:, 0]]
    assert sorted(rows + test_rows) == list(range(N)), "every row once"
    numbers = frame[["area", "rooms", "garden"]].astype(float).to_numpy()
    cities = frame[["city"]].astype(object).to_numpy()
    scaler, encoder = StandardScaler().fit(numbers[rows]), OneHotEncoder(sparse_output=False).fit(cities[rows])
    for X, part in ((task.X, rows), (task.X_test, test_rows)):
        expected = np.hstack([scaler.transform(numbers[part]), encoder.transform(cities[part])])
        torch.testing.assert_close(X, torch.tensor(expected, dtype=torch.float32))
    assert abs(float(task.X[:, 0].mean())) < 1e-6
    assert abs(float(task.X_test[:, 0].mean())) > 1e-3, "the test rows have no say in the scale"


def test_without_standardization_numbers_stay_as_they_are():
    frame = table()[["area", "price"]]
    task = wm.Task.from_frame(frame, target="price", test=None, standardize=False)
    torch.testing.assert_close(task.X, torch.tensor(frame[["area"]].to_numpy(), dtype=torch.float32))
    torch.testing.assert_close(task.y, torch.tensor(frame[["price"]].to_numpy(), dtype=torch.float32))
    assert task.X_test is None
    assert wm.Task.from_frame(frame, "price", test=0).X_test is None


def test_whole_numbers_are_amounts():
    frame = table()[["area", "rooms"]]
    assert wm.Task.from_frame(frame, "rooms").y.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["str", "object", "category"])
def test_labels_become_class_numbers(dtype):
    frame = table().astype({"kind": dtype})
    split = split_frame(frame, "kind", 0.25, True, 0)
    assert split.classes == ("flat", "villa")
    assert split.y.dtype == split.y_test.dtype == torch.int64
    assert split.y.shape == (30,)
    labels = [split.classes[k] for k in torch.cat([split.y, split.y_test])]
    assert sorted(labels) == sorted(frame["kind"])
    share = (frame["kind"] == "villa").mean()
    assert abs(float(split.y_test.double().mean()) - share) < 0.06, "of each class alike"


def test_a_task_of_labels_is_one_of_classes():
    task = wm.Task.from_frame(table(), "kind")
    assert task.classes == ("flat", "villa")
    assert (task.y.dtype, task.y.shape, task.outputs) == (torch.int64, (28,), 2)
    assert task.loss.takes_classes
    logistic = wm.Task.from_frame(table(), "kind", loss=torch.nn.BCEWithLogitsLoss())
    assert torch.equal(logistic.y[:, 0], task.y.float())
    whole = wm.Task.from_frame(table().assign(floor=np.arange(N) % 3), "floor", loss=torch.nn.CrossEntropyLoss())
    assert (whole.y.dtype, whole.outputs) == (torch.int64, 3)


def test_a_table_of_labels_is_predicted_and_explained():
    frame = table(60).assign(kind=lambda t: np.where(t["area"] > 80, "villa", "flat"))
    task = wm.Task.from_frame(frame, "kind", seed=1)
    model = wm.networks.MLP((task.X.shape[1], 64, 2), seed=0)
    optimizer = partial(torch.optim.SGD, lr=0.5)
    run = wm.train(model, task, optimizer, steps=40, until=None)
    predicted = wm.predict(model, task, optimizer, steps=40, relinearize="path", tol=1e-3)
    moved = (run.test - wm.Tangent(model).f0(task.X_test)).square().mean().sqrt()
    assert (predicted.test - run.test).square().mean().sqrt() < 0.05 * moved
    assert task.accuracy(run.test) > 0.8
    explained = wm.explain(run)
    torch.testing.assert_close(sum(explained.terms.values()), run.test.double(), rtol=1e-4, atol=1e-4)


def test_categories_keep_their_order():
    sizes = pd.Categorical(np.resize(["small", "large"], N), categories=["small", "medium", "large"], ordered=True)
    split = split_frame(table().assign(size=sizes), "size", 0.3, True, 0)
    assert split.classes == ("small", "large"), "those that occur"


def test_a_category_that_was_not_trained_on_is_zero_in_all_columns():
    frame = pd.DataFrame({"city": ["a"] * 9 + ["b"], "y": np.arange(10.0)})
    for seed in range(40):
        split = split_frame(frame, "y", 0.2, True, seed)
        if split.X.shape[1] == 1:
            assert sorted(split.X_test.sum(1).tolist()) == [0.0, 1.0]
            return
    raise AssertionError("no seed put the only b into the test rows")


def test_so_many_rows_of_each():
    task = wm.Task.from_frame(table(), "price", n_train=10, n_test=5)
    assert (task.n, task.n_test) == (10, 5)
    assert wm.Task.from_frame(table(), "price", test=0.25, n_train=10).n_test == 10
    bare = split_frame(table(), "kind", None, True, 0, 12)
    assert bare.X_test is None
    assert torch.bincount(bare.y).tolist() == [8, 4], "of each class alike"


def test_the_split_is_the_seeds():
    first, again, other = (wm.Task.from_frame(table(), "price", seed=s) for s in (0, 0, 1))
    assert torch.equal(first.X, again.X)
    assert not torch.equal(first.y, other.y)


@pytest.mark.filterwarnings("error")
def test_nothing_warns():
    frame = table().astype({"city": "category"})
    wm.Task.from_frame(frame, "price")
    wm.Task(frame[["area", "rooms"]], frame["price"])


def spoiled(column, value, rows=(3, 5)):
    frame = table()
    frame[column] = frame[column].astype(object if isinstance(value, dict) else float)
    for row in rows:
        frame.at[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "settings", "message"),
    [
        (
            table(),
            {"target": "prize"},
            r"no column 'prize'; its columns are 'area', 'city', .*'kind'. Did you mean 'pric",
        ),
        (table()[["price"]], {}, "no column besides the target 'price'"),
        (table()[:0], {}, "the frame has no rows"),
        ({"a": [1]}, {}, "got a dict; expected a data frame of pandas"),
        (pd.concat([table(), table()[["area"]]], axis=1), {}, "several columns are called 'area'"),
        (spoiled("area", float("nan")), {}, r"values are missing in 'area' \(2\) of 40 rows: .*dropna"),
        (spoiled("price", float("nan"), (1,)), {}, r"values are missing in 'price' \(1\) of 40 rows"),
        (spoiled("area", float("inf")), {}, r"values are infinite in 'area' \(2\) of 40 rows"),
        (spoiled("rooms", {}), {}, r"column 'rooms' holds objects \(dict, int\); expected numbers, text or categories"),
        (table().assign(day=pd.Timestamp("2020-01-01")), {}, "column 'day' holds datetime64.*drop it"),
        (table().assign(z=1j), {}, "column 'z' holds complex128"),
        (table(), {"test": 1.0}, r"test is 1.0; expected the share of rows to test on, from 0 to below 1"),
        (table(), {"test": "half"}, "test is 'half'; expected the share"),
        (table(), {"test": 0.001}, "test = 0.001 of 40 rows leave 40 to train on and 0 to test on"),
        (
            table().assign(kind=np.resize(["a", "b", "c"], N)),
            {"target": "kind", "loss": torch.nn.MSELoss()},
            r"the target 'kind' holds 3 labels, and .* takes amounts: take the cross-entropy, loss=",
        ),
        (table().assign(kind="flat"), {"target": "kind"}, "all rows of the target 'kind' are 'flat'"),
        (
            table().assign(kind=["hut", *["flat"] * 39]),
            {"target": "kind"},
            "the classes 'hut' have a single row each, which cannot be both trained and tested on",
        ),
        (
            table(),
            {"target": "kind", "test": 0.03},
            "1 rows to test on and 2 classes, so that some are left out",
        ),
        (
            table().assign(kind=["hut", "hut", *["flat"] * 38]),
            {"target": "kind", "test": 0.1},
            "the classes 'hut' have too few rows to be among the 4 test rows",
        ),
    ],
)
def test_frames_that_do_not_fit(frame, settings, message):
    with pytest.raises(DataError, match=message):
        wm.Task.from_frame(frame, **{"target": "price"} | settings)


@pytest.mark.parametrize("value", [1, 0.5])
def test_a_target_of_one_amount(value):
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [value] * 3})
    with pytest.raises(DataError, match=f"all rows of the target 'b' are {value}: there is nothing to tell apart"):
        wm.Task.from_frame(frame, "b", test=None)


@pytest.mark.parametrize("name", ["n_train", "n_test"])
@pytest.mark.parametrize("value", [3.5, "3", -1])
def test_numbers_of_rows_that_are_none(name, value):
    with pytest.raises(DataError, match=f"{name} is {value!r}; expected a whole number of rows"):
        wm.Task.from_frame(table(), "price", **{name: value})


@pytest.mark.parametrize("seed", [-1, 1.5, 2**40])
def test_seeds_that_no_split_has(seed):
    with pytest.raises(DataError, match=f"seed is {seed}; expected a whole number from 0 to 4294967295"):
        wm.Task.from_frame(table(), "price", seed=seed)


def test_training_rows_that_leave_fewer_than_there_are_classes():
    frame = pd.DataFrame({"a": np.arange(12.0), "kind": list("xyz") * 4})
    task = wm.Task.from_frame(frame, "kind", n_train=11, n_test=0)
    assert (task.n, task.n_test, task.classes) == (11, 0, ("x", "y", "z"))


def test_whole_targets_beyond_int64():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": np.array([2**63 + 1, 1, 2], dtype=np.uint64)})
    with pytest.raises(DataError, match="b holds the whole number 9223372036854775809, beyond int64"):
        wm.Task.from_frame(frame, "b", test=None)

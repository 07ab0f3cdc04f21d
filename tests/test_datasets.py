"""Tasks of data sets and loaders: which rows are drawn, how items become tensors, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

import whichmin as wm
from whichmin.errors import DataError

N = 20
X = torch.arange(N * 3.0).reshape(N, 3)
Y = torch.arange(N * 1.0)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        if not isinstance(i, int):
            raise TypeError("items by plain integers")
        return self.items[i]


def texts(n=8, lengths=None):
    """As of tokenized texts: lists of different types of numbers."""
    lengths = lengths or [4] * n
    return [
        {"text": "a b", "input_ids": list(range(k)), "attention_mask": [1] * k, "label": i % 2}
        for i, k in enumerate(lengths)
    ]


def test_all_rows_keep_their_order():
    task = wm.Task.from_dataset(TensorDataset(X, Y))
    assert torch.equal(task.X, X)
    assert torch.equal(task.y[:, 0], Y)
    assert task.X_test is None


def test_a_draw_is_disjoint_and_the_seeds():
    data = TensorDataset(X, Y)
    task = wm.Task.from_dataset(data, n_train=8, n_test=5, seed=3)
    train, test = task.y[:, 0].tolist(), task.y_test[:, 0].tolist()
    assert (len(train), len(test)) == (8, 5)
    assert not set(train) & set(test)
    assert torch.equal(task.X, X[task.y[:, 0].long()]), "inputs and targets belong together"
    assert wm.Task.from_dataset(data, n_train=8, n_test=5, seed=3).y.equal(task.y)
    assert not wm.Task.from_dataset(data, n_train=8, n_test=5, seed=4).y.equal(task.y)
    more = wm.Task.from_dataset(data, n_train=10, n_test=5, seed=3)
    assert torch.equal(more.y[:8], task.y), "more of the one leaves the rest as it is"
    assert torch.equal(more.y_test, task.y_test)
    assert wm.Task.from_dataset(data, n_test=5, seed=3).n == N - 5


def test_a_test_set_of_its_own():
    train, test = TensorDataset(X, Y), TensorDataset(-X[:6], -Y[:6])
    task = wm.Task.from_dataset(train, test, n_train=4)
    assert (task.n, task.n_test) == (4, 6)
    assert torch.equal(task.X_test, -X[:6])
    assert wm.Task.from_dataset(train, test, n_test=2).n_test == 2


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(X, Y),
        DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True),
        Items([(x.numpy(), float(y)) for x, y in zip(X, Y, strict=True)]),
        Items([(x.tolist(), np.float32(y)) for x, y in zip(X, Y, strict=True)]),
        [(x, y) for x, y in zip(X, Y, strict=True)],
        Subset(TensorDataset(X, Y), range(N)),
        Items([{"x": x, "target": y} for x, y in zip(X, Y, strict=True)]),
    ],
    ids=["tensors", "loader", "arrays", "lists", "list of pairs", "subset", "mappings"],
)
def test_items_of_any_form(data):
    task = wm.Task.from_dataset(data)
    read = task.X if isinstance(task.X, torch.Tensor) else task.X["x"]
    assert torch.equal(read, X)
    assert torch.equal(task.y[:, 0], Y)
    assert task.y.dtype == torch.float32


def test_several_inputs():
    positional = wm.Task.from_dataset(TensorDataset(X, X[:, :1], Y))
    assert [t.shape for t in positional.X.tensors] == [(N, 3), (N, 1)]
    nested = wm.Task.from_dataset(Items([({"a": x, "b": x[0]}, y) for x, y in zip(X, Y, strict=True)]))
    assert torch.equal(nested.X["b"], X[:, 0])
    pairs = wm.Task.from_dataset(Items([((x, x[:1]), y) for x, y in zip(X, Y, strict=True)]))
    assert torch.equal(pairs.X.tensors[1], X[:, :1])


def test_keys_are_named():
    task = wm.Task.from_dataset(Items(texts()), inputs=["input_ids", "attention_mask"])
    assert set(task.X.tensors) == {"input_ids", "attention_mask"}
    assert task.X["input_ids"].shape == (8, 4)
    assert task.X["input_ids"].dtype == torch.int64
    single = wm.Task.from_dataset(Items(texts()), inputs="input_ids", target="label")
    assert torch.equal(single.X, task.X["input_ids"])


def test_a_loader_pads_all_rows_at_once():
    def padded(items):
        k = max(len(item["input_ids"]) for item in items)
        ids = torch.tensor([item["input_ids"] + [0] * (k - len(item["input_ids"])) for item in items])
        return {"input_ids": ids, "labels": torch.tensor([float(item["label"]) for item in items])}

    loader = DataLoader(Items(texts(lengths=[2, 5, 3, 4, 1, 2, 2, 2])), batch_size=2, collate_fn=padded)
    task = wm.Task.from_dataset(loader, n_train=5, n_test=3)
    assert task.X["input_ids"].shape == (5, 5)
    assert task.X_test["input_ids"].shape == (3, 5)
    pairs = DataLoader(TensorDataset(X, Y), batch_size=2, collate_fn=lambda items: default_collate(items))
    assert torch.equal(wm.Task.from_dataset(pairs).X, X)


class Endless(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


class Picture:
    """What a data set of images holds without a transform."""


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (Endless(), {}, "train is a Endless, which has no items by number; expected a map-style data set"),
        (DataLoader(Endless()), {}, "train is a Endless"),
        ({"x": X}, {}, "train is a dict, which has no items by number"),
        (Items([]), {}, "train is a data set without items"),
        (TensorDataset(X, Y), {"n_train": 21}, "n_train = 21 rows are asked for and the training set has 20"),
        (TensorDataset(X, Y), {"n_train": 15, "n_test": 6}, "n_train = 15 and n_test = 6 rows are asked for and the"),
        (TensorDataset(X, Y), {"n_train": 0}, "n_train = 0 rows are asked for"),
        (TensorDataset(X, Y), {"n_train": 2.5}, "n_train is 2.5; expected a whole number of rows"),
        (TensorDataset(X, Y), {"n_test": -1}, "n_test is -1; expected a whole number of rows"),
        (TensorDataset(X, Y), {"test": TensorDataset(X, Y), "n_test": 30}, "n_test = 30 rows .* the test set has 20"),
        (TensorDataset(X), {}, r"an item of the data set is a tuple of 1; expected \(x, y\)"),
        (list(X), {}, "an item of the data set is a Tensor; expected"),
        (TensorDataset(X, Y), {"target": "label"}, "name keys of items that are mappings, and an item is a tuple of 2"),
        (Items(texts()), {}, r"rows of X\['text'\] are text, such as 'a b'; expected numbers or arrays"),
        (Items(texts()), {"target": "y"}, "items have no target 'y'; their keys are 'text', 'input_ids'"),
        (Items([{"x": 1.0}]), {}, "items have no target; their keys are 'x': say which it is, target="),
        (Items(texts()), {"inputs": ["ids"]}, "items have no 'ids'; their keys are 'text'"),
        (
            Items(texts(lengths=[3, 2] * 4)),
            {"inputs": "input_ids"},
            r"rows of X have different shapes, \(3,\), \(2,\): pad or crop them alike",
        ),
        (Items([(Picture(), 1.0)]), {}, "rows of X are a Picture; .* give the data set a transform"),
    ],
)
def test_data_sets_that_do_not_fit(data, settings, message):
    with pytest.raises(DataError, match=message):
        wm.Task.from_dataset(data, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": SubsetRandomSampler(range(5))},
        {"sampler": WeightedRandomSampler(torch.ones(len(X)), len(X))},
        {"sampler": RandomSampler(X, replacement=True)},
        {"batch_sampler": [[0, 1], [2]]},
    ],
    ids=["subset", "weights", "replacement", "batches"],
)
def test_a_loader_whose_sampler_may_leave_rows_out_is_refused(settings):
    """As those that split one data set into training and validation rows."""
    loader = DataLoader(TensorDataset(X, Y), **settings)
    with pytest.raises(DataError, match=r"may leave rows of its data set out.*Subset"):
        wm.Task.from_dataset(loader)


def test_an_item_that_fails_is_named():
    class Broken(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            if i == 2:
                raise KeyError("image")
            return X[i], Y[i]

    with pytest.raises(DataError, match="item 2 of the data set fails: KeyError: 'image'"):
        wm.Task.from_dataset(Broken())


@pytest.mark.parametrize("seed", [-1, 1.5])
def test_seeds_that_no_draw_has(seed):
    with pytest.raises(DataError, match=f"seed is {seed}; expected a whole number from 0"):
        wm.Task.from_dataset(TensorDataset(torch.randn(6, 2), torch.randn(6)), n_train=3, seed=seed)


def views(items):
    """Two views of each item."""
    return torch.stack([x for x, _ in items] * 2), torch.stack([y for _, y in items] * 2)


def broken(items):
    raise KeyError("pixels")


@pytest.mark.parametrize(
    ("collate", "message"),
    [
        (views, "the collate_fn makes 10 rows of inputs and 10 targets of 5 items; expected a row for each"),
        (broken, "the collate_fn fails on all 5 items at once: KeyError: 'pixels'"),
    ],
)
def test_what_joins_items_makes_a_row_of_each(collate, message):
    loader = DataLoader(TensorDataset(torch.randn(6, 2), torch.randn(6)), collate_fn=collate)
    with pytest.raises(DataError, match=message):
        wm.Task.from_dataset(loader, n_train=3, n_test=2)


def test_a_loader_without_batches_has_the_items_of_its_data_set():
    X, y = torch.randn(6, 2), torch.randn(6)
    task = wm.Task.from_dataset(DataLoader(TensorDataset(X, y), batch_size=None))
    assert torch.equal(task.X, X)
    assert torch.equal(task.y[:, 0], y)

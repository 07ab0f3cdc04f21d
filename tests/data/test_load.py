from __future__ import annotations

import os
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whichmin.data import load
from whichmin.data.select import _balanced
from whichmin.errors import DataError

from .conftest import write_cifar, write_idx, write_pair


def rows(X):
    return {tuple(row) for row in X.tolist()}


def test_digits():
    task = load("digits", classes=(0, 1))
    assert task.X.shape == task.X_test.shape == (100, 64)
    assert task.X.dtype == task.y.dtype == torch.float32
    assert (task.X.min(), task.X.max()) == (0, 1)
    assert sorted(task.y[:, 0].tolist()) == [-1.0] * 50 + [1.0] * 50


def test_how_the_arrays_were_made_is_kept():
    prepared = load("digits", classes=(3, 8), n_train=20, seed=2).to(torch.float64).prepared
    assert prepared["data"] == "digits"
    assert prepared["seed"] == 2
    assert prepared["inputs divided by"] == 16
    assert prepared["flattened"] is True
    assert prepared["targets of classes"] == {"3": [-1.0], "8": [1.0]}


def test_digits_targets_belong_to_the_inputs():
    from sklearn.datasets import load_digits

    known = {tuple(x): int(y) for x, y in zip(load_digits().data.tolist(), load_digits().target, strict=True)}
    task = load("digits", classes=(7, 3), n_train=20)
    for X, y in ((task.X, task.y), (task.X_test, task.y_test)):
        assert [known[tuple(row)] for row in (X * 16).tolist()] == [7 if t < 0 else 3 for t in y[:, 0]]


def test_more_than_two_classes_are_one_hot_and_centred():
    task = load("digits", n_train=20, n_test=10, dtype=torch.float64)
    assert task.y.shape == (20, 10)
    assert task.y.sum(1).abs().max() < 1e-12
    torch.testing.assert_close(task.y.max(1).values, torch.full((20,), 0.9, dtype=torch.float64))
    assert (task.y > 0).sum(0).tolist() == [2] * 10


def test_the_seed_makes_the_draw():
    one, same, other = (load("digits", classes=(0, 1), n_train=20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.X, same.X)
    assert torch.equal(one.y, same.y)
    assert rows(one.X) != rows(other.X)


def test_more_training_examples_leave_the_test_set_alone():
    small = load("digits", classes=(0, 1), n_train=20, n_test=30)
    large = load("digits", classes=(0, 1), n_train=60, n_test=30)
    assert torch.equal(small.X_test, large.X_test)
    assert rows(small.X) < rows(large.X)


def test_training_and_test_examples_are_disjoint():
    task = load("digits", classes=(0, 1), n_train=180, n_test=180)
    assert not rows(task.X) & rows(task.X_test)


def test_images_keep_their_shape_when_asked():
    assert load("digits", n_train=2, n_test=0, flat=False).X.shape == (2, 1, 8, 8)


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), share=st.floats(0, 1))
def test_balanced_counts(sizes, share):
    n = round(share * sum(sizes))
    counts = _balanced(sizes, n)
    assert sum(counts) == n
    assert all(0 <= count <= size for count, size in zip(counts, sizes, strict=True))
    room = [count for count, size in zip(counts, sizes, strict=True) if count < size]
    assert not room or max(counts) <= min(room) + 1


def test_too_many_asked_for():
    with pytest.raises(
        DataError, match="digits has 360 examples of the classes 0, 1 for the training and test part and 361"
    ):
        load("digits", classes=(0, 1), n_train=300, n_test=61)


def test_too_many_asked_of_each_part(tmp_path, labels):
    write_pair(tmp_path, "train", labels)
    write_pair(tmp_path, "t10k", labels)
    with pytest.raises(DataError, match="has 40 examples of the classes 0, 1 for the training part and 41"):
        load(tmp_path, classes=(0, 1), n_train=41, n_test=1)
    with pytest.raises(DataError, match="has 40 examples of the classes 0, 1 for the test part and 41"):
        load(tmp_path, classes=(0, 1), n_train=1, n_test=41)


@pytest.mark.parametrize(("n_train", "n_test"), [(0, 1), (1, -1)])
def test_counts_that_make_no_sense(n_train, n_test):
    with pytest.raises(DataError, match=f"n_train is {n_train} and n_test {n_test}"):
        load("digits", n_train=n_train, n_test=n_test)


def test_a_class_that_is_not_there():
    with pytest.raises(DataError, match="digits has no class 10; it has 0, 1, 2"):
        load("digits", classes=(0, 10))


@pytest.mark.parametrize("classes", [(3,), (3, 3), ()])
def test_too_few_classes(classes):
    with pytest.raises(DataError, match="expected two different ones at least"):
        load("digits", classes=classes)


def test_unknown_name():
    with pytest.raises(
        DataError, match=r"known are digits, mnist, fashion-mnist, cifar-10\. Did you mean 'fashion-mnist'"
    ):
        load("fashion-mnst")


def test_missing_path(tmp_path):
    with pytest.raises(DataError, match=r"there is no file or folder .*nothing"):
        load(tmp_path / "nothing")


def test_a_folder_without_data(tmp_path):
    with pytest.raises(DataError, match="is a folder without data that whichmin reads"):
        load(tmp_path)


def test_names_are_folders_in_the_environment_variable(tmp_path, labels, monkeypatch):
    monkeypatch.setenv("WHICHMIN_DATA", str(tmp_path))
    write_pair(tmp_path / "mnist", "t10k", labels)
    write_pair(tmp_path / "FashionMNIST", "t10k", labels)
    write_cifar(tmp_path / "cifar-10-batches-bin" / "test_batch.bin", labels)
    for name in ("mnist", "fashion-mnist", "cifar-10"):
        assert load(name, n_train=3, n_test=3).n == 3


def test_the_environment_variable_is_not_set(monkeypatch):
    monkeypatch.delenv("WHICHMIN_DATA", raising=False)
    with pytest.raises(DataError, match="the environment variable WHICHMIN_DATA is not set"):
        load("mnist")


def test_the_folder_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("WHICHMIN_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"'cifar-10' is not in WHICHMIN_DATA=.*cifar-10-batches-bin"):
        load("cifar-10")


def test_a_damaged_file_is_not_passed_over(tmp_path, labels):
    write_pair(tmp_path, "train", labels)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", np.zeros((60, 4, 3)))
    with pytest.raises(DataError, match="has no labels beside it"):
        load(tmp_path, n_train=2, n_test=2)


@pytest.mark.skipif("WHICHMIN_DATA" not in os.environ, reason="WHICHMIN_DATA is not set")
@pytest.mark.parametrize(("name", "shape"), [("mnist", (784,)), ("fashion-mnist", (784,)), ("cifar-10", (3, 32, 32))])
def test_real_data(name, shape):
    task = load(name, classes=(0, 1), n_train=60, n_test=100)
    assert task.X.shape == (60, *shape)
    assert task.X_test.shape == (100, *shape)
    assert task.y.sum() == task.y_test.sum() == 0
    assert (task.X.min(), task.X.max()) == (0, 1)


def test_a_table_of_another_kind_is_told_how_to_become_one_that_is_read(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("u\tlabel\tv\n" + "".join(f"{i}\t{i % 2}\t{i * i}\n" for i in range(8)))
    with pytest.raises(
        DataError, match=r"a\.tsv is a \.tsv file, which whichmin does not read; expected a ta"
    ) as caught:
        load(path)
    code = re.search(r"Make a table in Python: (.*\))\.$", str(caught.value))
    assert code is not None
    exec(code[1])
    task = load(tmp_path / "a.csv", target="label", n_train=4, n_test=4)
    assert task.X.shape == (4, 2)
    assert set(task.y[:, 0].tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.tsv", r"pd\.read_table\("),
        ("c.xlsx", r"pd\.read_excel\(.*\)\.to_csv\("),
        ("e.npy", r"np\.savez\("),
        ("f.pt", r"np\.savez\("),
        ("g.ZIP", r"np\.savez\("),
    ],
)
def test_files_of_kinds_that_are_not_read(tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"1,2")
    with pytest.raises(DataError, match=rf"which whichmin does not read; .* Make an? .* in Python: .*{remedy}"):
        load(tmp_path / name)

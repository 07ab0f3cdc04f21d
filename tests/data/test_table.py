"""Tables: which columns become what, and files that cannot be read."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import whichmin as wm
from whichmin.data import load
from whichmin.data.table import read_table
from whichmin.errors import DataError


def table(n=30):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"area": rng.normal(size=n), "city": np.resize(["a", "b"], n), "price": rng.normal(size=n)})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "homes.csv"
    table().to_csv(path, index=False)
    return path


def test_a_table_is_the_task_of_its_frame(path):
    task, same = load(path, target="price", seed=2), wm.Task.from_frame(pd.read_csv(path), "price", seed=2)
    assert (task.n, task.n_test) == (21, 9)
    for name in ("X", "y", "X_test", "y_test"):
        assert torch.equal(getattr(task, name), getattr(same, name))
    plain = load(path, target="price", test=0.5, standardize=False, n_train=5, dtype=torch.float64)
    assert (plain.n, plain.n_test, plain.X.dtype) == (5, 15, torch.float64)
    assert set(plain.X[:, 0].tolist()) <= set(np.float32(table()["area"]).tolist())
    assert load(path, target="price", n_test=0).X_test is None


def test_classes_choose_rows(path):
    table().assign(kind=np.arange(30) % 3).to_csv(path, index=False)
    task = load(path, target="kind", classes=(0, 2))
    assert task.n + task.n_test == 20
    assert set(task.y[:, 0].tolist()) == {0.0, 2.0}
    with pytest.raises(DataError, match=r"the column 'city' of .*homes.csv has no class 'c'; it has 'a', 'b'"):
        load(path, target="city", classes=("a", "c"))


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pandas reads no .parquet files without it")
def test_parquet(tmp_path):
    table().to_parquet(tmp_path / "homes.parquet")
    assert load(tmp_path / "homes.parquet", target="price").n == 21


def test_parquet_without_its_reader(tmp_path, monkeypatch):
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "homes.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"reading .*homes.parquet needs pyarrow: pip install pyarrow, or write .*csv"):
        read_table(tmp_path / "homes.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cannot read .*a.csv as a .csv file: No columns"),
        (b"a,b\n", r"a.csv holds no rows"),
        (b"a,b\n1,2\n3,4,5\n", r"cannot read .*a.csv as a .csv file: Error tokenizing data"),
        (b"a,b\n\xff\xfe,2\n", r"cannot read .*a.csv as a .csv file: .*codec can't decode"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.csv", target="b")


def test_a_table_needs_a_target_and_only_a_table_takes_one(path):
    with pytest.raises(
        DataError, match=r"say which column is the target, target='price' or --target; its columns are 'ar"
    ):
        load(path)
    with pytest.raises(DataError, match="target is 'price', a column of a table, and digits is none: leave it out"):
        load("digits", target="price")
    with pytest.raises(DataError, match=r"there is no file or folder missing\.csv"):
        load("missing.csv", target="price")

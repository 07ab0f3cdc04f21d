from __future__ import annotations

import numpy as np
import pytest
import torch

from whichmin.data import load
from whichmin.errors import DataError

rng = np.random.default_rng(0)
X, y = rng.standard_normal((30, 5)), rng.standard_normal(30)


def save(tmp_path, **arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    return tmp_path / "x.npz"


def test_numeric_targets_are_kept(tmp_path):
    task = load(save(tmp_path, X=X, y=y), n_train=20, n_test=10, dtype=torch.float64)
    order = [int(np.flatnonzero((row == X).all(1))[0]) for row in torch.cat([task.X, task.X_test]).numpy()]
    assert sorted(order) == list(range(30))
    np.testing.assert_array_equal(torch.cat([task.y, task.y_test])[:, 0].numpy(), y[order])


def test_several_numeric_targets(tmp_path):
    assert load(save(tmp_path, X=X, y=rng.integers(0, 2, (30, 4))), n_train=20, n_test=10).y.shape == (20, 4)


def test_integer_targets_are_classes(tmp_path):
    task = load(save(tmp_path, X=X, y=np.repeat([-1, 1], 15)), n_train=20, n_test=10)
    assert task.y.unique().tolist() == [-1, 1]
    assert task.y.sum() == 0


def test_test_part_of_its_own(tmp_path):
    task = load(save(tmp_path, X=X, y=y, X_test=X[:4] + 1, y_test=y[:4]), n_train=30, n_test=4)
    assert task.X_test.double().sum() == pytest.approx((X[:4] + 1).sum(), rel=1e-5)


def test_test_part_without_targets(tmp_path):
    task = load(save(tmp_path, X=X, y=np.repeat([0, 1], 15), X_test=X[:4]), n_train=30, n_test=4)
    assert task.n_test == 4
    assert task.y_test is None


def test_bytes_are_pixels(tmp_path):
    pixels = np.full((30, 2, 2), 255, dtype=np.uint8)
    task = load(save(tmp_path, X=pixels, y=y), n_train=5, n_test=0)
    assert task.X.shape == (5, 2, 2)
    assert torch.equal(task.X, torch.ones(5, 2, 2))
    assert task.X_test is None


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"X": X}, "lacks y; it holds X"),
        ({"inputs": X, "targets": y}, "lacks X and y; it holds inputs, targets"),
        ({"X": X, "y": y, "y_test": y}, "lacks X_test"),
        ({"X": X, "y": y[:-1]}, r"X in .* has 30 rows and y 29"),
        ({"X": X, "y": y, "X_test": X, "y_test": y[:3]}, r"X_test in .* has 30 rows and y_test 3"),
        ({"X": X, "y": np.array(["a"] * 30)}, "y in .* is <U1 of shape"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, arrays, said):
    with pytest.raises(DataError, match=said):
        load(save(tmp_path, **arrays))


def test_objects_are_not_unpickled(tmp_path):
    path = save(tmp_path, X=np.array([{}], dtype=object), y=y)
    with pytest.raises(DataError, match=r"cannot read .*x\.npz as an \.npz file"):
        load(path)


def test_no_archive(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(DataError, match=r"cannot read .*x\.npz as an \.npz file"):
        load(tmp_path / "x.npz")


def test_a_single_array(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="holds a single array"):
        load(tmp_path / "x.npz")


def test_classes_of_numeric_targets(tmp_path):
    with pytest.raises(DataError, match="has numeric targets, no classes"):
        load(save(tmp_path, X=X, y=y), classes=(0, 1))

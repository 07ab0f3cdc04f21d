from __future__ import annotations

import numpy as np
import pytest
import torch

from whichmin.data import load, read_cifar10
from whichmin.errors import DataError

from .conftest import write_cifar

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def folder(tmp_path, labels):
    for part in ("data_batch_1", "data_batch_2", "test_batch"):
        write_cifar(tmp_path / f"{part}.bin", labels)
    (tmp_path / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return tmp_path


def test_read_returns_what_was_written(tmp_path, labels):
    pixels = write_cifar(tmp_path / "x.bin", labels)
    images, read = read_cifar10(tmp_path / "x.bin")
    assert read.tolist() == labels.tolist()
    assert torch.equal(images, torch.from_numpy(pixels.reshape(-1, 3, 32, 32)))


def test_load_joins_the_batches_and_keeps_the_images_shape(folder):
    task = load(folder, classes=(0, 1), n_train=80, n_test=40)
    assert task.X.shape == (80, 3, 32, 32)
    assert task.X_test.shape == (40, 3, 32, 32)
    assert task.y.sum() == 0
    assert 0 <= task.X.min() < 0.01 < 0.99 < task.X.max() <= 1


def test_load_flattens_when_asked(folder):
    assert load(folder, n_train=3, n_test=3, flat=True).X.shape == (3, 3072)


def test_classes_by_name(folder):
    by_name = load(folder, classes=("bird", "airplane"), n_train=10, n_test=10)
    by_label = load(folder, classes=(2, 0), n_train=10, n_test=10)
    assert torch.equal(by_name.X, by_label.X)
    assert torch.equal(by_name.y, by_label.y)


def test_one_file_is_split(folder):
    task = load(folder / "test_batch.bin", n_train=40, n_test=20)
    rows = {tuple(row) for X in (task.X, task.X_test) for row in X.flatten(1)[:, :8].tolist()}
    assert len(rows) == 60


def test_a_folder_of_test_files_only_is_split(folder):
    for batch in folder.glob("data_batch_*.bin"):
        batch.unlink()
    assert load(folder, n_train=40, n_test=20).n_test == 20


@pytest.mark.parametrize("cut", [1, 3072])
def test_file_cut_short(tmp_path, labels, cut):
    write_cifar(tmp_path / "x.bin", labels)
    raw = (tmp_path / "x.bin").read_bytes()
    (tmp_path / "x.bin").write_bytes(raw[:-cut])
    with pytest.raises(DataError, match=f"is {len(raw) - cut} bytes long, no multiple of 3073"):
        read_cifar10(tmp_path / "x.bin")


def test_empty_file(tmp_path):
    (tmp_path / "x.bin").touch()
    with pytest.raises(DataError, match="is 0 bytes long"):
        read_cifar10(tmp_path / "x.bin")


def test_label_beyond_nine(tmp_path):
    write_cifar(tmp_path / "x.bin", np.array([0, 9, 10]))
    with pytest.raises(DataError, match="the label of record 2 is 10; expected 0…9"):
        read_cifar10(tmp_path / "x.bin")


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*x\.bin: No such file"):
        read_cifar10(tmp_path / "x.bin")

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
import torch

from whichmin.data import load, read_idx
from whichmin.errors import DataError

from .conftest import write_idx, write_pair


@pytest.mark.parametrize("name", ["a-idx3-ubyte", "a-idx3-ubyte.gz"])
def test_read_idx_returns_what_was_written(tmp_path, name):
    array = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    read = read_idx(write_idx(tmp_path / name, array))
    assert read.dtype == torch.uint8
    assert torch.equal(read, torch.from_numpy(array))


def test_read_idx_reads_big_endian_floats(tmp_path):
    values = np.array([1.5, -2.25], dtype=">f4")
    (tmp_path / "f").write_bytes(struct.pack(">II", 0x00000D01, 2) + values.tobytes())
    assert read_idx(tmp_path / "f").tolist() == [1.5, -2.25]


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    path = write_idx(tmp_path / "labels", np.arange(5))
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert read_idx(path).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_load_takes_train_from_train_and_test_from_t10k(tmp_path, labels, suffix):
    train = write_pair(tmp_path, "train", labels, suffix=suffix)
    test = write_pair(tmp_path, "t10k", labels, suffix=suffix, seed=1)
    task = load(tmp_path, n_train=60, n_test=60)
    rows = (task.X[:, 0] * 255).round().long()
    assert sorted(rows.tolist()) == list(range(60))
    torch.testing.assert_close(task.X, torch.from_numpy(train.reshape(60, -1) / 255).float()[rows])
    rows = (task.X_test[:, 0] * 255).round().long()
    torch.testing.assert_close(task.X_test, torch.from_numpy(test.reshape(60, -1) / 255).float()[rows])


def test_a_folder_with_one_pair_is_split_in_two_disjoint_parts(tmp_path, labels):
    write_pair(tmp_path, "t10k", labels)
    task = load(tmp_path, classes=(0, 2), n_train=30, n_test=10)
    rows = [(X[:, 0] * 255).round().long().tolist() for X in (task.X, task.X_test)]
    assert len(set(rows[0]) | set(rows[1])) == 40


def test_a_file_of_images_finds_its_labels(tmp_path, labels):
    write_pair(tmp_path, "t10k", labels, suffix=".gz")
    task = load(tmp_path / "t10k-images-idx3-ubyte.gz", n_train=9, n_test=3, flat=False)
    assert task.X.shape == (9, 1, 4, 3)
    assert task.y.shape == (9, 3)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*nowhere: No such file"):
        read_idx(tmp_path / "nowhere")


@pytest.mark.parametrize("change", [-1, 1])
def test_numbers_do_not_match_the_header(tmp_path, change):
    path = write_idx(tmp_path / "labels", np.arange(10))
    raw = path.read_bytes()
    path.write_bytes(raw[:change] if change < 0 else raw + b"\0")
    said = "cut short" if change < 0 else "too long"
    with pytest.raises(
        DataError, match=rf"is {said}: its header promises 10 numbers, 10 bytes, and {10 + change} follow"
    ):
        read_idx(path)


@pytest.mark.parametrize(("n", "said"), [(2, "too short for an IDX header"), (6, "ends within its header")])
def test_header_cut_short(tmp_path, n, said):
    path = write_idx(tmp_path / "labels", np.arange(10))
    path.write_bytes(path.read_bytes()[:n])
    with pytest.raises(DataError, match=said):
        read_idx(path)


def test_gzip_cut_short(tmp_path):
    path = write_idx(tmp_path / "labels.gz", np.random.default_rng(0).integers(0, 255, 1000))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="damaged gzip file"):
        read_idx(path)


def test_no_idx_file(tmp_path):
    (tmp_path / "x").write_bytes(b"PK\x03\x04 whatever")
    with pytest.raises(DataError, match="is no IDX file: it starts with 0x504b0304"):
        read_idx(tmp_path / "x")


def test_images_in_the_place_of_labels(tmp_path, labels):
    write_pair(tmp_path, "t10k", labels)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.zeros((60, 4, 3)))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte holds images .*expected labels"):
        load(tmp_path, n_train=2, n_test=2)


def test_labels_in_the_place_of_images(tmp_path, labels):
    write_pair(tmp_path, "t10k", labels)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", labels)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte holds labels .*expected images"):
        load(tmp_path, n_train=2, n_test=2)


def test_wrong_magic_number(tmp_path, labels):
    write_pair(tmp_path, "t10k", labels)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels, magic=0x00000902)
    with pytest.raises(DataError, match="starts with 0x00000902; expected 0x00000801, the magic number of IDX labels"):
        load(tmp_path, n_train=2, n_test=2)


def test_numbers_of_images_and_labels_differ(tmp_path, labels):
    write_pair(tmp_path, "t10k", labels)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels[:-1])
    with pytest.raises(DataError, match="holds 60 images and t10k-labels-idx1-ubyte 59 labels"):
        load(tmp_path, n_train=2, n_test=2)


def test_labels_missing(tmp_path, labels):
    write_pair(tmp_path, "t10k", labels)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"has no labels beside it: .*t10k-labels-idx1-ubyte is missing"):
        load(tmp_path, n_train=2, n_test=2)


def test_a_file_whose_labels_cannot_be_named(tmp_path):
    write_idx(tmp_path / "pictures", np.zeros((3, 2, 2)))
    with pytest.raises(DataError, match="labels cannot be found by its name"):
        load(tmp_path / "pictures")

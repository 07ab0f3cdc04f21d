from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from whichmin.data import load
from whichmin.errors import DataError


def write(path, value, mode="L", size=(5, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size[::-1] + ((3,) if mode == "RGB" else ())
    Image.fromarray(np.full(shape, value, np.uint8), mode).save(path)


def test_a_folder_for_each_class(tmp_path):
    for k in range(6):
        write(tmp_path / "cats" / f"{k}.png", k)
        write(tmp_path / "dogs" / f"{k}.png", 100 + k)
    task = load(tmp_path, classes=("dogs", "cats"), n_train=8, n_test=4)
    assert task.X.shape == (8, 1, 4, 5)
    assert torch.equal(task.y[:, 0] == -1, task.X[:, 0, 0, 0] * 255 >= 100)
    assert task.prepared["inputs divided by"] == 255


def test_train_and_test_folders_with_numbers_and_colours(tmp_path):
    for part, start in (("train", 0), ("test", 50)):
        for k in range(3):
            write(tmp_path / part / "3" / f"{k}.png", start + k)
            write(tmp_path / part / "8" / f"{k}.png", 200 + k, "RGB")
    task = load(tmp_path, classes=(3, 8), n_train=6, n_test=6)
    assert task.X.shape == (6, 3, 4, 5)
    threes = task.X_test[task.y_test[:, 0] == -1]
    assert sorted((threes[:, 0, 0, 0] * 255).round().tolist()) == [50, 51, 52]
    assert torch.equal(threes[:, 0], threes[:, 2])


def test_bad_folders(tmp_path):
    write(tmp_path / "a" / "0.png", 1)
    write(tmp_path / "b" / "0.png", 1, size=(6, 4))
    with pytest.raises(DataError, match=re.escape("6 × 4 pixels") + ".*" + re.escape("5 × 4 pixels")):
        load(tmp_path)
    (tmp_path / "b" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0.png cannot be read as an image"):
        load(tmp_path)


def test_one_class_only(tmp_path):
    for k in range(6):
        write(tmp_path / "cats" / f"{k}.png", k)
    with pytest.raises(DataError, match="expected two different ones"):
        load(tmp_path, n_train=3, n_test=3)


def test_parts_that_do_not_fit(tmp_path):
    for part, names, size in (("train", "ab", (5, 4)), ("test", "abc", (5, 4))):
        for name in names:
            write(tmp_path / part / name / "0.png", 1, size=size)
    with pytest.raises(DataError, match="has the class 'c', which"):
        load(tmp_path)
    (tmp_path / "test" / "c" / "0.png").unlink()
    for name in "ab":
        write(tmp_path / "test" / name / "0.png", 1, size=(2, 2))
    with pytest.raises(DataError, match="training images are 1 × 4 × 5 and test images 1 × 2 × 2"):
        load(tmp_path)

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from whichmin.data.catalogue import CATALOGUE, DataSet, PublishedFile
from whichmin.data.check import check

from .conftest import write_cifar, write_pair


def test_every_state(tmp_path, labels):
    folder = tmp_path / "mnist"
    write_pair(folder, "train", labels, suffix=".gz")
    write_pair(folder, "t10k", labels)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b damaged")
    images = folder / "train-images-idx3-ubyte.gz"
    names = [file.name for file in CATALOGUE["mnist"].files]
    hashes = dict.fromkeys(names, "0" * 64) | {images.name: hashlib.sha256(images.read_bytes()).hexdigest()}
    known = DataSet("mnist", "", ("mnist",), tuple(PublishedFile(n, hashes[n]) for n in names), ())
    (folder / "t10k-labels-idx1-ubyte").unlink()
    states = check(known, tmp_path)
    assert [state.state for state in states] == ["published", "damaged", "read", "missing"]
    assert states[0].note == "60 examples"
    assert "damaged gzip file" in states[1].note
    assert states[2].path.name == "t10k-images-idx3-ubyte"
    assert "not the published file" in states[2].note


def test_cifar(tmp_path, labels):
    write_cifar(tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin", labels)
    states = {state.path.name: state for state in check(CATALOGUE["cifar-10"], tmp_path)}
    assert states["data_batch_1.bin"].state == "read"
    assert states["data_batch_1.bin"].note == "60 examples"
    assert states["test_batch.bin"].state == "missing"


@pytest.mark.skipif("WHICHMIN_DATA" not in os.environ, reason="WHICHMIN_DATA is not set")
@pytest.mark.parametrize("name", CATALOGUE)
def test_real_files_are_not_damaged(name):
    states = check(CATALOGUE[name], Path(os.environ["WHICHMIN_DATA"]))
    if all(state.state == "missing" for state in states):
        pytest.skip(f"{name} is not there")
    assert not [state for state in states if state.state == "damaged"]

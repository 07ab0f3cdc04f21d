from __future__ import annotations

import gzip
import hashlib
import io
import tarfile

import numpy as np
import pytest

from whichmin.data import fetch, load
from whichmin.data.catalogue import CATALOGUE, DataSet, PublishedFile, data_folder
from whichmin.data.fetch import fetch_set
from whichmin.errors import DataError, OutputError

from .conftest import write_cifar, write_idx
from .server import serving

pytest.importorskip("pooch")

TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def contents(tmp_path, labels) -> dict[str, bytes]:
    """A small data set in the files of MNIST, by their names."""
    folder = tmp_path / "made"
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
    write_idx(folder / TRAIN[0], images)
    write_idx(folder / TRAIN[1], labels)
    return {name: (folder / name).read_bytes() for name in TRAIN}


def described(contents, *mirrors, **rest) -> DataSet:
    files = tuple(PublishedFile(name, hashlib.sha256(content).hexdigest()) for name, content in contents.items())
    return DataSet("mnist", "digits", ("mnist", "MNIST"), files, mirrors, **rest)


def serve(server, contents, where="", **how):
    for name, content in contents.items():
        server.put(f"/{where}{name}", content, **how)
    return f"{server.address}{where}"


def test_files_are_fetched_once_and_become_a_task(server, contents, tmp_path, monkeypatch, labels):
    known = described(contents, serve(server, contents))
    assert fetch_set(known, tmp_path) == tmp_path / "mnist"
    assert {p.name: p.read_bytes() for p in (tmp_path / "mnist").iterdir()} == contents
    asked = len(server.asked)
    fetch_set(known, tmp_path)
    assert len(server.asked) == asked == 2
    monkeypatch.setenv("WHICHMIN_DATA", str(tmp_path))
    task = load("mnist", classes=(0, 1), n_train=10, n_test=10)
    assert task.X.shape == (10, 784)
    assert sorted(task.y[:, 0].tolist()) == [-1.0] * 5 + [1.0] * 5


def test_a_connection_that_drops_again_and_again_is_gone_on_from(server, contents, tmp_path):
    length = len(contents[TRAIN[0]])
    cut = length // 5
    known = described(contents, serve(server, contents, cut=cut))
    fetch_set(known, tmp_path)
    assert (tmp_path / "mnist" / TRAIN[0]).read_bytes() == contents[TRAIN[0]]
    starts = [start for path, start in server.asked if path.endswith(TRAIN[0])]
    assert starts == sorted(set(starts)), "no byte is fetched twice"
    assert len(starts) >= 5
    assert not list(tmp_path.rglob("*.part"))


def test_what_an_interrupted_call_left_is_gone_on_from(server, contents, tmp_path):
    place = tmp_path / "mnist"
    place.mkdir()
    (place / f"{TRAIN[0]}.part").write_bytes(contents[TRAIN[0]][:1000])
    fetch_set(described(contents, serve(server, contents)), tmp_path)
    assert server.asked[0] == (f"/{TRAIN[0]}", 1000)
    assert (place / TRAIN[0]).read_bytes() == contents[TRAIN[0]]


def test_a_server_without_ranges_sends_all_of_it_again(server, contents, tmp_path):
    server.ranges = False
    place = tmp_path / "mnist"
    place.mkdir()
    (place / f"{TRAIN[0]}.part").write_bytes(b"something else")
    fetch_set(described(contents, serve(server, contents)), tmp_path)
    assert (place / TRAIN[0]).read_bytes() == contents[TRAIN[0]]


def test_a_part_that_is_whole_is_only_hashed(server, contents, tmp_path):
    place = tmp_path / "mnist"
    place.mkdir()
    (place / f"{TRAIN[0]}.part").write_bytes(contents[TRAIN[0]])
    fetch_set(described(contents, serve(server, contents)), tmp_path)
    assert (place / TRAIN[0]).read_bytes() == contents[TRAIN[0]]


@pytest.mark.parametrize("bad", [{"spoilt": True}, {"cut": 1}, None])
def test_the_next_mirror_is_asked_where_one_fails(server, contents, tmp_path, bad):
    if bad is not None:
        serve(server, contents, "bad/", **bad)
    known = described(contents, f"{server.address}bad/", serve(server, contents, "good/"))
    fetch_set(known, tmp_path)
    assert {p.name: p.read_bytes() for p in (tmp_path / "mnist").iterdir()} == contents
    assert server.asked[0][0].startswith("/bad/")


def test_spoilt_files_are_never_kept(server, contents, tmp_path):
    known = described(contents, serve(server, contents, spoilt=True))
    with pytest.raises(DataError, match="sent another file than the published one"):
        fetch_set(known, tmp_path)
    assert list((tmp_path / "mnist").iterdir()) == []


def test_without_a_network_the_message_says_what_to_put_where(contents, tmp_path):
    known = described(contents, "http://127.0.0.1:9/")
    said = rf"ConnectionError.*put {TRAIN[0]}, {TRAIN[1]} into {tmp_path}/mnist; from http://127.0.0.1:9/"
    with pytest.raises(DataError, match=said):
        fetch_set(known, tmp_path)


def test_a_file_of_ones_own_is_not_replaced(server, contents, tmp_path):
    own = tmp_path / "MNIST" / TRAIN[0]
    own.parent.mkdir()
    own.write_bytes(gzip.compress(b"mine"))
    with pytest.raises(DataError, match="is there and is not the published file"):
        fetch_set(described(contents, serve(server, contents)), tmp_path)
    assert own.read_bytes() == gzip.compress(b"mine")


@pytest.fixture
def archive(tmp_path, labels) -> bytes:
    folder = tmp_path / "made" / "cifar-10-batches-bin"
    for part in ("data_batch_1.bin", "test_batch.bin"):
        write_cifar(folder / part, labels)
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\nbird\n")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder, "cifar-10-batches-bin")
    return packed.getvalue()


UNPACKED = ("data_batch_1.bin", "test_batch.bin", "batches.meta.txt")


def test_an_archive_is_unpacked_and_read(server, archive, tmp_path, monkeypatch):
    contents = {"cifar-10-binary.tar.gz": archive}
    known = described(contents, serve(server, contents, cut=len(archive) // 2), unpacked=UNPACKED)
    known = DataSet("cifar-10", "", ("cifar-10-batches-bin",), known.files, known.mirrors, UNPACKED)
    place = fetch_set(known, tmp_path / "data")
    assert sorted(p.name for p in place.iterdir()) == sorted(UNPACKED)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["cifar-10-batches-bin"]
    asked = len(server.asked)
    fetch_set(known, tmp_path / "data")
    assert len(server.asked) == asked > 1
    monkeypatch.setenv("WHICHMIN_DATA", str(tmp_path / "data"))
    assert load("cifar-10", classes=("bird", "airplane"), n_train=4, n_test=4).X.shape == (4, 3, 32, 32)


def test_what_is_no_archive(server, tmp_path):
    contents = {"cifar-10-binary.tar.gz": b"not an archive"}
    known = described(contents, serve(server, contents), unpacked=UNPACKED)
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch_set(known, tmp_path)


def test_a_mirror_of_ones_own_is_asked_first(server, contents, tmp_path):
    serve(server, contents)
    with pytest.raises(DataError, match=rf"{server.address}train-images-idx3-ubyte.gz: sent another file"):
        fetch("mnist", tmp_path, mirrors=[server.address.rstrip("/")])


def test_names(tmp_path):
    with pytest.raises(DataError, match=r"there is no data set 'minst' to fetch; known are .*Did you mean 'mnist'\?"):
        fetch("minst", tmp_path)


def test_a_place_that_cannot_be_written_to(contents, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        fetch_set(described(contents, "http://127.0.0.1:9/"), tmp_path / "file")


def test_where_data_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("WHICHMIN_DATA", "~/sets")
    assert data_folder().name == "sets"
    assert data_folder().is_absolute()
    monkeypatch.delenv("WHICHMIN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "whichmin"


def test_the_catalogue():
    for name, known in CATALOGUE.items():
        assert known.name == name
        assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in known.mirrors)
        assert len(known.mirrors) >= 2
        assert all(len(bytes.fromhex(file.sha256)) == 32 for file in known.files)

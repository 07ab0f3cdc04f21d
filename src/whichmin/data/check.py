"""What is there of the data sets that are known by name, and whether it is what was published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from whichmin.data.catalogue import DataSet, data_folder, find
from whichmin.data.cifar import read_cifar10
from whichmin.data.fetch import sha256_of
from whichmin.data.idx import read_idx
from whichmin.errors import DataError


@dataclass(frozen=True)
class FileState:
    """A file of a data set.

    Attributes:
        path: where it is, or would be.
        state: "published", its hash is the one that was published; "read", it can be read and there is no such hash to
            compare with, or it is another one, such as a part of the data; "missing"; "damaged".
        note: what is in it, or what is wrong with it.
    """

    path: Path
    state: str
    note: str = ""


def check(known: DataSet, root: Path | None = None) -> list[FileState]:
    """Look at every file of a data set: hash it, and read it.

    Args:
        known: the data set.
        root: where its folder is; None for :func:`whichmin.data.catalogue.data_folder`.
    """
    root = data_folder() if root is None else root
    folder = find(known, root) or root / known.folders[0]
    hashes = {file.name: file.sha256 for file in known.files}
    return [_state(_present(folder / name), hashes.get(name)) for name in known.contents]


def _present(path: Path) -> Path:
    """The file, or the same without ``.gz``."""
    plain = path.with_suffix("")
    return plain if path.suffix == ".gz" and not path.is_file() and plain.is_file() else path


def _state(path: Path, sha256: str | None) -> FileState:
    if not path.is_file():
        return FileState(path, "missing")
    try:
        count = _count(path)
    except DataError as error:
        return FileState(path, "damaged", str(error))
    note = "" if count is None else f"{count} examples"
    if sha256 is None:
        return FileState(path, "read", note)
    if sha256_of(path) == sha256:
        return FileState(path, "published", note)
    return FileState(path, "read", f"{note}, not the published file: a part of it, or compressed in another way")


def _count(path: Path) -> int | None:
    """How many examples a file holds; None for the names of classes."""
    if path.suffix == ".txt":
        return None
    return len(read_cifar10(path)[1]) if path.suffix == ".bin" else len(read_idx(path))

"""Fetch a data set that is known by name: mirrors in order, published hashes, resumed where it was cut off."""

from __future__ import annotations

import difflib
import hashlib
import os
import shutil
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whichmin.data.catalogue import CATALOGUE, DataSet, PublishedFile, by_hand, data_folder, find
from whichmin.errors import DataError, OutputError

#: Seconds to wait for a mirror to answer, and for each piece of a file.
TIMEOUT = 20.0
#: How often a mirror that cuts files off is asked to go on, as long as each time brings more of the file.
RESUMED = 20
#: Bytes that are written at once: no more are lost where a connection drops.
_PIECE = 1 << 13
_RANGE_BEYOND_END, _PARTIAL = 416, 206


def fetch(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    *,
    mirrors: Sequence[str] = (),
    progress: bool = False,
) -> Path:
    """Fetch a data set, or find it where it is already.

    Every file is checked against the hash that was published for it. What an interrupted call left is gone on from.

    Args:
        name: "mnist", "fashion-mnist" or "cifar-10".
        folder: where the data sets' folders are; None for what the environment variable WHICHMIN_DATA says, or else
            ``whichmin`` in the user's cache folder.
        mirrors: places to ask before the known ones.
        progress: whether to show a bar on standard error.

    Returns:
        The folder that holds the files.

    Raises:
        DataError: an unknown name; no mirror sends the files, the message says where to put which file by hand; a file
            of that name is there and is another one.
        OutputError: the place cannot be written to.
        ImportError: pooch is not installed.
    """
    known = named(name)
    extra = tuple(mirror if mirror.endswith("/") else f"{mirror}/" for mirror in mirrors)
    root = data_folder() if folder is None else Path(folder).expanduser()
    return fetch_set(replace(known, mirrors=(*extra, *known.mirrors)), root, progress)


def named(name: str) -> DataSet:
    """The data set of that name.

    Raises:
        DataError: there is none; the message lists those that are known.
    """
    if name not in CATALOGUE:
        close = difflib.get_close_matches(name.lower(), CATALOGUE, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(f"there is no data set {name!r} to fetch; known are {', '.join(CATALOGUE)}.{hint}")
    return CATALOGUE[name]


def fetch_set(known: DataSet, root: Path, progress: bool = False) -> Path:
    """Fetch a data set that is described; as :func:`fetch`."""
    place = find(known, root) or root / known.folders[0]
    if known.unpacked and all((place / name).is_file() for name in known.unpacked):
        return place
    target = root if known.unpacked else place
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in known.files:
            path = _fetch_file(known, file, target, place, progress)
            if known.unpacked:
                _unpack(path, known, place)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write to {target}: {error.strerror or error}. Choose another folder.") from error
    return place


def sha256_of(path: Path) -> str:
    """The hash of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch_file(known: DataSet, file: PublishedFile, target: Path, place: Path, progress: bool) -> Path:
    path = target / file.name
    if path.is_file():
        if sha256_of(path) == file.sha256:
            return path
        raise DataError(
            f"{path} is there and is not the published file (its sha256 is not {file.sha256[:8]}…): move it away to "
            "fetch that, or go on using it as it is."
        )
    pooch, requests = _pooch()
    resuming = _Resuming(_part(path), progress)
    tries: list[str] = []
    for mirror in known.mirrors:
        for _ in range(RESUMED):
            before = _size(_part(path))
            try:
                pooch.retrieve(f"{mirror}{file.name}", f"sha256:{file.sha256}", file.name, target, downloader=resuming)
            except (ValueError, requests.RequestException) as error:
                tries.append(f"{mirror}{file.name}: {_reason(error)}")
            else:
                return path
            if _size(_part(path)) <= before:
                break
    said = "; ".join(dict.fromkeys(tries))
    raise DataError(f"cannot fetch {known.name} ({said}). Try again, or {by_hand(known, place)}.")


class _Resuming:
    """What pooch downloads by: goes on from what an earlier try left.

    Attributes:
        part: where a file is that is not whole yet.
        progress: whether to show a bar on standard error.
    """

    def __init__(self, part: Path, progress: bool) -> None:
        self.part, self.progress = part, progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Bring all of a file to ``output_file``; pooch hashes it then."""
        import requests

        from whichmin._bars import tqdm

        part, have = self.part, _size(self.part)
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != _RANGE_BEYOND_END:
                response.raise_for_status()
                resumed = response.status_code == _PARTIAL
                length = int(response.headers.get("Content-Length", 0)) + (have if resumed else 0)
                with (
                    part.open("ab" if resumed else "wb") as file,
                    tqdm(
                        desc=part.stem,
                        total=length or None,
                        initial=have if resumed else 0,
                        unit="B",
                        unit_scale=True,
                        leave=False,
                        disable=not self.progress,
                    ) as bar,
                ):
                    for piece in response.iter_content(_PIECE):
                        file.write(piece)
                        bar.update(len(piece))
        os.replace(part, output_file)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, ValueError) and "hash" in str(error):
        return "sent another file than the published one"
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if response is not None else type(error).__name__


def _unpack(archive: Path, known: DataSet, place: Path) -> None:
    """Unpack an archive whose only folder is the data set's, whole or not at all, and remove it."""
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as temporary:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
        except tarfile.TarError as error:
            raise DataError(f"{archive} cannot be unpacked: {error}. Remove it and fetch it again.") from error
        place.mkdir(exist_ok=True)
        for name in known.unpacked:
            shutil.move(Path(temporary) / known.folders[0] / name, place / name)
    archive.unlink()


def _pooch() -> tuple[Any, Any]:
    """The two packages of the extra."""
    try:
        import pooch
        import requests
    except ImportError as error:
        raise ImportError("fetching data needs pooch and requests: pip install 'whichmin[data]'.") from error
    pooch.get_logger().setLevel("ERROR")
    return pooch, requests

"""IDX files, the format of MNIST and Fashion-MNIST (Y. LeCun, C. Cortes, C. Burges), plain or gzip-compressed."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from whichmin.data.pool import Examples, Pool
from whichmin.errors import DataError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IMAGES, _LABELS = 0x00000803, 0x00000801
_GZIP = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> Tensor:
    """Read one IDX file: a header of type and sizes, then the numbers, big-endian.

    Args:
        path: the file, plain or gzip-compressed (told apart by its first bytes, not by its name).

    Returns:
        The array in its own type and shape: images (n, height, width) and labels (n,) are uint8.

    Raises:
        DataError: no such file, no IDX header, or fewer or more numbers than the header says.
    """
    return _parse(_bytes(Path(path)), Path(path))


def read_images_and_labels(images: Path, labels: Path) -> Examples:
    """Read a pair of IDX files that belong together.

    Args:
        images: the file of images, magic number 0x00000803.
        labels: the file of labels, magic number 0x00000801.

    Returns:
        Images (n, 1, height, width), uint8, and labels (n,), int64.

    Raises:
        DataError: as :func:`read_idx`; one file is in the other's place; the numbers of images and labels differ.
    """
    X = _parse(_expect(images, _IMAGES, "images"), images)
    y = _parse(_expect(labels, _LABELS, "labels"), labels)
    if len(X) != len(y):
        raise DataError(
            f"{images.name} holds {len(X)} images and {labels.name} {len(y)} labels: they do not belong together; "
            "download both from the same place."
        )
    return Examples(X[:, None], y.long())


def idx_pool(path: Path, source: str) -> Pool:
    """The examples of a folder of IDX files, or of one file of images and the labels beside it.

    Args:
        path: a folder with ``train-images-idx3-ubyte`` and ``t10k-images-idx3-ubyte`` (or one of them), the labels
            beside them, each plain or ``.gz``; or one file of images.
        source: what messages call it.

    Returns:
        The pool; with one of the two parts only, it is without a test part of its own.

    Raises:
        DataError: as :func:`read_images_and_labels`; no images there, or no labels beside them.
    """
    if path.is_file():
        return Pool(source, read_images_and_labels(path, _labels_of(path)), flat=True)
    parts = [
        read_images_and_labels(images, _labels_of(images))
        for part in ("train", "t10k")
        if (images := find_images(path, part))
    ]
    if not parts:
        raise DataError(
            f"{path} holds no IDX images: expected train-images-idx3-ubyte or t10k-images-idx3-ubyte, plain or .gz."
        )
    return Pool(source, parts[0], parts[1] if len(parts) > 1 else None, flat=True)


def find_images(folder: Path, part: str) -> Path | None:
    """The file of images of a part, "train" or "t10k", by any of its usual names; the plain one where there are two."""
    names = (f"{part}-images{dot}idx3-ubyte{suffix}" for suffix in ("", ".gz") for dot in ("-", "."))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _labels_of(images: Path) -> Path:
    if "images" not in images.name:
        raise DataError(
            f"{images} is an IDX file whose labels cannot be found by its name; expected a name such as "
            "t10k-images-idx3-ubyte with t10k-labels-idx1-ubyte beside it. Pass the folder or the file of images."
        )
    name = images.name.replace("images", "labels").replace("idx3", "idx1")
    stem = name.removesuffix(".gz")
    for candidate in (images.with_name(name), images.with_name(stem), images.with_name(stem + ".gz")):
        if candidate.is_file():
            return candidate
    raise DataError(f"{images} has no labels beside it: {images.with_name(name)} is missing.")


def _bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is a damaged gzip file, perhaps a download cut short ({error}): fetch it again."
        ) from error


def _expect(path: Path, magic: int, kind: str) -> bytes:
    raw = _bytes(path)
    got = int.from_bytes(raw[:4], "big") if len(raw) >= 4 else None
    if got != magic and got in (_IMAGES, _LABELS):
        other = "images" if got == _IMAGES else "labels"
        raise DataError(
            f"{path} holds {other} (magic number 0x{got:08x}); expected {kind} (0x{magic:08x}): files swapped?"
        )
    if got is not None and got != magic:
        raise DataError(f"{path} starts with 0x{got:08x}; expected 0x{magic:08x}, the magic number of IDX {kind}.")
    return raw


def _parse(raw: bytes, path: Path) -> Tensor:
    if len(raw) < 4:
        raise DataError(f"{path} is {len(raw)} bytes long, too short for an IDX header: fetch it again.")
    zero, kind, ndim = raw[:2], raw[2], raw[3]
    if zero != b"\0\0" or kind not in _TYPES or ndim == 0:
        raise DataError(
            f"{path} is no IDX file: it starts with 0x{raw[:4].hex()}; expected two zero bytes, a type "
            f"({', '.join(f'0x{t:02x}' for t in _TYPES)}) and the number of axes."
        )
    start = 4 + 4 * ndim
    if len(raw) < start:
        raise DataError(
            f"{path} ends within its header ({len(raw)} of {start} bytes): it is cut short; fetch it again."
        )
    shape = struct.unpack(f">{ndim}I", raw[4:start])
    dtype = np.dtype(_TYPES[kind])
    expected = math.prod(shape) * dtype.itemsize
    if len(raw) - start != expected:
        what = "cut short" if len(raw) - start < expected else "too long"
        raise DataError(
            f"{path} is {what}: its header promises {' × '.join(map(str, shape))} numbers, {expected} bytes, "
            f"and {len(raw) - start} follow. Fetch it again."
        )
    array = np.frombuffer(raw, dtype, offset=start).reshape(shape)
    return torch.from_numpy(array.astype(dtype.newbyteorder("=")))

"""The binary version of CIFAR-10 (A. Krizhevsky): records of a label byte and 3×32×32 pixel bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from whichmin.data.pool import Examples, Pool
from whichmin.errors import DataError

_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32


def read_cifar10(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
    """Read one file of CIFAR-10's binary version.

    Args:
        path: such as ``data_batch_1.bin``.

    Returns:
        Images (n, 3, 32, 32), uint8 (red, green, blue), and labels (n,), int64, 0…9.

    Raises:
        DataError: no such file, a size that is no multiple of 3073 bytes, or a label beyond 9.
    """
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    if len(raw) == 0 or len(raw) % _RECORD:
        raise DataError(
            f"{path} is {len(raw)} bytes long, no multiple of {_RECORD} (a label and 3×32×32 pixels): it is cut short "
            "or is not the binary version of CIFAR-10."
        )
    records = torch.from_numpy(raw).reshape(-1, _RECORD)
    labels = records[:, 0].long()
    if (bad := labels > 9).any():
        first = int(bad.nonzero()[0, 0])
        raise DataError(
            f"{path}: the label of record {first} is {int(labels[first])}; expected 0…9. Is this the binary version of "
            "CIFAR-10 (not CIFAR-100)?"
        )
    return records[:, 1:].reshape(-1, *_SHAPE), labels


def cifar_pool(path: Path, source: str) -> Pool:
    """The examples of a folder of CIFAR-10's binary version, or of one of its files.

    Args:
        path: a folder with ``data_batch_*.bin``, ``test_batch.bin`` or both, and perhaps ``batches.meta.txt``; or one
            ``.bin`` file.
        source: what messages call it.

    Returns:
        The pool; with training or test files only, it is without a test part of its own.

    Raises:
        DataError: as :func:`read_cifar10`; no such files in the folder.
    """
    if path.is_file():
        return Pool(source, Examples(*read_cifar10(path)), names=_names(path.parent))
    groups = [sorted(path.glob("data_batch_*.bin")), sorted(path.glob("test_batch.bin"))]
    parts = [_join(files) for files in groups if files]
    if not parts:
        raise DataError(f"{path} holds no CIFAR-10 files: expected data_batch_*.bin and test_batch.bin.")
    return Pool(source, parts[0], parts[1] if len(parts) > 1 else None, names=_names(path))


def _join(files: list[Path]) -> Examples:
    images, labels = zip(*(read_cifar10(file) for file in files), strict=True)
    return Examples(torch.cat(images), torch.cat(labels))


def _names(folder: Path) -> tuple[str, ...]:
    meta = folder / "batches.meta.txt"
    return tuple(meta.read_text().split()) if meta.is_file() else ()

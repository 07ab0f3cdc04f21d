from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest


def write_idx(path: Path, array: np.ndarray, *, magic: int | None = None) -> Path:
    """An IDX file of bytes; its header may lie about the magic number."""
    magic = 0x0800 + array.ndim if magic is None else magic
    raw = struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def write_pair(folder: Path, part: str, labels: np.ndarray, *, suffix: str = "", seed: int = 0) -> np.ndarray:
    """Images whose first pixel is their row number, and their labels."""
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 3), dtype=np.uint8)
    images[:, 0, 0] = np.arange(len(labels))
    write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return images


def write_cifar(path: Path, labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """A file of CIFAR-10's binary version; returns the pixels, (n, 3072)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.hstack([labels[:, None].astype(np.uint8), pixels]).tobytes())
    return pixels


@pytest.fixture
def labels() -> np.ndarray:
    """Sixty labels: twenty of each of three classes, mixed."""
    return np.random.default_rng(1).permutation(np.repeat(np.arange(3), 20))

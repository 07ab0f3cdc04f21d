"""A kernel in tiles on disk, for training sets whose kernel does not fit into memory.

The folder holds a zarr array, (N·C, N·C) in the network's type, of which only the tiles on and below the diagonal are
written, and ``kernel.json``, which says whose kernel it is. A tile is written under a temporary name and renamed, so
that a process that is killed leaves whole tiles, and one that is started again makes those that are missing.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whichmin._version import __version__
from whichmin.errors import InputError, MemoryPlanError, OutputError
from whichmin.tangent.memory import size as readable

Array = NDArray[np.float64]

#: Rows and columns of a tile, about.
TILE = 4096
#: Rows of a tile that are in float64 at a time, so that they stay in the processor's cache between their two products.
BLOCK = 256
#: What a folder of tiles says of itself.
DESCRIPTION = "kernel.json"


@dataclass(frozen=True, eq=False)
class KernelTiles:
    """K, (n, n), symmetric, in tiles on disk; it multiplies as an array does.

    Attributes:
        folder: where they are.
        size: n.
        tile: rows and columns of a tile.
        dtype: the type of the entries.
        array: the zarr array.
    """

    folder: Path
    size: int
    tile: int
    dtype: torch.dtype
    array: Any

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], n: int, outputs: int, dtype: torch.dtype, fingerprint: str
    ) -> KernelTiles:
        """The tiles of a kernel in a folder: those that are there, or an empty store.

        Args:
            folder: where to.
            n: N·C.
            outputs: C; a tile holds whole rows of the data.
            dtype: of the entries.
            fingerprint: of the network and the inputs.

        Raises:
            InputError: zarr is not installed, or the folder holds the tiles of another kernel.
            MemoryPlanError: the disk is too small.
            OutputError: the folder cannot be written to.
        """
        tile = max(1, min(TILE, n) // outputs) * outputs
        return cls._at(Path(folder), n, tile, outputs, dtype, fingerprint)

    def beside(self, name: str) -> KernelTiles:
        """Tiles of the same sizes in a folder within this one: those that are there, or an empty store."""
        return self._at(self.folder / name, self.size, self.tile, 0, self.dtype, name)

    @classmethod
    def _at(cls, path: Path, n: int, tile: int, outputs: int, dtype: torch.dtype, fingerprint: str) -> KernelTiles:
        """Of so many outputs for each of the inputs; 0 where there is known to be room."""
        try:
            import zarr
        except ImportError as error:
            raise InputError('kernels on disk need zarr: pip install "whichmin[tiles]".') from error
        description = {"n": n, "tile": tile, "dtype": str(dtype), "fingerprint": fingerprint, "whichmin": __version__}
        try:
            path.mkdir(parents=True, exist_ok=True)
            _check_same(path, description)
            if outputs:
                _check_disk(path, n, tile, outputs, torch.empty(0, dtype=dtype).element_size())
            _write_text(path / DESCRIPTION, json.dumps(description, indent=2) + "\n")
            store = path / "tiles"
            if (store / "zarr.json").exists():
                array = zarr.open_array(str(store), mode="r+")
            else:
                array = zarr.create_array(
                    str(store), shape=(n, n), chunks=(tile, tile), dtype=str(dtype).removeprefix("torch."),
                    compressors=None, fill_value=float("nan"), overwrite=True,
                )  # fmt: skip
        except OSError as error:
            raise OutputError(f"cannot write to {path}: {error.strerror}. Choose a folder you may write to.") from error
        return cls(path, n, tile, dtype, array)

    @property
    def starts(self) -> range:
        """The first rows of the tiles."""
        return range(0, self.size, self.tile)

    def missing(self) -> list[tuple[int, int]]:
        """Of the tiles that are not there the first row and column, row by row; column ≤ row."""
        return [(i, j) for i, j in self.lower if not self._file(i, j).exists()]

    def _file(self, i: int, j: int) -> Path:
        return self.folder / "tiles" / "c" / str(i // self.tile) / str(j // self.tile)

    def write(self, i: int, j: int, values: Tensor) -> None:
        """Write a tile.

        Raises:
            OutputError: the disk is full.
        """
        try:
            self.array[i : i + values.shape[0], j : j + values.shape[1]] = values.detach().cpu().numpy()
        except OSError as error:
            raise OutputError(
                f"a tile cannot be written to {self.folder}: {error.strerror}. What is there is kept: make room and "
                "call again with the same folder."
            ) from error

    def remove(self) -> None:
        """Take the folder off the disk."""
        shutil.rmtree(self.folder)

    def read(self, i: int, j: int) -> Tensor:
        """A tile on or below the diagonal, in the disk's own memory, read where it is looked at; changes stay here."""
        kind, b = np.dtype(str(self.dtype).removeprefix("torch.")).newbyteorder("<"), self.tile
        tile = np.memmap(self._file(i, j), kind, "c", shape=(b, b))  # whole also at the edge
        return torch.from_numpy(tile)[: self.size - i, : self.size - j]

    def _tile(self, i: int, j: int) -> NDArray[Any]:
        """The tile of rows from i and columns from j, one of them at or below the diagonal."""
        return (self.read(i, j) if j <= i else self.read(j, i).T).numpy()

    @property
    def lower(self) -> list[tuple[int, int]]:
        """The tiles on and below the diagonal, by their first row and column, row by row."""
        return [(i, j) for i in self.starts for j in self.starts if j <= i]

    def multiply(self, v: Array, lower: Sequence[tuple[int, int]]) -> Array:
        """The part of K v, v (n,) or (n, k), that some tiles and their mirror images make; each is read once."""
        columns = torch.from_numpy(np.array(v)).reshape(self.size, -1)  # what a worker is sent is read-only
        total = torch.zeros_like(columns)
        doubled = torch.empty(BLOCK, self.tile, dtype=torch.float64)
        for i, j in lower:
            tile = self.read(i, j)
            across = slice(j, j + tile.shape[1])
            for start in range(0, len(tile), BLOCK):
                rows = tile[start : start + BLOCK]
                block = doubled[: len(rows), : rows.shape[1]].copy_(rows)
                down = slice(i + start, i + start + len(rows))
                total[down].addmm_(block, columns[across])
                if j < i:
                    total[across].addmm_(block.T, columns[down])
        return total.reshape(v.shape).numpy()

    def __getitem__(self, rows: NDArray[np.int64] | Sequence[int]) -> Array:
        """Some rows, (k, n), float64."""
        rows = np.asarray(rows)
        found = np.empty((len(rows), self.size))
        b = self.tile
        for i in self.starts:
            inside = np.flatnonzero((rows >= i) & (rows < i + b))
            for j in self.starts if len(inside) else ():
                found[inside, j : j + b] = self._tile(i, j)[rows[inside] - i]
        return found

    def diagonal(self) -> Array:
        """(n,), float64."""
        return np.concatenate([np.asarray(self._tile(i, i), np.float64).diagonal() for i in self.starts])


def _check_same(path: Path, description: dict[str, Any]) -> None:
    """Refuse a folder that holds something else."""
    known = path / DESCRIPTION
    if not known.exists():
        if any(path.iterdir()):
            raise InputError(f"{path} is not empty and holds no kernel of whichmin: choose another folder.")
        return
    found = json.loads(known.read_text())
    differs = [name for name, value in description.items() if found.get(name) != value]
    if differs:
        what = {"fingerprint": "another network or other inputs", "whichmin": f"version {found.get('whichmin')}"}
        said = "; ".join(what.get(name, f"{name} = {found.get(name)}, not {description[name]}") for name in differs)
        raise InputError(f"{path} holds the kernel of {said}: choose another folder, or remove it.")


def _check_disk(path: Path, n: int, tile: int, outputs: int, item: int) -> None:
    """Refuse a disk that has no room for the tiles of a kernel and of its Cholesky factor beside it."""
    needed, free = item * n * (n + tile) - _written(path), shutil.disk_usage(path).free
    if needed > free:
        raise MemoryPlanError(
            f"the kernel of {n} outputs and its factor take {readable(needed)} on disk and {readable(free)} are free "
            f"in {path}: choose a folder on a larger disk, or predict from at most "
            f"{math.isqrt(free // item) // outputs} training points."
        )


def _written(path: Path) -> int:
    """How many bytes of tiles are there."""
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)

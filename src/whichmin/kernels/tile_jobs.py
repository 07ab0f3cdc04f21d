"""What is made of tiles, here or on an executor: the tiles themselves, and products with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from whichmin.errors import OutputError
from whichmin.inputs import AnyInputs, moved
from whichmin.kernels.tiles import KernelTiles
from whichmin.tangent.context import own_context
from whichmin.tangent.copying import private_copy
from whichmin.tangent.features import Features, features_of
from whichmin.tangent.model import finite, trainable
from whichmin.tangent.route import Route

#: Tiles that one job of an executor makes, all of the same rows, whose features are made once.
A_JOB = 2
#: Tiles that one job of an executor multiplies with.
A_PRODUCT = 12


@dataclass(frozen=True)
class Part:
    """Some rows of the kernel.

    Attributes:
        start: the first of them.
        X: the inputs that they belong to.
    """

    start: int
    X: AnyInputs


@dataclass(frozen=True)
class TileMaker:
    """What tiles are made of: the network, and how its tangent features are made."""

    model: nn.Module
    route: Route

    def features(self, part: Part) -> Features:
        """J of some inputs, made by itself."""
        return features_of(self.model, trainable(self.model), part.X, route=self.route)

    def make(self, tiles: KernelTiles, rows: Part, columns: Sequence[Part]) -> Iterator[None]:
        """Write the tiles of some rows; one step for each."""
        left = self.features(rows)
        for part in columns:
            right = None if part.start == rows.start else self.features(part)
            tiles.write(rows.start, part.start, finite(left.gram(right), "the kernel"))
            yield


@own_context()
def _make(maker: TileMaker, tiles: KernelTiles, rows: Part, columns: Sequence[Part]) -> int:
    return sum(1 for _ in maker.make(tiles, rows, columns))


def fill(
    tiles: KernelTiles, maker: TileMaker, X: AnyInputs, outputs: int, executor: Executor | None, progress: bool
) -> None:
    """Make the tiles that are missing.

    Args:
        tiles: where to; on an executor in a folder that all its workers see.
        maker: what they are made of.
        X: the inputs of all rows.
        outputs: C, rows of the kernel for each of the inputs.
        executor: where they are made; here by default. A job is sent a copy of the network and of the inputs that it
            needs.
        progress: whether to show a progress bar on standard error.

    Raises:
        OutputError: the disk is full, or a worker died; what is there is kept.
    """
    from whichmin._bars import tqdm

    def part(start: int) -> Part:
        return Part(start, X[start // outputs : min(start + tiles.tile, tiles.size) // outputs])

    missing = tiles.missing()
    bar = tqdm(total=len(missing), desc="kernel", unit="tile", leave=False, disable=not progress or len(missing) < 2)
    with bar:
        if executor is None:
            for i, columns in _by_rows(missing, len(missing)):
                for _ in maker.make(tiles, part(i), [part(j) for j in columns]):
                    bar.update()
            return
        sent = TileMaker(private_copy(maker.model), maker.route)
        with _named_if_broken(tiles):
            jobs = [
                executor.submit(_make, sent, tiles, _copied(part(i)), [_copied(part(j)) for j in columns])
                for i, columns in _by_rows(missing, A_JOB)
            ]
        for made in _answers(jobs, tiles):
            bar.update(made)


def multiply(tiles: KernelTiles, v: NDArray[np.float64], executor: Executor | None) -> NDArray[np.float64]:
    """K v for v (n,) or (n, k), in float64: each tile is read once.

    Args:
        tiles: K.
        v: the vectors.
        executor: where its jobs are made; here by default.

    Raises:
        OutputError: a worker died.
    """
    if executor is None:
        return tiles.multiply(v, tiles.lower)
    lower = tiles.lower
    with _named_if_broken(tiles):
        jobs = [executor.submit(tiles.multiply, v, lower[i : i + A_PRODUCT]) for i in range(0, len(lower), A_PRODUCT)]
    total = np.zeros_like(v)
    for some in _answers(jobs, tiles):
        total += some
    return total


def _by_rows(tiles: Sequence[tuple[int, int]], most: int) -> Iterator[tuple[int, list[int]]]:
    """The first rows of tiles, with the first columns of at most so many of them."""
    for i, same in groupby(tiles, key=lambda tile: tile[0]):
        columns = [j for _, j in same]
        for k in range(0, len(columns), most):
            yield i, columns[k : k + most]


def _copied(part: Part) -> Part:
    """With inputs of its own: a slice would be sent with all that it is a slice of."""
    return Part(part.start, moved(part.X, copy=True))


def _answers(jobs: Sequence[Future[Any]], tiles: KernelTiles) -> Iterator[Any]:
    """What jobs return, in their order, so that sums round alike every time."""
    try:
        for job in jobs:
            with _named_if_broken(tiles):
                made = job.result()
            yield made
    finally:
        for job in jobs:
            job.cancel()


@contextlib.contextmanager
def _named_if_broken(tiles: KernelTiles) -> Iterator[None]:
    """Of an executor whose worker died, before or after it was given its jobs, say what is kept."""
    try:
        yield
    except BrokenExecutor as error:
        raise OutputError(
            f"a worker of the executor died: {error}. The tiles in {tiles.folder} are kept: call again with the same "
            "folder and another executor."
        ) from error

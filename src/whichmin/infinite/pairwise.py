"""The matrix of all pairs of inputs, tile by tile: bounded memory, half the work where it is symmetric, all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch
from torch import Tensor

from whichmin.infinite.tiles import Buffers, Side

#: Rows, and columns, of a tile by device. On a CPU a tile fits the cache, and is so small that torch does not split its
#: operations over threads: each thread takes whole tiles. On a GPU it is large enough to keep it busy.
_TILE = {"cpu": 176, "cuda": 4096}
#: Height of a strip in tiles: the inner products of a strip are one matrix product.
_STRIP = 4

#: Computes a tile, (n1, n2), from 1 − u·u', its rows, its columns, whether these are the same, and memory to work in.
Compute = Callable[[Tensor, Side, Side, bool, Buffers], Tensor]


def pairwise(rows: Side, columns: Side, symmetric: bool, compute: Compute) -> Tensor:
    """The matrix of ``compute`` over all pairs, (n1, n2).

    Args:
        rows: n1 inputs.
        columns: n2 inputs.
        symmetric: both are the same inputs: tiles below the diagonal are copies of those above.
        compute: a tile.
    """
    n1, n2 = len(rows.unit), len(columns.unit)
    out = rows.unit.new_empty(n1, n2)
    size = _TILE.get(out.device.type, _TILE["cuda"])
    threads = min(torch.get_num_threads(), _STRIP * -(-n2 // size)) if out.device.type == "cpu" else 1
    memory: SimpleQueue[Buffers] = SimpleQueue()
    for _ in range(threads):
        memory.put(Buffers(min(n1, size) * min(n2, size), out))

    def fill(i: slice, j: slice, product: Tensor) -> None:
        same = symmetric and i == j
        buffers = memory.get()
        try:
            tile = compute(product, rows.part(i), columns.part(j), same, buffers)
            out[i, j] = tile.triu().add_(tile.triu(1).mT) if same else tile
            if symmetric and not same:
                out[j, i] = tile.mT
        finally:
            memory.put(buffers)

    with ThreadPoolExecutor(threads) as pool:
        for jobs in _strips(rows, columns, symmetric, size):
            if threads == 1 or len(jobs) == 1:
                for job in jobs:
                    fill(*job)
            else:
                for _ in pool.map(fill, *zip(*jobs, strict=True)):
                    pass
    return out


def _strips(rows: Side, columns: Side, symmetric: bool, size: int) -> Iterator[list[tuple[slice, slice, Tensor]]]:
    """The tiles of each strip: rows, columns and 1 − u·u' of their pairs."""
    n1, n2 = len(rows.unit), len(columns.unit)
    one = rows.unit.new_ones(())
    for top in range(0, n1, _STRIP * size):
        left = top if symmetric else 0
        strip = slice(top, min(top + _STRIP * size, n1))
        product = torch.addmm(one, rows.unit[strip], columns.unit[left:].mT, alpha=-1.0)
        yield [
            (i, j, product[i.start - top : i.stop - top, j.start - left : j.stop - left])
            for i in _slices(strip.start, strip.stop, size)
            for j in _slices(i.start if symmetric else 0, n2, size)
        ]


def _slices(start: int, stop: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, stop)) for i in range(start, stop, size)]

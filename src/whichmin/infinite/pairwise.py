"""A pairwise matrix, tile by tile: bounded memory, half the work where it is symmetric, all cores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch
from torch import Tensor

from whichmin.infinite.tiles import Buffers, Side

#: Rows and columns of a tile. On a CPU the tiles are spread over threads rather than each operation, which would wait
#: for the slowest core some thousand times: a tile is small enough that torch does not split its operations, and for
#: the cache. On a GPU it is large enough to keep it busy.
_TILE = {"cpu": 176, "cuda": 4096}
#: Tiles in the height of a strip, whose inner products are one matrix product.
_STRIP = 4

#: The (n1, n2) result of a tile from 1 − u·u', its rows, its columns, whether they are the same, and memory to work in.
Compute = Callable[[Tensor, Side, Side, bool, Buffers], Tensor]


def sweep(rows: Side, columns: Side, symmetric: bool, compute: Compute) -> Tensor:
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

    one = out.new_ones(())
    with ThreadPoolExecutor(threads) as pool:
        for top in range(0, n1, _STRIP * size):
            left = top if symmetric else 0
            strip = slice(top, min(top + _STRIP * size, n1))
            product = torch.addmm(one, rows.unit[strip], columns.unit[left:].mT, alpha=-1.0)
            jobs = [
                (i, j, product[i.start - top : i.stop - top, j.start - left : j.stop - left])
                for i in _slices(strip.start, strip.stop, size)
                for j in _slices(i.start if symmetric else 0, n2, size)
            ]
            if threads == 1 or len(jobs) == 1:
                for job in jobs:
                    fill(*job)
            else:
                for _ in pool.map(fill, *zip(*jobs, strict=True)):
                    pass
    return out


def _slices(start: int, stop: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, stop)) for i in range(start, stop, size)]

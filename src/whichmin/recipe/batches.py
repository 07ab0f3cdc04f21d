"""The order of mini-batches: that of a shuffling ``torch.utils.data.DataLoader``."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whichmin.errors import InputError


def batch_order(n: int, batch_size: int | None, seed: int = 0) -> Iterator[Tensor]:
    """The endless sequence of batches of row numbers, epoch after epoch.

    It is that of ``DataLoader(TensorDataset(X, y), batch_size=batch_size, shuffle=True,
    generator=torch.Generator().manual_seed(seed))`` in one process, iterated again and again with the same generator;
    the last batch of an epoch is shorter if the batch size does not divide n.

    A batch size above n gives one batch of all n rows, as with a DataLoader; then, and with None, the batch is the rows
    in their natural order every time: the mean over all rows does not depend on it, so nothing is shuffled.

    Args:
        n: the number of rows.
        batch_size: rows per batch; None for all.
        seed: the generator's seed.

    Returns:
        Tensors (rows in the batch,), int64, on the CPU. O(n) per epoch.

    Raises:
        InputError: a batch size that is not a whole number, 1 or more; a seed that is no integer.
    """
    rows = check_batch_size(batch_size, n)
    generator = generator_of(seed)
    return _full(n) if rows is None else _shuffled(n, rows, generator)


@dataclass(frozen=True)
class Remaining:
    """What is left of a training set, whose batches stay those of the whole set.

    Attributes:
        total: how many rows the whole set has.
        rows: the numbers, in the whole set, of those that are left, in their order.
    """

    total: int
    rows: tuple[int, ...]

    @classmethod
    def without(cls, rows: Sequence[int], total: int) -> Remaining:
        """All rows but these."""
        gone = set(rows)
        return cls(total, tuple(i for i in range(total) if i not in gone))

    def of(self, order: Iterator[Tensor]) -> Iterator[Tensor]:
        """The batches of the whole set as numbers among the rows that are left; a batch may be empty."""
        place = torch.full((self.total,), -1)
        place[list(self.rows)] = torch.arange(len(self.rows))
        for batch in order:
            kept = place[batch]
            yield kept[kept >= 0]


def check_batch_size(batch_size: Any, n: int) -> int | None:
    """The rows per batch, and None where a batch is all n rows.

    Raises:
        InputError: it is neither None nor a whole number, 1 or more.
    """
    if batch_size is None:
        return None
    wanted = "expected a whole number of rows, 1 or more, or None for all of them"
    try:
        rows = operator.index(batch_size)
    except TypeError as error:
        raise InputError(f"batch_size is {batch_size!r}; {wanted}.") from error
    if rows < 1 or isinstance(batch_size, bool):
        raise InputError(f"batch_size is {batch_size!r}; {wanted}.")
    return rows if rows < n else None


def steps_per_epoch(n: int, batch_size: int | None) -> int:
    """Batches in an epoch, ⌈n/batch_size⌉; 1 with all rows in one.

    Raises:
        InputError: as :func:`check_batch_size`.
    """
    rows = check_batch_size(batch_size, n)
    return 1 if rows is None else -(-n // rows)


def generator_of(seed: Any) -> torch.Generator:
    """A CPU generator with this seed.

    Raises:
        InputError: the seed is no integer that torch takes.
    """
    try:
        if isinstance(seed, bool):
            raise TypeError
        return torch.Generator().manual_seed(operator.index(seed))
    except (TypeError, RuntimeError, OverflowError, ValueError) as error:
        raise InputError(f"seed is {seed!r}; expected an integer of at most 64 bits, such as 0.") from error


def _full(n: int) -> Iterator[Tensor]:
    rows = torch.arange(n, device="cpu")
    while True:
        yield rows


def _shuffled(n: int, rows: int, generator: torch.Generator) -> Iterator[Tensor]:
    for order in epoch_orders(n, generator):
        yield from order.split(rows)


def epoch_orders(n: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The order of the rows in epoch after epoch, (n,), int64; batches are consecutive parts of it."""
    while True:
        # What a DataLoader draws in an epoch: the seed of its workers, there or not; the permutation; and, as
        # RandomSampler asks for what is left of num_samples/n, a second one of which it uses nothing.
        torch.empty((), dtype=torch.int64, device="cpu").random_(generator=generator)
        yield torch.randperm(n, generator=generator, device="cpu")
        torch.randperm(n, generator=generator, device="cpu")

"""The order of batches against that of a real DataLoader."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from whichmin.errors import InputError
from whichmin.recipe.batches import batch_order, check_batch_size, steps_per_epoch


def loaded(n, batch_size, seed, epochs):
    """The rows that a DataLoader takes, batch by batch."""
    loader = DataLoader(
        TensorDataset(torch.arange(n)),
        batch_size=batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
    )
    return [batch for _ in range(epochs) for (batch,) in loader]


@pytest.mark.parametrize("seed", [0, 7, -3, 2**40])
@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (13, 4), (7, 1), (5, 3), (9, 8), (2, 1)])
def test_it_is_the_dataloaders(n, batch_size, seed):
    expected = loaded(n, batch_size, seed, 5)
    epoch = steps_per_epoch(n, batch_size)
    assert len(expected) == 5 * epoch
    found = list(islice(batch_order(n, batch_size, seed), 5 * epoch))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert {batch.dtype for batch in found} == {torch.int64}
    for k in range(5):
        assert sorted(torch.cat(found[k * epoch : (k + 1) * epoch]).tolist()) == list(range(n))


def test_global_random_numbers_are_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = [b.tolist() for b in islice(batch_order(20, 3, 5), 30)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert [b.tolist() for b in islice(batch_order(20, 3, 5), 30)] == first
    assert [b.tolist() for b in islice(batch_order(20, 3, 6), 30)] != first


@pytest.mark.parametrize("batch_size", [None, 6, 7, 1000])
def test_all_rows_come_in_their_order(batch_size):
    assert [b.tolist() for b in islice(batch_order(6, batch_size, 1), 3)] == [list(range(6))] * 3
    assert check_batch_size(batch_size, 6) is None
    assert steps_per_epoch(6, batch_size) == 1
    if batch_size is not None:
        assert [sorted(b.tolist()) for b in loaded(6, batch_size, 1, 3)] == [list(range(6))] * 3


def test_sizes():
    assert check_batch_size(5, 6) == 5
    assert check_batch_size(np.int64(2), 6) == 2
    assert [steps_per_epoch(6, k) for k in (1, 2, 4, 5)] == [6, 3, 2, 2]


@pytest.mark.parametrize("batch_size", [0, -4, 2.0, 0.5, "8", True, float("nan")])
def test_batch_sizes_that_are_none(batch_size):
    for call in (check_batch_size, lambda b, n: steps_per_epoch(n, b), lambda b, n: batch_order(n, b)):
        with pytest.raises(InputError, match=r"batch_size is .*; expected a whole number of rows, 1 or more, or None"):
            call(batch_size, 6)


@pytest.mark.parametrize("seed", [None, 0.5, "0", True, 2**70])
def test_seeds_that_are_none(seed):
    with pytest.raises(InputError, match=r"seed is .*; expected an integer of at most 64 bits"):
        batch_order(6, 2, seed)

"""Which examples of a pool become a task: a seeded draw, as balanced over the classes as there are examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from whichmin.data.pool import Examples, Pool
from whichmin.errors import DataError


def choose(
    pool: Pool, classes: Sequence[int | str] | None, n_train: int, n_test: int, seed: int
) -> tuple[Examples, Examples, tuple[int, ...]]:
    """Draw the training and the test examples.

    Training examples come from the front and test examples from the back of one seeded order, so that more of the one
    leaves the other as it is, and so that both are disjoint where the pool has a single part.

    Args:
        pool: where to draw from.
        classes: labels or names of classes; None means every one.
        n_train: how many training examples.
        n_test: how many test examples.
        seed: of the order.

    Returns:
        The training examples, the test examples and the classes' labels (none for numeric targets).

    Raises:
        DataError: classes that are not there, or that numeric targets do not have; fewer examples than asked for.
    """
    y = pool.train.y
    assert y is not None, "every reader supplies training targets"
    if y.is_floating_point():
        if classes is not None:
            raise DataError(f"{pool.source} has numeric targets, no classes: leave classes out.")
        labels: tuple[int, ...] = ()
    else:
        labels = _labels(pool, y, classes)
    own_test = pool.test is not None
    wanted = n_train if own_test else n_train + n_test
    groups = _groups(pool.train, labels, seed)
    _enough(groups, wanted, pool, labels, "training" if own_test else "training and test")
    train_counts = _balanced([len(group) for group in groups], n_train)
    train = [group[:count] for group, count in zip(groups, train_counts, strict=True)]
    if pool.test is None:
        left = [group[count:] for group, count in zip(groups, train_counts, strict=True)]
        source = pool.train
    else:
        source = pool.test
        left = _groups(source, labels if source.y is not None else (), seed)
        _enough(left, n_test, pool, labels, "test")
    test_counts = _balanced([len(group) for group in left], n_test)
    test = [group[len(group) - count :] for group, count in zip(left, test_counts, strict=True)]
    return _take(pool.train, train, seed), _take(source, test, seed), labels


def _labels(pool: Pool, y: Tensor, classes: Sequence[int | str] | None) -> tuple[int, ...]:
    present = [int(label) for label in y.unique()]
    labels = tuple(present) if classes is None else tuple(_label(c, pool, present) for c in classes)
    if len(set(labels)) < max(2, len(labels)):
        raise DataError(
            f"the classes of {pool.source} to tell apart are {labels}; expected two different ones at least."
        )
    return labels


def _label(value: int | str, pool: Pool, present: list[int]) -> int:
    label = pool.names.index(value) if value in pool.names else value
    if label not in present:
        named = [f"{c} ({pool.names[c]})" if 0 <= c < len(pool.names) else str(c) for c in present]
        raise DataError(f"{pool.source} has no class {value!r}; it has {', '.join(named)}.")
    assert not isinstance(label, str)
    return int(label)


def _order(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(n)


def _groups(part: Examples, labels: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """The row numbers of each class (of everything where there are no classes), in the seeded order."""
    order = _order(len(part), seed)
    if not labels:
        return [order]
    assert part.y is not None
    shuffled = part.y.numpy()[order]
    return [order[shuffled == label] for label in labels]


def _enough(groups: list[np.ndarray], wanted: int, pool: Pool, labels: tuple[int, ...], what: str) -> None:
    there = sum(len(group) for group in groups)
    if there < wanted:
        of = f" of the classes {', '.join(map(str, labels))}" if labels else ""
        raise DataError(
            f"{pool.source} has {there} examples{of} for the {what} part and {wanted} were asked for: "
            "ask for fewer (n_train, n_test) or for more classes."
        )


def _balanced(sizes: list[int], n: int) -> list[int]:
    """Counts that sum to n, none above its size, as equal as that allows; among equals the first take the rest."""
    counts = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=lambda i: (sizes[i], -i))
    for done, i in enumerate(smallest_first):
        counts[i] = min(sizes[i], n // (len(sizes) - done))
        n -= counts[i]
    return counts


def _take(part: Examples, groups: list[np.ndarray], seed: int) -> Examples:
    """The chosen rows in the seeded order, so that the classes are mixed."""
    rank = np.empty(len(part), dtype=np.int64)
    rank[_order(len(part), seed)] = np.arange(len(part))
    rows = np.concatenate(groups)
    chosen = torch.from_numpy(rows[np.argsort(rank[rows])])
    return Examples(part.X[chosen], None if part.y is None else part.y[chosen])

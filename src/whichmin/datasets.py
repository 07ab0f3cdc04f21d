"""Map-style data sets and loaders of torch, and the like, as tensors of some of their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whichmin.arrays import as_tensor, row_count
from whichmin.errors import DataError
from whichmin.inputs import AnyInputs, as_inputs

#: The keys under which items hold their target, unless told.
TARGETS = ("labels", "label", "target")
#: How many keys, or lengths, a message lists.
_LISTED = 8


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a data set.

    Attributes:
        X: inputs, (n, …) each.
        y: targets, (n, …).
    """

    X: AnyInputs
    y: Tensor

    def part(self, rows: slice) -> Rows:
        """Some of the rows."""
        return Rows(self.X[rows], self.y[rows])


def draw(
    train: Any,
    test: Any,
    n_train: int | None,
    n_test: int | None,
    seed: int,
    inputs: str | Sequence[str] | None,
    target: str | None,
) -> tuple[Rows, Rows | None]:
    """A seeded draw of rows to train on and to test on.

    Training rows come from the front of a random order, and test rows from its back where there is no data set of
    their own. Where all rows are taken, they keep their order.

    Args:
        train: a map-style data set, or a loader of one.
        test: another, or None.
        n_train: rows to train on; None for all (that are not tested on).
        n_test: rows to test on; None for all of ``test``.
        seed: of the order.
        inputs: of items that are mappings: the key of a single input, or those of keyword arguments; None for all but
            the target.
        target: of items that are mappings, the key of the target; None for one of ``TARGETS``.

    Raises:
        DataError: what is no such data set, has fewer rows, or has items of another form or of different shapes.
    """
    source, own = _Source.of(train, "train"), None if test is None else _Source.of(test, "test")
    count = row_count(n_train, "n_train")
    tested = row_count(n_test, "n_test") if n_test is not None or own is None else len(own)
    left = len(source) - (0 if own is not None else tested or 0)
    count = left if count is None else count
    if count < 1 or count > left:
        needed = f"n_train = {count}" + ("" if own is not None or not tested else f" and n_test = {tested}")
        raise DataError(f"{needed} rows are asked for and the training set has {len(source)}: ask for fewer.")
    order = _order(len(source), count, seed)
    if own is not None:
        if not tested or tested > len(own):
            raise DataError(f"n_test = {tested} rows are asked for and the test set has {len(own)}.")
        rows = _order(len(own), tested, seed)[:tested]
        return source.rows(order[:count], inputs, target), own.rows(rows, inputs, target)
    if not tested:
        return source.rows(order[:count], inputs, target), None
    both = source.rows(np.concatenate([order[:count], order[len(order) - tested :]]), inputs, target)
    return both.part(slice(count)), both.part(slice(count, None))


def _order(n: int, wanted: int, seed: int) -> np.ndarray:
    if not (isinstance(seed, int | np.integer) and seed >= 0):
        raise DataError(f"seed is {seed!r}; expected a whole number from 0.")
    return np.arange(n) if wanted == n else np.random.default_rng(seed).permutation(n)


def _check_sampler(loader: Any, name: str) -> None:
    """Refuse a loader that may leave rows of its data set out, or take some more often.

    Raises:
        DataError: its sampler is none of torch's two that take every row once.
    """
    from torch.utils.data import BatchSampler, IterableDataset, RandomSampler, SequentialSampler

    sampler = loader.sampler if type(loader.batch_sampler) in (BatchSampler, type(None)) else loader.batch_sampler
    takes_all = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    )
    if not takes_all and not isinstance(loader.dataset, IterableDataset):
        raise DataError(
            f"{name} is a loader with a {type(sampler).__name__}, which may leave rows of its data set out or take "
            "them more than once: pass the rows themselves, torch.utils.data.Subset(loader.dataset, numbers), or "
            "loader.dataset for all of them."
        )


@dataclass(frozen=True, eq=False)
class _Source:
    """A map-style data set.

    Attributes:
        data: has a length, and an item for each number below it.
        collate: joins items, where a loader has its own way; None for stacking them.
    """

    data: Any
    collate: Callable[[list[Any]], Any] | None

    @classmethod
    def of(cls, value: Any, name: str) -> _Source:
        """Of what the user passed."""
        from torch.utils.data import DataLoader, IterableDataset, default_collate, default_convert

        collate = None
        if isinstance(value, DataLoader):
            _check_sampler(value, name)
            is_stacking = value.collate_fn in (default_collate, default_convert, None)
            collate = None if is_stacking else value.collate_fn
            value = value.dataset
        is_map = hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, Mapping | str)
        if isinstance(value, IterableDataset) or not is_map:
            raise DataError(
                f"{name} is {_article(value)}, which has no items by number; expected a map-style data set, a loader "
                "of one, or a list of items: list(itertools.islice(data, n))."
            )
        if len(value) == 0:
            raise DataError(f"{name} is a data set without items.")
        return cls(value, collate)

    def __len__(self) -> int:
        return len(self.data)

    def _item(self, i: int) -> Any:
        try:
            return self.data[i]
        except Exception as error:
            raise DataError(f"item {i} of the data set fails: {type(error).__name__}: {error}.") from error

    def rows(self, numbers: np.ndarray, inputs: str | Sequence[str] | None, target: str | None) -> Rows:
        """The items of these numbers, stacked."""
        items = [self._item(int(i)) for i in numbers]
        if self.collate is not None:
            X, y = _parts(self._joined(items, self.collate), inputs, target)
            X = X if not isinstance(X, list) else tuple(X)
        else:
            pairs = [_parts(item, inputs, target) for item in items]
            X, y = _stacked([x for x, _ in pairs], "X"), _stacked([y for _, y in pairs], "y")
        rows = Rows(as_inputs(X, "X"), as_tensor(y, "y"))
        if any(len(t) != len(items) for t in (rows.X, rows.y)):
            raise DataError(
                f"the collate_fn makes {len(rows.X)} rows of inputs and {len(rows.y)} targets of {len(items)} items; "
                "expected a row for each item."
            )
        return rows

    @staticmethod
    def _joined(items: list[Any], collate: Callable[[list[Any]], Any]) -> Any:
        try:
            return collate(items)
        except Exception as error:
            raise DataError(
                f"the collate_fn fails on all {len(items)} items at once: {type(error).__name__}: {error}."
            ) from error


def _parts(item: Any, inputs: str | Sequence[str] | None, target: str | None) -> tuple[Any, Any]:
    """The inputs and the target of an item, or of a batch."""
    if isinstance(item, Mapping):
        return _by_key(item, inputs, target)
    if inputs is not None or target is not None:
        raise DataError(f"inputs= and target= name keys of items that are mappings, and an item is {_article(item)}.")
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise DataError(
            f"an item of the data set is {_article(item)}; expected (x, y), (x1, x2, …, y) for several inputs, or a "
            "mapping with a target."
        )
    *x, y = item
    return (x[0] if len(x) == 1 else tuple(x)), y


def _by_key(item: Mapping[str, Any], inputs: str | Sequence[str] | None, target: str | None) -> tuple[Any, Any]:
    keys = ", ".join(map(repr, list(item)[:_LISTED])) + (", …" if len(item) > _LISTED else "")
    name = target if target is not None else next((t for t in TARGETS if t in item), None)
    if name is None or name not in item:
        got = "no target" if name is None else f"no target {name!r}"
        raise DataError(f"items have {got}; their keys are {keys}: say which it is, target=….")
    wanted = [k for k in item if k != name] if inputs is None else [inputs] if isinstance(inputs, str) else list(inputs)
    missing = [k for k in wanted if k not in item]
    if missing or not wanted:
        raise DataError(f"items have no {missing[0] if missing else 'input'!r}; their keys are {keys}: pass inputs=….")
    return (item[inputs] if isinstance(inputs, str) else {k: item[k] for k in wanted}), item[name]


def _stacked(values: Sequence[Any], name: str) -> Any:
    """Values of rows as a tensor, or as a mapping or tuple of them."""
    first = values[0]
    if isinstance(first, Mapping):
        return {k: _stacked([v[k] for v in values], f"{name}[{k!r}]") for k in first}
    if isinstance(first, tuple) and not all(isinstance(v, int | float) for v in first):
        return tuple(_stacked([v[i] for v in values], f"{name}[{i}]") for i in range(len(first)))
    tensors = [_row(v, name) for v in values]
    shapes = list(dict.fromkeys(tuple(t.shape) for t in tensors))
    if len(shapes) > 1:
        raise DataError(
            f"rows of {name} have different shapes, {', '.join(map(str, shapes[:_LISTED]))}: pad or crop them alike, "
            "such as tokenizer(…, padding='max_length'), or pass a DataLoader whose collate_fn does."
        )
    return torch.stack(tensors)


def _row(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray | np.generic | int | float | list | tuple):
        raise DataError(
            f"rows of {name} are {_article(value)}; expected numbers or arrays of them: choose other keys, inputs=[…], "
            "or give the data set a transform that makes tensors of its items."
        )
    return as_tensor(value, name)


def _article(value: Any) -> str:
    if isinstance(value, str):
        return f"text, such as {value[:30]!r}"
    size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{size}"

"""Rows of inputs: which are equal, those of a batch, those of two inputs together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from whichmin.errors import DataError
from whichmin.inputs.inputs import (
    AnyInputs,
    Inputs,
    argument_names,
    described,
    from_tree,
    in_types_of,
    named_tensors,
    tensors_of,
    tree_of,
)


def row_groups(X: AnyInputs) -> Tensor:
    """For each row the number of the group of rows that are identical to it, (n,), int64. Costs a sort of the rows."""
    groups = [torch.unique(t.reshape(len(t), -1), dim=0, return_inverse=True)[1] for t in tensors_of(X)]
    return groups[0] if len(groups) == 1 else torch.unique(torch.stack(groups, 1), dim=0, return_inverse=True)[1]


def row_bytes(X: AnyInputs) -> list[bytes]:
    """The values of each row, (n,): equal for rows that are identical."""
    tensors = [t.detach().cpu().contiguous().reshape(len(t), -1) for t in tensors_of(X)]
    return [b"".join(t[i].numpy().tobytes() for t in tensors) for i in range(len(X))]


def concatenated(first: AnyInputs, second: AnyInputs) -> Any:
    """The rows of both, one below the other; the second inputs have the tensors of the first.

    Raises:
        DataError: they have other tensors, or rows of another shape.
    """
    one, other = named_tensors(first, "first"), named_tensors(second, "second")
    shapes = [[tuple(t.shape[1:]) for t in tensors.values()] for tensors in (one, other)]
    if argument_names(first) != argument_names(second) or shapes[0] != shapes[1]:
        raise DataError(f"inputs {described(first)} do not go with {described(second)}: pass both alike.")
    if not isinstance(first, Inputs):
        return torch.cat([*one.values(), *other.values()])
    if isinstance(first.tensors, dict):
        assert isinstance(second, Inputs)
        return Inputs({name: torch.cat([t, second.named(name)]) for name, t in first.tensors.items()}, first.output)
    return Inputs(tuple(torch.cat(pair) for pair in zip(one.values(), other.values(), strict=True)), first.output)


def of_batch(batch: Any, X: AnyInputs) -> Any:
    """The inputs in a batch of a loader, in the types of X; None where it does not hold such.

    Args:
        batch: (x, y) or x, where x is what the inputs are: a tensor, a mapping with others in it, such as labels, or
            a tuple; (x1, x2, …, y) for positional arguments.
        X: inputs of that kind.
    """
    names, first = argument_names(X), batch[0] if isinstance(batch, tuple | list) and len(batch) else batch
    tree: Any = None
    if names:
        tree = {name: first[name] for name in tree_of(X)} if isinstance(first, Mapping) and names <= {*first} else None
    elif isinstance(X, Inputs):
        parts = first if isinstance(first, tuple | list) else batch if isinstance(batch, tuple | list) else (batch,)
        tree = tuple(parts[: len(X.tensors)])
    elif isinstance(first, Tensor):
        tree = first
    if tree is None:
        return None
    given = tensors_of(from_tree(X, tree))
    wanted = tensors_of(X)
    if len(given) != len(wanted) or not all(isinstance(t, Tensor) and t.ndim for t in given):
        return None
    if any(a.shape[1:] != b.shape[1:] for a, b in zip(given, wanted, strict=True)):
        return None
    return in_types_of(from_tree(X, tree), X)

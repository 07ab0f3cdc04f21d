"""Inputs of a model: one tensor, or several by name or by position, with rows along axis 0 of each.

A single tensor stays a plain ``Tensor``. Several, or one whose output is picked, are :class:`Inputs`, which is indexed,
counted, copied and moved like a tensor, so that only what is here knows the difference.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from whichmin.arrays import as_tensor, is_frame
from whichmin.errors import DataError, InputError, ModelError

#: How many names a message lists.
_LISTED = 12


@dataclass(frozen=True)
class Output:
    """Which tensor is taken from what a model returns.

    Attributes:
        name: a key or an attribute; None for a function.
        function: from what the model returns to a tensor. It is not saved.
    """

    name: str | None
    function: Callable[[Any], Any] | None = field(default=None, metadata={"saved": False})

    @classmethod
    def of(cls, output: Any) -> Output | None:
        """From what users write: a name, a function, or None for what :func:`picked` finds by itself.

        Raises:
            InputError: anything else.
        """
        if output is None or isinstance(output, Output):
            return output
        if isinstance(output, str):
            return cls(output)
        if callable(output):
            return cls(None, output)
        raise InputError(
            f"output is {output!r}; expected the name of a key or attribute of what the model returns, such as "
            "'logits', or a function of it, such as lambda out: out[0]."
        )

    def __call__(self, returned: Any) -> Any:
        """The part of what a model returned.

        Raises:
            ModelError: there is no such key or attribute, or the function fails.
        """
        if self.name is not None:
            return _named(returned, self.name)
        if self.function is None:
            raise ModelError(
                "the output of this task was picked by a function, and functions are not saved: make the task anew, "
                "Task(…, output=…)."
            )
        try:
            return self.function(returned)
        except Exception as error:
            raise ModelError(
                f"output= failed on what the model returned, {_described(returned)}: {type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True, eq=False)
class Inputs:
    """The arguments that a model is called with, and what is taken from what it returns.

    Indexing with a name gives a tensor; with anything else the same rows of all of them.

    Attributes:
        tensors: by name for keyword arguments, or in a tuple for positional ones; (n, …) each.
        output: which tensor is taken; None for what :func:`picked` finds by itself.
    """

    tensors: dict[str, Tensor] | tuple[Tensor, ...]
    output: Output | None = None

    def __len__(self) -> int:
        """The number of rows n."""
        return len(self._first)

    def __getitem__(self, key: Any) -> Any:
        return self.named(key) if isinstance(key, str) else self.map(lambda t: t[key])

    def __repr__(self) -> str:
        return f"Inputs({described(self)})"

    @property
    def device(self) -> torch.device:
        """That of the first tensor; a task has all on one."""
        return self._first.device

    @property
    def _first(self) -> Tensor:
        return next(iter(self._values))

    @property
    def _values(self) -> Iterable[Tensor]:
        return self.tensors.values() if isinstance(self.tensors, dict) else self.tensors

    def named(self, name: str) -> Tensor:
        """The tensor of an argument.

        Raises:
            InputError: there is none of this name.
        """
        if isinstance(self.tensors, dict) and name in self.tensors:
            return self.tensors[name]
        raise InputError(f"there is no input {name!r}: the inputs are {described(self)}.")

    def map(self, function: Callable[[Tensor], Tensor]) -> Inputs:
        """A function of each tensor."""
        if isinstance(self.tensors, dict):
            return Inputs({name: function(t) for name, t in self.tensors.items()}, self.output)
        return Inputs(tuple(map(function, self.tensors)), self.output)

    def clone(self) -> Inputs:
        """A copy of all tensors."""
        return self.map(Tensor.clone)

    def call(self, model: Callable[..., Any]) -> Any:
        """What a model returns for them."""
        return model(**self.tensors) if isinstance(self.tensors, dict) else model(*self.tensors)


#: What a model is called with.
AnyInputs: TypeAlias = Tensor | Inputs
#: What users pass for it: keyword arguments as a mapping, positional ones as a tuple.
InputsLike: TypeAlias = Tensor | Mapping[str, Tensor] | tuple[Tensor, ...] | Inputs


def as_inputs(value: Any, name: str, output: Output | None = None) -> Any:
    """Inputs as they are kept: mappings and tuples of tensors as :class:`Inputs`, anything else as it is.

    Args:
        value: what the user passed.
        name: what messages call it.
        output: which of the model's outputs is meant.

    Raises:
        DataError: an empty mapping or tuple, keys that are no names, values that are no arrays of rows, or different
            numbers of rows.
    """
    if isinstance(value, Inputs):
        return value if output is None else Inputs(value.tensors, output)
    if isinstance(value, Mapping):
        return _checked(Inputs(_by_name(value, name), output), name)
    if isinstance(value, tuple) and any(_is_array(v) for v in value):
        return _checked(Inputs(tuple(_read(v, f"{name}[{i}]") for i, v in enumerate(value)), output), name)
    return value if output is None else Inputs((as_tensor(value, name),), output)


def _by_name(value: Mapping[Any, Any], name: str) -> dict[str, Tensor]:
    if not value:
        raise DataError(f"{name} is an empty mapping; expected tensors by the names of the model's arguments.")
    for key in value:
        if not isinstance(key, str):
            raise DataError(f"{name} has the key {key!r}; expected names of arguments of the model, as 'input_ids'.")
    return {key: _read(v, f"{name}[{key!r}]") for key, v in value.items()}


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) or is_frame(value)


def _read(value: Any, name: str) -> Tensor:
    if not (_is_array(value) or (isinstance(value, list) and value)):
        raise DataError(
            f"{name} is {_kind(value)}; expected a tensor with the rows along axis 0. Leave it out; settings of a call "
            "belong in a module of your own that makes it."
        )
    tensor = as_tensor(value, name)
    if tensor.ndim == 0:
        raise DataError(f"{name} is a single number; expected a tensor with the rows along axis 0.")
    return tensor


def _kind(value: Any) -> str:
    return repr(value) if value is None or isinstance(value, bool | int | float | str) else f"a {type(value).__name__}"


def _checked(X: Inputs, name: str) -> Inputs:
    first, *others = named_tensors(X, name).items()
    for label, tensor in others:
        if len(tensor) != len(first[1]):
            raise DataError(
                f"{label} has {len(tensor)} rows and {first[0]} has {len(first[1])}: rows run along axis 0 of each; "
                "expand what all rows share, tensor.expand(n, -1)."
            )
    return X


def check_inputs(X: Any, name: str) -> None:
    """Refuse inputs that are empty or not finite.

    Raises:
        DataError: which, with the first such row.
    """
    for label, x in named_tensors(X, name).items():
        if isinstance(x, Tensor) and x.layout is not torch.strided:
            raise DataError(f"{label} is sparse ({x.layout}); expected dense rows: {label}.to_dense().")
        if not isinstance(x, Tensor) or x.ndim == 0 or x.numel() == 0:
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise DataError(
                f"{label} is {got}; expected a tensor of at least one row, (n, …), or a mapping or tuple of them."
            )
        if x.is_floating_point() and not math.isfinite(float(x.abs().max())):
            row = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero()[0, 0])
            raise DataError(f"{label} holds NaN or infinity, first in row {row}: drop or impute those rows.")


def pair_of_inputs(x1: Any, x2: Any) -> tuple[AnyInputs, AnyInputs | None]:
    """The two inputs of a kernel, checked; the second is the first where it is the same object.

    Raises:
        DataError: as :func:`as_inputs` and :func:`check_inputs`.
    """
    first = as_inputs(x1, "x1")
    check_inputs(first, "x1")
    if x2 is None or x2 is x1:
        return first, None if x2 is None else first
    second = as_inputs(x2, "x2")
    check_inputs(second, "x2")
    return first, second


def named_tensors(X: AnyInputs, name: str) -> dict[str, Tensor]:
    """The tensors by what messages call them: ``X``, ``X['input_ids']``, ``X[0]``."""
    if not isinstance(X, Inputs):
        return {name: X}
    if isinstance(X.tensors, dict):
        return {f"{name}[{key!r}]": t for key, t in X.tensors.items()}
    return {name: X.tensors[0]} if len(X.tensors) == 1 else {f"{name}[{i}]": t for i, t in enumerate(X.tensors)}


def tensors_of(X: AnyInputs) -> list[Tensor]:
    """All tensors."""
    return list(named_tensors(X, "").values())


def only_tensor(X: AnyInputs) -> Tensor | None:
    """The tensor where there is only one."""
    tensors = tensors_of(X)
    return tensors[0] if len(tensors) == 1 else None


def single_tensor(X: AnyInputs, what: str) -> Tensor:
    """The tensor of inputs that must be one.

    Raises:
        DataError: there are several; says what needs a single one.
    """
    tensor = only_tensor(X)
    if tensor is None:
        raise DataError(f"the inputs are {described(X)}; {what} takes a single tensor, one row per example.")
    return tensor


def mapped(X: AnyInputs, function: Callable[[Tensor], Tensor]) -> Any:
    """A function of the tensor, or of each."""
    return X.map(function) if isinstance(X, Inputs) else function(X)


def moved(X: AnyInputs, *args: Any, **kwargs: Any) -> Any:
    """On another device or in another type, as ``Tensor.to``; integers keep their type."""

    def move(t: Tensor) -> Tensor:
        there = t.to(*args, **kwargs)
        return there if t.is_floating_point() else there.to(t.dtype)

    return mapped(X, move)


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


def in_types_of(X: AnyInputs, other: AnyInputs) -> Any:
    """Inputs in the types of others that have the same tensors."""
    types = {label: t.dtype for label, t in named_tensors(other, "").items()}
    if not isinstance(X, Inputs):
        return X.to(types[""])
    labels = iter(types)
    return X.map(lambda t: t.to(types[next(labels)]))


def tree_of(X: AnyInputs) -> Any:
    """The tensors as ``torch.func`` takes them: a tensor, a dictionary or a tuple."""
    return X.tensors if isinstance(X, Inputs) else X


def from_tree(X: AnyInputs, tree: Any) -> Any:
    """Inputs like X of other tensors."""
    return Inputs(tree, X.output) if isinstance(X, Inputs) else tree


def is_floating(X: AnyInputs) -> bool:
    """Whether any of the tensors is of a floating-point type."""
    return any(t.is_floating_point() for t in tensors_of(X))


def row_groups(X: AnyInputs) -> Tensor:
    """For each row the number of the group of rows that are identical to it, (n,), int64. Costs a sort of the rows."""
    groups = [torch.unique(t.reshape(len(t), -1), dim=0, return_inverse=True)[1] for t in tensors_of(X)]
    return groups[0] if len(groups) == 1 else torch.unique(torch.stack(groups, 1), dim=0, return_inverse=True)[1]


def row_bytes(X: AnyInputs) -> list[bytes]:
    """The values of each row, (n,): equal for rows that are identical."""
    tensors = [t.detach().cpu().contiguous().reshape(len(t), -1) for t in tensors_of(X)]
    return [b"".join(t[i].numpy().tobytes() for t in tensors) for i in range(len(X))]


def output_of(X: AnyInputs) -> str | Callable[[Any], Any] | None:
    """Which output is meant, as users write it; None where it is found by itself, or was a function that is lost."""
    output = X.output if isinstance(X, Inputs) else None
    return None if output is None else output.function if output.name is None else output.name


def argument_names(X: AnyInputs) -> frozenset[str]:
    """The names of keyword arguments; none where the inputs are positional."""
    return frozenset(X.tensors if isinstance(X, Inputs) and isinstance(X.tensors, dict) else ())


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


def described(X: AnyInputs, form: Callable[[Tensor], str] | None = None) -> str:
    """The names and forms of the tensors: ``input_ids (6, 12), torch.int64 on cpu, attention_mask …``."""
    form = form or _form
    if isinstance(X, Inputs) and isinstance(X.tensors, dict):
        return ", ".join(f"{name} {form(t)}" for name, t in X.tensors.items())
    return ", ".join(map(form, tensors_of(X)))


def _form(t: Tensor) -> str:
    return f"{tuple(t.shape)}, {t.dtype} on {t.device}" if t.ndim else "a single number"


def accepted(model: Any) -> str:
    """The names of the arguments of a model's ``forward``, for messages; nothing where they cannot be had."""
    try:
        names = list(inspect.signature(getattr(model, "forward", model)).parameters)
    except (TypeError, ValueError):
        return ""
    return f" Its forward takes {', '.join(names) or 'nothing'}."


def called(model: Callable[..., Any], X: AnyInputs) -> Any:
    """What a model returns for inputs, with the output that is meant picked from it: a tensor, where all is well.

    Raises:
        ModelError: the output cannot be found in what the model returned.
    """
    return picked(X.call(model), X.output) if isinstance(X, Inputs) else picked(model(X))


def picked(returned: Any, output: Output | None = None) -> Any:
    """The tensor that is meant: a tensor itself, ``logits`` of a mapping or an object, or what ``output`` says.

    Raises:
        ModelError: there is none; lists the names that there are.
    """
    if output is not None:
        value = output(returned)
        if not isinstance(value, Tensor):
            raise ModelError(
                f"output={'a function' if output.name is None else repr(output.name)} gives {_described(value)}; "
                "expected a tensor: take one of it, output=lambda out: …."
            )
        return value
    if isinstance(returned, Tensor):
        return returned
    logits = _entries(returned).get("logits")
    if isinstance(logits, Tensor):
        return logits
    entries = _entries(returned)
    name = next(iter(entries), None)
    how = f"output={name!r}" if name is not None else "output=lambda out: out[0]"
    raise ModelError(
        f"the model returned {_described(returned)}; expected a tensor, or a mapping or an object with 'logits'. Say "
        f"which output is meant, Task(…, {how})."
    )


def _named(returned: Any, name: str) -> Any:
    entries = _entries(returned)
    if name in entries:
        return entries[name]
    if isinstance(returned, Tensor):
        raise ModelError(f"output={name!r} asks for a part of a tensor, {tuple(returned.shape)}: leave output out.")
    value = None if isinstance(returned, Mapping) else getattr(returned, name, None)
    if value is not None:
        return value
    raise ModelError(f"output={name!r} is not among what the model returned, {_described(returned)}.")


def _entries(returned: Any) -> dict[str, Any]:
    """What a model returned by key or attribute."""
    if isinstance(returned, Tensor):
        return {}
    if isinstance(returned, Mapping):
        return {str(k): v for k, v in returned.items()}
    if hasattr(returned, "_asdict"):
        return dict(returned._asdict())
    if dataclasses.is_dataclass(returned):
        return {f.name: getattr(returned, f.name) for f in dataclasses.fields(returned)}
    return {k: v for k, v in getattr(returned, "__dict__", {}).items() if not k.startswith("_")}


def _described(returned: Any) -> str:
    if isinstance(returned, Tensor):
        return f"a tensor {tuple(returned.shape)}"
    kind, names = type(returned).__name__, list(_entries(returned))
    if names:
        return f"a {kind} with {', '.join(map(repr, names[:_LISTED]))}" + (", …" if len(names) > _LISTED else "")
    return f"a {kind} of {len(returned)}" if isinstance(returned, list | tuple) else f"a {kind}"

"""The inputs of a model as one object, and what holds of a single tensor alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from whichmin.errors import DataError, InputError
from whichmin.inputs.output import Output


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
if TYPE_CHECKING:
    #: Inputs that a caller passed as one tensor are a tensor to a type checker, and need no check.
    InputsIfKnown: TypeAlias = Tensor | Any
else:
    InputsIfKnown = AnyInputs | None


#: What users pass for it: keyword arguments as a mapping, positional ones as a tuple.
InputsLike: TypeAlias = Tensor | Mapping[str, Tensor] | tuple[Tensor, ...] | Inputs


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


def output_of(X: AnyInputs) -> str | Callable[[Any], Any] | None:
    """Which output is meant, as users write it; None where it is found by itself, or was a function that is lost."""
    output = X.output if isinstance(X, Inputs) else None
    return None if output is None else output.function if output.name is None else output.name


def argument_names(X: AnyInputs) -> frozenset[str]:
    """The names of keyword arguments; none where the inputs are positional."""
    return frozenset(X.tensors if isinstance(X, Inputs) and isinstance(X.tensors, dict) else ())


def described(X: AnyInputs, form: Callable[[Tensor], str] | None = None) -> str:
    """The names and forms of the tensors: ``input_ids (6, 12), torch.int64 on cpu, attention_mask …``."""
    form = form or _form
    if isinstance(X, Inputs) and isinstance(X.tensors, dict):
        return ", ".join(f"{name} {form(t)}" for name, t in X.tensors.items())
    return ", ".join(map(form, tensors_of(X)))


def _form(t: Tensor) -> str:
    return f"{tuple(t.shape)}, {t.dtype} on {t.device}" if t.ndim else "a single number"

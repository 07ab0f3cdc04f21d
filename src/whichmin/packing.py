"""Trees of tensors, plain values, containers and dataclasses as plain values beside arrays, and back.

Scalars and text stand for themselves; anything else is an object of one key that says what it is. Classes are
not named: they are those of the annotations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor

from whichmin.losses import Loss
from whichmin.losses.recognize import LOSSES

#: Metadata of a dataclass field that is not saved, such as a network: ``field(default=None, metadata=NOT_SAVED)``.
NOT_SAVED: Mapping[str, Any] = {"saved": False}


@dataclass
class Packed:
    """What does not go into JSON.

    Attributes:
        arrays: tensors by name.
        results: objects with a ``save`` of their own, by the name of the folder that they are saved to.
    """

    arrays: dict[str, Tensor] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)


def pack(value: Any, name: str, into: Packed) -> Any:
    """A value as :func:`whichmin.storage.to_json` takes it.

    Args:
        value: what to pack.
        name: its place in the tree, dotted; arrays are called so.
        into: takes the arrays and results.

    Raises:
        TypeError: a value that is none of these.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        is_tensor = isinstance(value, Tensor)
        return {
            "tensor" if is_tensor else "array": _put(
                into.arrays, name, value if is_tensor else torch.from_numpy(np.ascontiguousarray(value))
            )
        }
    if isinstance(value, Loss):
        return {"loss": [type(value).__name__, _settings(value)]}
    if hasattr(value, "save"):
        return {"result": _put(into.results, name, value)}
    if isinstance(value, Mapping):
        return {"mapping": [[pack(k, name, into), pack(v, f"{name}.{k}", into)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        items = [pack(v, f"{name}.{i}", into) for i, v in enumerate(value)]
        return {"list" if isinstance(value, list) else "tuple": items}
    if dataclasses.is_dataclass(value):
        return {"fields": pack_fields(value, f"{name}.", into)}
    raise TypeError(f"{name} is a {type(value).__name__}, which cannot be saved: mark its field NOT_SAVED.")


def pack_fields(of: Any, prefix: str, into: Packed) -> dict[str, Any]:
    """The fields of a dataclass, packed; without those that are :data:`NOT_SAVED`."""
    saved = [f.name for f in dataclasses.fields(of) if f.init and f.metadata.get("saved", True)]
    return {name: pack(getattr(of, name), prefix + name, into) for name in saved}


def unpack(packed: Any, hint: Any, arrays: Mapping[str, Tensor], part: Callable[[type, str], Any]) -> Any:
    """The value that :func:`pack` was given.

    Args:
        packed: what it returned.
        hint: the annotation of the value's place, with classes in place of their names.
        arrays: the tensors by name.
        part: loads a result of a class from the folder of that name.
    """
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return arrays[content]
    if kind == "array":
        return arrays[content].numpy()
    if kind == "loss":
        name, settings = content
        return LOSSES[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
    if kind == "result":
        return part(_class_in(hint), content)
    if kind == "mapping":
        return {unpack(k, hint, arrays, part): unpack(v, hint, arrays, part) for k, v in content}
    if kind in ("list", "tuple"):
        items = [unpack(item, hint, arrays, part) for item in content]
        return items if kind == "list" else tuple(items)
    return unpack_fields(content, _class_in(hint), arrays, part)


def _settings(loss: Loss) -> dict[str, Any]:
    """What makes a loss again; of a user's function its name."""
    return {f.name: getattr(loss, f.name) for f in dataclasses.fields(loss) if f.name != "function"}  # type: ignore[arg-type]


def unpack_fields(
    packed: Mapping[str, Any], cls: type, arrays: Mapping[str, Tensor], part: Callable[[type, str], Any]
) -> Any:
    """The dataclass whose fields were packed; arguments as for :func:`unpack`."""
    hints = get_type_hints(cls)
    return cls(**{name: unpack(value, hints[name], arrays, part) for name, value in packed.items()})


def _put(where: dict[str, Any], name: str, value: Any) -> str:
    """Put a value under its name, or one that is not taken."""
    while name in where:
        name += "'"
    where[name] = value
    return name


def _class_in(hint: Any) -> type:
    """The dataclass that an annotation is about: ``A`` of ``tuple[A, ...]`` or of ``dict[str, A | None]``.

    Raises:
        TypeError: there is none, or more than one.
    """
    classes = _classes_in(hint)
    if len(classes) != 1:
        raise TypeError(f"the annotation {hint} is about {len(classes)} dataclasses; expected one.")
    return classes.pop()


def _classes_in(hint: Any) -> set[type]:
    return {hint} if dataclasses.is_dataclass(hint) else set().union(*map(_classes_in, get_args(hint)))

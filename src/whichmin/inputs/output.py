"""The output that is meant, picked from what a model returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from whichmin.errors import InputError, ModelError

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

"""Fields of a dataclass whose values are made when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any


class Later:
    """Values by name that are made when one of them is first asked for, all at once.

    Args:
        make: makes them. It is forgotten afterwards, with all that it holds.
    """

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make: Callable[[], Mapping[str, Any]] | None = make
        self._values: Mapping[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        return self._made()[name]

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: the values, made now."""
        return {"_make": None, "_values": self._made()}

    def _made(self) -> Mapping[str, Any]:
        if self._make is not None:
            self._values = self._make()
            self._make = None
        return self._values


class Late:
    """A field of a dataclass, without a default: given a :class:`Later`, it is the value of its own name in that.

    ``vars(instance)`` holds what was given until the value is asked for; :func:`is_late` tells.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            raise AttributeError(self._name)  # so that a dataclass knows of no default
        value = vars(instance)[self._name]
        if isinstance(value, Later):
            value = vars(instance)[self._name] = value[self._name]
        return value

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[self._name] = value


def is_late(instance: Any, name: str) -> bool:
    """Whether the value of a field is still to be made."""
    return isinstance(vars(instance).get(name), Later)


if TYPE_CHECKING:

    def late() -> Any:
        """A :class:`Late` field, of the type that its annotation says."""
        ...

else:
    late = Late

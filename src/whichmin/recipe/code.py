"""What code does, as plain values: released code by its name and version, the caller's own by its bytecode.

The bytecode of a function is that of the function that runs, wherever its text is: in a file that was edited and
reloaded, in a notebook, or nowhere. With it count its defaults, what it captures, and the functions, classes and
constants of the caller's own that it names.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

from torch import nn

from whichmin.recipe.describe import version_of

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def code_of_network(model: nn.Module) -> dict[str, str]:
    """The classes of a network's modules by name, each with its version or a hash of its code.

    Functions that the modules hold, such as an activation that was passed, a ``forward`` that was put in place of the
    class's own, and hooks, are among them.
    """
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        kind = type(module)
        found.setdefault(f"{kind.__module__}.{kind.__qualname__}", code_of(kind))
        for attribute, value in _held(module):
            found[f"{name}.{attribute}"] = code_of(value)
    return found


def code_of(value: Any) -> str:
    """The version of released code, and a hash of other."""
    plain = _Reader().read(value)
    return plain if isinstance(plain, str) else hashlib.sha256(repr(plain).encode()).hexdigest()[:16]


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The functions among a module's attributes, and its hooks."""
    for attribute, value in vars(module).items():
        if attribute.endswith("_hooks") and isinstance(value, dict):
            yield from ((f"{attribute}.{i}", hook) for i, hook in enumerate(value.values()))
        elif callable(value) and not isinstance(value, nn.Module):
            yield attribute, value


class _Reader:
    """Reads code, each function and class once."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def read(self, value: Any) -> Any:
        """A value as a tree of plain values."""
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, tuple | list):
            return [self.read(inside) for inside in value]
        if isinstance(value, frozenset | set):
            return sorted(repr(self.read(inside)) for inside in value)
        if isinstance(value, functools.partial):
            return [self.read(part) for part in (value.func, value.args, sorted(value.keywords.items()))]
        if isinstance(value, types.CodeType):
            consts = [self.read(const) for const in value.co_consts]
            return [value.co_code.hex(), consts, value.co_names, value.co_varnames, value.co_freevars]
        if not callable(value) and not isinstance(value, property | staticmethod | classmethod):
            return f"{type(value).__module__}.{type(value).__qualname__}"
        return self._named(value)

    def _named(self, value: Any) -> Any:
        """A function, a class, or what wraps one."""
        version = version_of(getattr(value, "__module__", None))
        if version is not None:
            return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)} {version}"
        if id(value) in self._seen:
            return self._seen[id(value)]
        self._seen[id(value)] = len(self._seen)
        if isinstance(value, property):
            return [self.read(part) for part in (value.fget, value.fset)]
        if isinstance(value, staticmethod | classmethod | types.MethodType):
            return self.read(value.__func__)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        return self.read(type(value))

    def _class(self, kind: type) -> Any:
        """A class: its bases, functions and constants."""
        own = {name: held for name, held in vars(kind).items() if not (name.startswith("__") and name != "__call__")}
        own |= {"__init__": kind.__init__} if "__init__" in vars(kind) else {}
        return [[self.read(base) for base in kind.__bases__], [(name, self.read(own[name])) for name in sorted(own)]]

    def _function(self, function: types.FunctionType) -> Any:
        """A function, with what it names of the caller's own."""
        captured = [_cell(cell) for cell in function.__closure__ or ()]
        named = sorted(set(_names(function.__code__)))
        there = [(name, function.__globals__[name]) for name in named if name in function.__globals__]
        reached = [(name, found) for name, found in there if not isinstance(found, types.ModuleType)]
        for module_name, module in there:
            if isinstance(module, types.ModuleType) and version_of(module.__name__) is None:
                reached += [(f"{module_name}.{name}", getattr(module, name)) for name in named if hasattr(module, name)]
        parts = (function.__code__, function.__defaults__, sorted((function.__kwdefaults__ or {}).items()), captured)
        return [*map(self.read, parts), [(name, self.read(found)) for name, found in reached]]


def _cell(cell: types.CellType) -> Any:
    """What a function captures; None of a cell that is still empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _names(code: types.CodeType) -> Iterator[str]:
    """All names in a function and in the functions within it."""
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _names(const)

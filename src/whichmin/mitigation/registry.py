"""The remedies by name. A new one is a file with a :class:`whichmin.mitigation.method.Method`, and a line here."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from whichmin.errors import InputError
from whichmin.mitigation.antisymmetric import Antisymmetric
from whichmin.mitigation.as_it_is import NAME, AsItIs
from whichmin.mitigation.centered import Centered
from whichmin.mitigation.ensemble import Ensemble
from whichmin.mitigation.jump import Jump
from whichmin.mitigation.method import Method
from whichmin.mitigation.scale_search import ScaleSearch
from whichmin.mitigation.subtract import Subtract
from whichmin.mitigation.zero_last_layer import ZeroLastLayer

_ALL = (AsItIs, ScaleSearch, Antisymmetric, Centered, Subtract, ZeroLastLayer, Ensemble, Jump)
METHODS: dict[str, type[Method]] = {method.name: method for method in _ALL}


def chosen_methods(methods: str | Sequence[str | Method]) -> tuple[Method, ...]:
    """The methods that are asked for, the network as it is first.

    Args:
        methods: "all", or names and methods with settings of their own.

    Raises:
        InputError: an unknown name, or a method that comes twice.
    """
    if isinstance(methods, str):
        methods = list(METHODS) if methods == "all" else [methods]
    made = [_made(method) for method in methods]
    names = [method.name for method in made]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"methods has {twice!r} twice: a result has a row for each name. Leave one out.")
    first = [method for method in made if method.name == NAME] or [AsItIs()]
    return (*first, *(method for method in made if method.name != NAME))


def _made(method: str | Method) -> Method:
    if isinstance(method, Method):
        return method
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]()
    close = difflib.get_close_matches(str(method), METHODS, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise InputError(f'methods has {method!r}; expected "all" or some of {", ".join(METHODS)}.{hint}')

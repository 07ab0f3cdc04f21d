"""A model called with inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from whichmin.devices import callers_default_device
from whichmin.inputs.inputs import AnyInputs, Inputs
from whichmin.inputs.output import picked


def called(model: Callable[..., Any], X: AnyInputs) -> Any:
    """What a model returns for inputs, with the output that is meant picked from it: a tensor, where all is well.

    Raises:
        ModelError: the output cannot be found in what the model returned.
    """
    with callers_default_device():
        return picked(X.call(model), X.output) if isinstance(X, Inputs) else picked(model(X))


def accepted(model: Any) -> str:
    """The names of the arguments of a model's ``forward``, for messages; nothing where they cannot be had."""
    try:
        names = list(inspect.signature(getattr(model, "forward", model)).parameters)
    except (TypeError, ValueError):
        return ""
    return f" Its forward takes {', '.join(names) or 'nothing'}."

"""A recipe as plain values: what it builds and what that does, not the names of the functions that build it.

Two factories that build equal optimizers and schedulers are one recipe, whatever they are called; a factory's code and
the values that it captures count by what it builds. What holds code of the user's own, such as the functions of a
``LambdaLR`` or an optimizer class of one's own, may have changed without a trace: it is ``Unknown``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import math
import sys
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from whichmin._version import __version__

#: Steps over which a description records the rates and momenta that a scheduler sets.
DESCRIBED_STEPS = 100
_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


@dataclass(frozen=True)
class Unknown:
    """That a recipe cannot be told apart from all others, and why: a sentence without its full stop."""

    reason: str


class _UnknownError(Exception):
    """Something whose behaviour its values do not tell."""


def describe_recipe(
    optimizer: torch.optim.Optimizer,
    build_scheduler: Callable[[torch.optim.Optimizer], LRScheduler | None],
    parameters: Mapping[str, nn.Parameter],
) -> dict[str, Any] | Unknown:
    """The built optimizer by class, settings and state, and its scheduler by state and by what it does to the rates.

    Args:
        optimizer: as built, not yet scheduled; it makes no step.
        build_scheduler: makes its scheduler.
        parameters: the network's, by name.
    """
    try:
        described = _optimizer(optimizer, parameters)
        scheduler = build_scheduler(optimizer)
        if scheduler is None:
            return described | {"scheduler": None}
        plain = _scheduler(scheduler, "the scheduler")
        return described | {"scheduler": plain, "scheduled": _scheduled(optimizer, scheduler)}
    except _UnknownError as error:
        return Unknown(str(error))


def _optimizer(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any]:
    name = type(optimizer).__name__
    described = {"class": _released(type(optimizer), f"the optimizer {name}")}
    if "step" in vars(optimizer) or any(getattr(optimizer, hooks, None) for hooks in _HOOKS):
        raise _UnknownError(f"the optimizer {name} has a step or hooks of its own, whose code may change")
    names = {id(p): name for name, p in parameters.items()}
    groups, state = [], {}
    for i, group in enumerate(optimizer.param_groups):
        settings = {k: plain(v, f"{k} of the optimizer {name}") for k, v in group.items() if k != "params"}
        inside = [names.get(id(p), f"{i}.{j}") for j, p in enumerate(group["params"])]
        groups.append({"settings": settings, "parameters": inside})
        for key, p in zip(inside, group["params"], strict=True):
            if p in optimizer.state:
                state[key] = plain(optimizer.state[p], f"the state of the optimizer {name}")
    return {"optimizer": described | {"groups": groups, "state": state}}


def _scheduler(scheduler: LRScheduler, where: str) -> dict[str, Any]:
    """Class and attributes, of schedulers within it as well."""
    name = type(scheduler).__name__
    said: dict[str, Any] = {"class": _released(type(scheduler), f"{where} {name}")}
    for key, value in vars(scheduler).items():
        if isinstance(value, torch.optim.Optimizer):
            continue
        if isinstance(value, list | tuple) and any(isinstance(v, LRScheduler) for v in value):
            said[key] = [_scheduler(v, where) if isinstance(v, LRScheduler) else plain(v, where) for v in value]
        elif isinstance(value, LRScheduler):
            said[key] = _scheduler(value, where)
        else:
            said[key] = plain(value, f"{key} of {where} {name}")
    return said


def _scheduled(optimizer: torch.optim.Optimizer, scheduler: LRScheduler) -> list[Any]:
    """The settings of all groups over the first steps, given where they change; the optimizer itself never steps."""
    said: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for k in range(DESCRIBED_STEPS):
            settings = [[(n, plain(v, n)) for n, v in g.items() if n != "params"] for g in optimizer.param_groups]
            if not said or said[-1][1] != settings:
                said.append((k, settings))
            try:
                scheduler.step()
            except ValueError:  # the end of a schedule of fixed length
                return [*said, (k, "ends")]
    return said


def plain(value: Any, where: str) -> Any:
    """A value as one that JSON writes, equal where it does the same and only there.

    Raises:
        _UnknownError: code of the user's own, or an object without plain values.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), digest([value])]
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v, where) for k, v in value.items()}
    if isinstance(value, list | tuple | deque):
        return [plain(v, where) for v in value]
    if isinstance(value, partial):
        return [plain(value.func, where), plain(value.args, where), plain(value.keywords, where)]
    if callable(value):
        return _released(value, f"the function in {where}")
    raise _UnknownError(f"{where} holds a {type(value).__name__}, whose values are not known")


def _released(value: Any, where: str) -> str:
    """A class or function by its name and the version of the package that it comes from.

    Raises:
        _UnknownError: it is none of an installed, versioned package, or cannot be found there by its name.
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    version = None if module is None else _version(module.partition(".")[0])
    if version is None or name is None:
        raise _UnknownError(f"{where} is code of your own, whose changes cannot be seen")
    found: Any = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    if inspect.unwrap(found) is not inspect.unwrap(value) if callable(found) else True:
        raise _UnknownError(f"{where} is {module}.{name}, made when it is called: what it holds cannot be seen")
    return f"{module}.{name} {version}"


@cache
def _version(package: str) -> str | None:
    """The version of an installed package; None of code that can change under the same version."""
    if package == "whichmin":
        return __version__
    if package in sys.stdlib_module_names and package != "__main__":
        return sys.version.split()[0]
    for distribution in importlib.metadata.packages_distributions().get(package, []):
        origin = importlib.metadata.distribution(distribution).read_text("direct_url.json")
        return None if origin is not None and '"editable": true' in origin else importlib.metadata.version(distribution)
    return None


def digest(tensors: Sequence[Tensor], *texts: str) -> str:
    """A hash of tensors, their types and shapes, and texts."""
    found = hashlib.sha256("\n".join(texts).encode())
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        found.update(f"{values.dtype} {tuple(values.shape)}".encode())
        found.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()

"""A recipe as plain values: what it builds and what that does, not the names of the functions that build it.

Two factories that build equal optimizers and schedulers are one recipe, whatever they are called; a factory's code and
the values that it captures count by what they build. What holds code of the user's own, such as the functions of a
``LambdaLR`` or an optimizer class of one's own, may have changed without a trace: such a recipe is ``Unknown``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import math
import sys
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from whichmin._version import __version__
from whichmin.recipe.build import take_step

#: Steps over which a description records the settings that a scheduler changes.
DESCRIBED_STEPS = 100
#: Steps that an optimizer makes with copies of the parameters to tell what it does.
PROBED_STEPS = 3
_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


@dataclass(frozen=True)
class Unknown:
    """That something cannot be told apart from all others; ``reason`` says why, without a full stop."""

    reason: str


class _UnknownError(Exception):
    """A value that does not say what it does."""


def describe_recipe(
    optimizer: torch.optim.Optimizer,
    build_scheduler: Callable[[torch.optim.Optimizer], LRScheduler | None],
    parameters: Mapping[str, nn.Parameter],
) -> dict[str, Any] | Unknown:
    """The built optimizer by class, settings and state, and its scheduler by state and by what it does to the settings.

    Args:
        optimizer: as built, not yet scheduled; it makes no step.
        build_scheduler: makes its scheduler.
        parameters: the network's, by name.
    """
    try:
        described = {"optimizer": _optimizer(optimizer, parameters)}
        scheduler = build_scheduler(optimizer)
        if scheduler is None:
            return described | {"scheduler": None}
        plain = _plain(scheduler, f"the scheduler {type(scheduler).__name__}")
        return described | {"scheduler": plain, "scheduled": _scheduled(optimizer, scheduler)}
    except _UnknownError as error:
        return Unknown(str(error))


def describe_steps(build: Callable[[list[nn.Parameter]], torch.optim.Optimizer], parameters: Sequence[Tensor]) -> str:
    """A hash of what an optimizer does to copies of some parameters over a few steps with made-up gradients.

    Args:
        build: makes the optimizer of a list of parameters.
        parameters: they are not moved.

    Raises:
        OptimizerError: it cannot be built, or its step fails.
    """
    probes = [nn.Parameter(p.detach().clone()) for p in parameters]
    devices = {p.device for p in probes if p.device.type == "cuda"}
    with torch.random.fork_rng([*devices]):
        torch.manual_seed(0)
        optimizer = build(probes)
        for k in range(PROBED_STEPS):
            for p in probes:
                wave = torch.arange(p.numel(), dtype=torch.float64, device="cpu").add(k).sin()
                p.grad = wave.reshape(p.shape).to(p)
            take_step(optimizer)
    return digest(probes)


def _optimizer(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any]:
    where = f"the optimizer {type(optimizer).__name__}"
    kind = _released(type(optimizer), where)
    if "step" in vars(optimizer) or any(getattr(optimizer, hooks, None) for hooks in _HOOKS):
        raise _UnknownError(f"{where} has a step or hooks that are code of your own, whose changes cannot be seen")
    names = {id(p): name for name, p in parameters.items()}
    groups, state = [], {}
    for i, group in enumerate(optimizer.param_groups):
        inside = [names.get(id(p), f"{i}.{j}") for j, p in enumerate(group["params"])]
        groups.append({"settings": _settings(group, where), "parameters": inside})
        for name, p in zip(inside, group["params"], strict=True):
            if p in optimizer.state:
                state[name] = _plain(optimizer.state[p], f"the state of {where}")
    return {"class": kind, "groups": groups, "state": state}


def _settings(group: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {name: _plain(value, f"{name} of {where}") for name, value in group.items() if name != "params"}


def _scheduled(optimizer: torch.optim.Optimizer, scheduler: LRScheduler) -> list[Any]:
    """The settings of all groups over the first steps, at those where they change; the optimizer never steps."""
    changes: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the optimizer does not step
        for k in range(DESCRIBED_STEPS):
            settings = [_settings(group, "the scheduled optimizer") for group in optimizer.param_groups]
            if not changes or changes[-1][1] != settings:
                changes.append((k, settings))
            try:
                scheduler.step()
            except ValueError:  # a schedule of fixed length is over
                return [*changes, (k, "over")]
    return changes


def _plain(value: Any, where: str) -> Any:
    """A value as one that JSON writes, equal for two values that do the same and only for those.

    Raises:
        _UnknownError: code of the user's own, or an object that does not show its values.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return _plain(torch.as_tensor(value), where)
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), digest([value])]
    if isinstance(value, Mapping):
        return {str(k): _plain(v, where) for k, v in value.items()}
    if isinstance(value, list | tuple | deque):
        return [_plain(v, where) for v in value]
    if isinstance(value, partial):
        return [_plain(part, where) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, LRScheduler):
        values = {k: v for k, v in vars(value).items() if not isinstance(v, torch.optim.Optimizer)}
        return {"class": _released(type(value), where)} | {k: _plain(v, f"{k} of {where}") for k, v in values.items()}
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if callable(value):
        return _released(value, f"a function ({where})")
    raise _UnknownError(f"{where} holds a {type(value).__name__}, which does not show its values")


def _released(value: Any, where: str) -> str:
    """A class or function by its name and the version of the installed package that it comes from.

    Raises:
        _UnknownError: it comes from none, or is not what its name stands for there.
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    version = version_of(module)
    if version is None or name is None:
        raise _UnknownError(f"{where} is code of your own, whose changes cannot be seen")
    found: Any = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None or inspect.unwrap(found) is not inspect.unwrap(value):
        raise _UnknownError(f"{where} is made by {module}.{name}, and what it holds cannot be seen")
    return f"{module}.{name} {version}"


def version_of(module: Any) -> str | None:
    """The version of the package that a module belongs to, by name; None of code that may change under one version."""
    return _version(module) if isinstance(module, str) else None


@cache
def _version(module: str) -> str | None:
    package = module.partition(".")[0]
    if package in ("torch", "whichmin"):
        return torch.__version__ if package == "torch" else __version__
    if package in sys.stdlib_module_names and package != "__main__":
        return sys.version.split()[0]
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not {"site-packages", "dist-packages"} & set(Path(file).parts):
        return None
    distributions = importlib.metadata.packages_distributions().get(package, [])
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(distributions))) or None


def digest(tensors: Sequence[Tensor], *texts: str) -> str:
    """A hash of tensors, their types and shapes, and texts."""
    sha = hashlib.sha256("\n".join(texts).encode())
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        sha.update(f"{values.dtype} {tuple(values.shape)}".encode())
        sha.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()

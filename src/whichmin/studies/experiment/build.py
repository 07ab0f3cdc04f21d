"""From a description to tensors and networks."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from whichmin.data import load
from whichmin.devices import callers_default_device
from whichmin.errors import ConfigError
from whichmin.inputs import single_tensor
from whichmin.networks import CNN, MLP
from whichmin.studies.experiment.config import LOSSES, Experiment
from whichmin.studies.experiment.optimizers import NamedOptimizer
from whichmin.task import Task


def build_device(name: str) -> torch.device:
    """The device that is named.

    Raises:
        ConfigError: torch does not know it, or it is not there.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"device is {name!r}, which cannot be used here: {reason}") from error
    return device


def build_task(experiment: Experiment) -> Task:
    """The task, on the device and in the type that are named.

    Raises:
        DataError: see :func:`whichmin.data.load`.
        ConfigError: see :func:`build_device`.
    """
    device = build_device(experiment.device)
    task = load(
        experiment.data,
        classes=experiment.chosen_classes,
        n_train=experiment.n_train,
        n_test=experiment.n_test,
        seed=experiment.data_seed,
        target=experiment.target,
        test=experiment.test,
        standardize=experiment.standardize,
        flat=False if experiment.network == "cnn" else None,
        dtype=getattr(torch, experiment.dtype),
        loss=getattr(nn, LOSSES[experiment.loss])(),
    )
    return task.to(device)


def build_network(experiment: Experiment, task: Task, seed: int) -> nn.Module:
    """The network that a seed draws, on the task's device.

    Raises:
        ConfigError: a CNN without images, or a ``model`` that cannot be had.
        ModelError: see :mod:`whichmin.networks`.
    """
    dtype = getattr(torch, experiment.dtype)
    if experiment.model is not None:
        return _foreign(experiment.model, seed).to(device=task.X.device, dtype=dtype)
    options: dict[str, Any] = {
        "parametrization": experiment.parametrization,
        "activation": experiment.activation,
        "bias": experiment.bias,
        "scale": experiment.scale,
        "seed": seed,
        "dtype": dtype,
    }
    X = single_tensor(task.X, f"a network of whichmin's, {experiment.network}")
    if experiment.network == "mlp":
        network = MLP((X[0].numel(), *experiment.layers, task.outputs), **options)
    elif X.ndim == 4:
        network = CNN((X.shape[1], *experiment.layers), task.outputs, **options)
    else:
        raise ConfigError(
            f"network is 'cnn' and the inputs of {experiment.data} have shape {tuple(X.shape[1:])}; "
            "expected images, (channels, height, width)."
        )
    return network.to(task.X.device)


def build_optimizer(optimizer: NamedOptimizer) -> partial[torch.optim.Optimizer]:
    """The factory of an optimizer; ``lr`` may be "best", "half" or "monotone".

    Raises:
        ConfigError: a class that cannot be had, or settings that it does not take.
    """
    made = _find(optimizer.path, "optimizer", "a class")
    settings = dict(optimizer.settings) | ({} if optimizer.lr is None else {"lr": optimizer.lr})
    taken = inspect.signature(made).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        known = [name for name in list(taken)[1:] if name != "lr"]
        for name in dict(optimizer.settings):
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                hint = f"did you mean {close[0]!r}? It takes {', '.join(known)}" if close else "it takes none"
                raise ConfigError(f"{optimizer.name} has no setting {name!r}; {hint}.")
    factory = partial(made, **settings)
    trial = partial(made, **settings | {"lr": 1e-3}) if isinstance(optimizer.lr, str) else factory
    try:
        built = trial([torch.nn.Parameter(torch.zeros(2, 2))])
    except Exception as error:
        raise ConfigError(f"{optimizer.text} cannot be built: {error}") from error
    if not isinstance(built, torch.optim.Optimizer):
        raise ConfigError(
            f"optimizer {optimizer.name!r} made a {type(built).__name__}; expected a torch.optim.Optimizer."
        )
    return factory


def _foreign(path: str, seed: int) -> nn.Module:
    factory = _find(path, "model", "a function or a class")
    arguments = _seed_argument(factory, path, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            with callers_default_device():
                model = factory(**arguments)
        except Exception as error:
            raise ConfigError(f"model {path!r} failed with {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model {path!r} returned {type(model).__name__}; expected a torch.nn.Module.")
    return model


def _find(path: str, what: str, kind: str) -> Callable[..., Any]:
    module_name, name = path.split(":")
    try:
        with current_folder_first():
            factory = getattr(importlib.import_module(module_name), name, None)
    except Exception as error:
        raise ConfigError(
            f"{what} {path!r}: importing {module_name} failed with {type(error).__name__}: {error}"
        ) from error
    if not callable(factory):
        there = "does not have it" if factory is None else f"has {factory!r} there"
        raise ConfigError(f"{what} {path!r}: expected {kind} {name!r}; {module_name} {there}.")
    return factory


def _seed_argument(factory: Callable[..., Any], path: str, seed: int) -> dict[str, int]:
    """The seed, under the name ``seed`` or that of the only parameter without a default."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return {}
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p.name for p in parameters if p.name in named and p.default is p.empty]
    if len(needed) > 1:
        raise ConfigError(f"model {path!r} needs the arguments {', '.join(needed)}; expected one, the seed, or none.")
    if needed:
        return {needed[0]: seed}
    return {"seed": seed} if "seed" in named else {}


@contextmanager
def current_folder_first() -> Iterator[None]:
    """Modules beside the caller can be imported, as under ``python -m``."""
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path.pop(0)

"""Building and checking what a recipe names: the optimizer and the scheduler."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from whichmin.errors import OptimizerError, WhichminError

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]

#: Optimizers of torch whose step is many passes over the parameters, or one.
_FUSED = (torch.optim.Adam, torch.optim.AdamW)
#: The devices where it may be one.
_DEVICES = ("cpu", "cuda")


def build_optimizer(optimizer: OptimizerFactory, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that a factory makes.

    Raises:
        OptimizerError: not a factory, or the factory fails.
    """
    if isinstance(optimizer, torch.optim.Optimizer):
        raise OptimizerError(
            f"got a built {type(optimizer).__name__}; expected a factory, such as "
            f"functools.partial(torch.optim.{type(optimizer).__name__}, lr=…), which whichmin builds on its own copy."
        )
    if isinstance(optimizer, nn.Module):
        raise OptimizerError(
            f"got a network, {type(optimizer).__name__}; expected an optimizer factory such as "
            "partial(torch.optim.SGD, lr=0.1), or a Recipe."
        )
    if not callable(optimizer):
        raise OptimizerError(
            f"optimizer is {optimizer!r}; expected a factory such as partial(torch.optim.SGD, lr=0.1)."
        )
    try:
        built = optimizer(list(parameters))
    except WhichminError:
        raise
    except (TypeError, ValueError) as error:
        raise OptimizerError(
            f"the optimizer factory failed: {error}. Expected functools.partial(torch.optim.SGD, lr=…), lr a positive "
            'number, "best", "half" or "monotone".'
        ) from error
    if not isinstance(built, torch.optim.Optimizer):
        raise OptimizerError(f"the factory returned a {type(built).__name__}; expected a torch.optim.Optimizer.")
    return built


def check_optimizer(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> None:
    """Refuse an optimizer that does not train these parameters, all of them, step by step.

    Raises:
        OptimizerError: it needs a closure, leaves some of them out, holds others, or does not move a group.
    """
    kind = type(optimizer).__name__
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise OptimizerError(
            f"{kind} evaluates the loss several times in a step, through a closure; training needs an optimizer whose "
            "step() works without one, such as torch.optim.SGD or torch.optim.Adam."
        )
    names = {id(p): name for name, p in parameters.items()}
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    foreign = len(held - set(names))
    if foreign:
        raise OptimizerError(
            f"the optimizer holds {foreign} tensors that are not parameters of the copy that is trained: build it from "
            "the parameters that the factory is called with."
        )
    missing = [name for name, p in parameters.items() if id(p) not in held]
    if missing:
        raise OptimizerError(
            f"the optimizer has no {_listed(missing)}, {len(missing)} of {len(parameters)} trainable parameters: "
            "freeze them with requires_grad_(False) or give them to the optimizer."
        )
    for i, group in enumerate(optimizer.param_groups):
        if "lr" in group and float(group["lr"]) == 0:
            inside = _listed([names[id(p)] for p in group["params"]])
            raise OptimizerError(
                f"parameter group {i} ({inside}) has lr = 0 and would not move: give it a positive learning rate, or "
                "freeze its parameters with requires_grad_(False) and leave them out."
            )


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer that has made no step make each in one pass over the parameters: the same up to rounding.

    Where a factory says how steps are made, they are made so.
    """
    if type(optimizer) not in _FUSED:
        return
    for group in optimizer.param_groups:
        is_open = group["fused"] is None and group["foreach"] is None
        is_plain = not (group["capturable"] or group["differentiable"])
        if is_open and is_plain and all(p.is_floating_point() and p.device.type in _DEVICES for p in group["params"]):
            group["fused"] = True


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """``optimizer.step()``.

    Raises:
        OptimizerError: the optimizer raised one of the errors that bad settings and gradients give.
    """
    try:
        optimizer.step()
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise OptimizerError(
            f"{type(optimizer).__name__}.step() failed: {error}. It gets the dense gradients of all trainable "
            "parameters and is called without arguments: check its settings, or take another optimizer."
        ) from error


def build_scheduler(scheduler: Any, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
    """The learning-rate scheduler that a factory makes; None for none.

    Raises:
        OptimizerError: not a factory, the factory fails, or what it makes does not schedule this optimizer by steps.
    """
    if scheduler is None:
        return None
    example = "functools.partial(torch.optim.lr_scheduler.StepLR, step_size=100)"
    if isinstance(scheduler, LRScheduler):
        raise OptimizerError(
            f"got a built {type(scheduler).__name__}; expected a factory optimizer → scheduler, such as {example}."
        )
    if not callable(scheduler):
        raise OptimizerError(
            f"scheduler is {scheduler!r}; expected a factory optimizer → scheduler, such as {example}."
        )
    try:
        built = scheduler(optimizer)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise OptimizerError(f"the scheduler factory failed: {error}. Expected one such as {example}.") from error
    if isinstance(built, ReduceLROnPlateau):
        raise OptimizerError(
            "ReduceLROnPlateau waits for a validation loss, and training has none to give it; expected a scheduler "
            f"whose step() needs nothing, such as {example}."
        )
    if not isinstance(built, LRScheduler):
        raise OptimizerError(
            f"the scheduler factory returned a {type(built).__name__}; expected a "
            f"torch.optim.lr_scheduler.LRScheduler, such as {example} makes."
        )
    if getattr(built, "optimizer", optimizer) is not optimizer:
        raise OptimizerError(
            f"the scheduler factory returned a {type(built).__name__} of another optimizer; expected one of the "
            "optimizer that it is called with."
        )
    return built


def check_lr(lr: Any) -> float:
    """A learning rate as a number.

    Raises:
        OptimizerError: it is not positive and finite.
    """
    value = float(lr)
    if not (math.isfinite(value) and value > 0):
        raise OptimizerError(f'lr is {value}; expected a positive number, "best", "half" or "monotone".')
    return value


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:4])
    return shown if len(names) <= 4 else f"{shown}, …"

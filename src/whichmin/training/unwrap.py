"""The model and the optimizer themselves, where a loop holds them in wrappers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def unwrapped_model(model: Any) -> Any:
    """The module that shares its parameters with the wrappers of torch.compile, DataParallel and accelerate."""
    while isinstance(model, nn.Module):
        if isinstance(inner := model._modules.get("_orig_mod"), nn.Module):
            model = inner
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model
    return model


def unwrapped_optimizer(optimizer: Any) -> Any:
    """The optimizer that makes the steps, where accelerate's or another wraps it as its ``optimizer``."""
    while hasattr(optimizer, "param_groups") and isinstance(
        inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer
    ):  # a scheduler has an optimizer as well, but no groups
        optimizer = inner
    return optimizer


def without_autocast(network: nn.Module) -> nn.Module:
    """The network itself, its own ``forward`` in place of the one that accelerate put around it for mixed precision."""
    for module in network.modules():
        own = vars(module).get("_original_forward")
        if getattr(own, "__func__", None) is type(module).forward:
            vars(module).pop("forward", None)
            vars(module).pop("_original_forward")
    return network

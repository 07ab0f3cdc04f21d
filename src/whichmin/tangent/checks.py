"""Modules and inputs that have no tangent kernel, refused before anything is run."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from whichmin.errors import DataError, ModelError

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
_DROPOUTS = (nn.modules.dropout._DropoutNd, nn.RReLU)


def check_modules(model: nn.Module) -> None:
    """Refuse layers whose output for one row depends on the others or on chance.

    Raises:
        ModelError: a BatchNorm in training mode or an active dropout, named, with the remedy.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"got a {type(model).__name__}; expected a torch.nn.Module.")
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, _BATCH_NORMS) and (module.training or module.running_mean is None):
            remedy = "call model.eval()" if module.running_mean is not None else "give it running statistics"
            raise ModelError(
                f"layer {name!r} ({kind}) normalizes with the statistics of the batch, so that a row's output depends "
                f"on the other rows and no tangent kernel exists: {remedy}, or use LayerNorm or GroupNorm."
            )
        if isinstance(module, _DROPOUTS) and module.training and getattr(module, "p", 1.0) > 0:
            raise ModelError(
                f"layer {name!r} ({kind}) is random in training mode: call model.eval(), or set p=0, to get a network "
                "that is a function."
            )


def check_array(name: str, x: Tensor) -> None:
    """Refuse inputs that are empty or not finite.

    Raises:
        DataError: which, with the first such row.
    """
    if isinstance(x, Tensor) and x.layout is not torch.strided:
        raise DataError(f"{name} is sparse ({x.layout}); expected dense rows: {name}.to_dense().")
    if not isinstance(x, Tensor) or x.ndim == 0 or x.numel() == 0:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"{name} is {got}; expected a tensor of at least one row, (n, …).")
    if x.is_floating_point() and not math.isfinite(float(x.abs().max())):
        row = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero()[0, 0])
        raise DataError(f"{name} holds NaN or infinity, first in row {row}: drop or impute those rows.")

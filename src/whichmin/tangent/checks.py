"""Modules that have no tangent kernel, refused before anything is run."""

from __future__ import annotations

from torch import nn

from whichmin.errors import ModelError

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

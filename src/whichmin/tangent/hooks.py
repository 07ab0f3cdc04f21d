"""Hooks on parameters: masks that keep entries from moving."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError


def masks_of(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The entries that hooks leave to gradients, ones and zeros, for parameters that have hooks.

    With a mask M training moves θ along M Jᵀ, and the tangent kernel is J M Jᵀ.

    Raises:
        ModelError: a hook that does something else to a gradient than to mask it.
    """
    masks = {}
    for name, p in parameters.items():
        hooks = list((p._backward_hooks or {}).values())
        if hooks:
            with torch.no_grad():
                masks[name] = _mask(name, p, hooks)
    return masks


def _mask(name: str, p: Tensor, hooks: list) -> Tensor:  # type: ignore[type-arg]
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p)

    def hooked(g: Tensor) -> Tensor:
        for hook in hooks:
            out = hook(g.clone())
            g = g if out is None else out
        return g

    mask = hooked(torch.ones_like(p))
    if (
        mask.shape != p.shape
        or not bool(((mask == 0) | (mask == 1)).all())
        or not torch.equal(hooked(probe), mask * probe)
    ):
        raise ModelError(
            f"a hook on parameter {name!r} changes its gradient by more than a mask of zeros and ones: training then "
            "follows no gradient that a tangent kernel has. Take the hook off, or do in the optimizer what it does."
        )
    return mask

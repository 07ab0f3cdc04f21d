"""Per-example gradients of parameters: over their uses, through tensors derived from them, under masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from whichmin.tangent.captured import Captured
from whichmin.tangent.layers.base import Factor

#: Per-example gradients of so many entries are taken through a derived tensor at once.
PULLED_AT_ONCE = 2**24


def per_example(factors: Sequence[Factor], shape: tuple[int, ...]) -> Tensor:
    """∂f_c(x_i)/∂parameter, summed over its uses, (C, n, *shape)."""
    total: Tensor | None = None
    for factor in factors:
        part = factor.use.layer.gradient(factor, shape, 0, shape[0] if shape else 1)
        part = part.reshape(*part.shape[:2], *shape)
        total = part if total is None else total + part  # a part may be a view of a gradient
    assert total is not None
    return total


def formed_gradients(
    captured: Captured,
    by_parameter: dict[str, list[Factor]],
    parameters: Mapping[str, nn.Parameter],
    masks: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Per-example gradients of parameters that are used through others or under a mask; their uses are taken out."""
    formed: dict[str, Tensor] = {}
    through = [n for n in captured.derived if n in by_parameter]
    for name in through:
        derived = captured.derived[name]
        whole = per_example(by_parameter.pop(name), tuple(derived.tensor.shape))
        sources = sorted(captured.parameters_of([name]))
        for source, g in zip(sources, _pull(derived.tensor, [parameters[s] for s in sources], whole), strict=True):
            if g is not None:
                formed[source] = formed[source] + g if source in formed else g
    for name in {*(formed if through else ()), *masks}:
        own = by_parameter.pop(name, None)
        if own is not None:
            whole = per_example(own, tuple(parameters[name].shape))
            formed[name] = formed[name] + whole if name in formed else whole
        if name in masks and name in formed:
            formed[name] = formed[name] * masks[name]
    return {n: g for n, g in formed.items() if n not in captured.opaque}


def _pull(derived: Tensor, sources: Sequence[Tensor], gradients: Tensor) -> list[Tensor | None]:
    """From gradients (C, n, *shape) of a derived tensor to those of the parameters that it is computed from.

    All of them at once and the whole way: what lies between may depend on a parameter twice.
    """
    C, n = gradients.shape[:2]
    flat = gradients.reshape(C * n, *derived.shape)
    step = max(1, PULLED_AT_ONCE // max(1, derived.numel()))
    parts: list[list[Tensor | None]] = []
    for lo in range(0, C * n, step):
        block = flat[lo : lo + step]
        options: dict[str, bool] = {"retain_graph": True, "allow_unused": True}
        try:
            parts.append(list(torch.autograd.grad(derived, sources, block, is_grads_batched=True, **options)))
        except RuntimeError:  # an operation without a batching rule
            rows = [torch.autograd.grad(derived, sources, g, **options) for g in block]
            parts.append([None if r[0] is None else torch.stack(r) for r in zip(*rows, strict=True)])  # type: ignore[arg-type]
    whole: list[Tensor | None] = []
    for k, source in enumerate(sources):
        pieces = [p[k] for p in parts]
        some = [g for g in pieces if g is not None]
        whole.append(torch.cat(some).reshape(C, n, *source.shape) if len(some) == len(pieces) else None)
    return whole

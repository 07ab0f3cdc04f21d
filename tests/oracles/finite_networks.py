"""Finite networks to compare with, through plain torch.func."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """(n, C, P) by plain torch.func, independent of the library's kernels."""
    params = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def output(values: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(model, values, (row[None],))[0]

    per_row = torch.func.vmap(torch.func.jacrev(output), (None, 0))(params, x)
    return torch.cat([value.flatten(2) for value in per_row.values()], dim=2)


def empirical(model: nn.Module, x: Tensor) -> Tensor:
    """The finite network's own tangent kernel, (n, n, C, C)."""
    J = jacobian(model, x)
    return torch.einsum("iap,jbp->ijab", J, J)

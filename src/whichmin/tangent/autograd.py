"""Per-example gradients by ``torch.func``: slow, and right for every network that autograd can differentiate."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from whichmin.tangent.examine import evaluate

logger = logging.getLogger(__name__)


def per_example_gradients(model: nn.Module, parameters: Mapping[str, Tensor], X: Tensor) -> dict[str, Tensor]:
    """∂f_c(x_i)/∂θ for the named parameters, each (C, n, *shape).

    Cost: n·C backward passes, vectorized by ``vmap`` where the network allows it and one by one where it does not.
    """
    try:
        return _vectorized(model, parameters, X)
    except Exception as error:  # vmap's refusals have no type of their own
        logger.info("vmap cannot vectorize the network (%s): gradients one by one", str(error).split("\n")[0][:120])
        return _one_by_one(model, parameters, X)


def _vectorized(model: nn.Module, parameters: Mapping[str, Tensor], X: Tensor) -> dict[str, Tensor]:
    fixed = {n: p.detach() for n, p in model.named_parameters() if n not in parameters}
    fixed |= dict(model.named_buffers())

    def single(values: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, {**fixed, **values}, (x.unsqueeze(0),)).reshape(-1)

    values = {n: p.detach() for n, p in parameters.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*performance drop.*batching rule.*")
        jacobians = torch.func.vmap(torch.func.jacrev(single), in_dims=(None, 0))(values, X)
    return {n: j.transpose(0, 1) for n, j in jacobians.items()}


def _one_by_one(model: nn.Module, parameters: Mapping[str, Tensor], X: Tensor) -> dict[str, Tensor]:
    names, values = list(parameters), list(parameters.values())
    rows: list[list[tuple[Tensor, ...]]] = []
    for i in range(len(X)):
        out = evaluate(model, X[i : i + 1])[0]
        grads = []
        for c in range(len(out)):
            g = torch.autograd.grad(out[c], values, retain_graph=c + 1 < len(out), allow_unused=True)
            grads.append(tuple(torch.zeros_like(v) if d is None else d for v, d in zip(values, g, strict=True)))
        rows.append(grads)
    outputs = range(len(rows[0]))
    return {
        name: torch.stack([torch.stack([row[c][k] for row in rows]) for c in outputs]) for k, name in enumerate(names)
    }

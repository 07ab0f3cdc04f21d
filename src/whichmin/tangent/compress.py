"""Factors of many rows from passes over few at a time, each row once.

Of each parameter whichever is smaller is kept: the inputs and output gradients of its uses, or the gradients of the
rows that they make. Graphs are let go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from whichmin.tangent.factors import Factors
from whichmin.tangent.layers.base import Factor

#: An edge of no graph, so that those of the passes can go.
_NOWHERE = get_gradient_edge(torch.zeros(1, requires_grad=True) * 1)


def compressed(factors: Factors, parameters: Mapping[str, Tensor]) -> Factors:
    """The same J, each parameter in its smaller form, without a graph."""
    n, C = factors.outputs.shape
    by_parameter, formed = {}, dict(factors.formed)
    for name, uses in factors.by_parameter.items():
        if C * n * parameters[name].numel() < sum(map(_entries, uses)):
            whole = factors.per_example(name, parameters[name])
            assert whole is not None
            formed[name] = whole.contiguous()
        else:
            by_parameter[name] = [Factor(replace(f.use, edge=_NOWHERE), f.gradient) for f in uses]
    formed = {name: g.detach() for name, g in formed.items()}
    return replace(factors, outputs=factors.outputs.detach(), by_parameter=by_parameter, formed=formed)


def _entries(factor: Factor) -> int:
    return factor.gradient.numel() + (0 if factor.use.input is None else factor.use.input.numel())


def merged(parts: Sequence[Factors], parameters: Mapping[str, Tensor]) -> Factors:
    """The factors of all rows from those of some after the other, which are used up.

    Uses that differ from part to part, as those of experts do, become gradients of the rows.
    """
    by_parameter: dict[str, list[Factor]] = {}
    formed: dict[str, Tensor] = {}
    for name in dict.fromkeys(n for part in parts for n in (*part.by_parameter, *part.formed)):
        uses = [part.by_parameter.get(name, []) for part in parts]
        if not any(name in part.formed for part in parts) and all(_alike(uses[0], other) for other in uses[1:]):
            by_parameter[name] = [_joined(same) for same in zip(*uses, strict=True)]
        else:
            formed[name] = torch.cat([_per_example(part, name, parameters[name]) for part in parts], dim=1)
        for part in parts:
            part.by_parameter.pop(name, None)
            part.formed.pop(name, None)
    return replace(
        parts[0],
        outputs=torch.cat([part.outputs for part in parts]),
        by_parameter=by_parameter,
        formed=formed,
        opaque=frozenset().union(*(part.opaque for part in parts)),
        by_rows=frozenset.intersection(*(part.by_rows for part in parts)),
    )


def _alike(left: Sequence[Factor], right: Sequence[Factor]) -> bool:
    """Whether uses of some rows are those of others but for the number of rows."""

    def kind(f: Factor) -> tuple[object, ...]:
        x = f.use.input
        return f.use.layer, f.gradient.shape[2:], None if x is None else x.shape[1:], f.gradient.dtype

    return [kind(f) for f in left] == [kind(f) for f in right]


def _joined(factors: Sequence[Factor]) -> Factor:
    use, gradient = factors[0].use, torch.cat([f.gradient for f in factors], dim=1)
    x = None if use.input is None else torch.cat([f.input for f in factors])
    version = 0 if x is None else x._version
    return Factor(replace(use, input=x, shape=tuple(gradient.shape[1:]), version=version), gradient)


def _per_example(part: Factors, name: str, parameter: Tensor) -> Tensor:
    whole = part.per_example(name, parameter)
    n, C = part.outputs.shape
    return part.outputs.new_zeros((C, n, *parameter.shape), dtype=part.dtype) if whole is None else whole

"""What J of some rows is made of: the inputs and the output gradients of every use of a parameter."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whichmin.tangent.autograd import per_example_gradients
from whichmin.tangent.cached_layer import CachedCall
from whichmin.tangent.capture import Capture
from whichmin.tangent.layers.base import Factor, Use
from whichmin.tangent.model import evaluate


@dataclass(frozen=True, eq=False)
class Captured:
    """A forward pass and the uses of parameters in it.

    Attributes:
        outputs: f, (n, C), with its autograd graph.
        uses: where parameters were recognized.
        opaque: the names of those that were not.
        reads_integers: whether integers were looked up (see ``Capture``).
    """

    outputs: Tensor
    uses: tuple[Use, ...]
    opaque: frozenset[str]
    reads_integers: bool


@dataclass(frozen=True, eq=False)
class Factors:
    """What J of some rows is made of.

    Attributes:
        outputs: f, (n, C), with its autograd graph.
        by_parameter: the uses of each parameter that was recognized.
        formed: per-example gradients (C, n, *shape) of the parameters that were not.
    """

    outputs: Tensor
    by_parameter: dict[str, list[Factor]]
    formed: dict[str, Tensor]


def capture(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    X: Tensor,
    form: Collection[str] = (),
    cached: Mapping[str, CachedCall] | None = None,
) -> Captured:
    """Run the model on X and record how it uses its parameters, those in ``form`` as opaque ones."""
    with torch.enable_grad(), Capture(parameters, X, cached=cached) as mode:
        outputs = evaluate(model, X)
    if mode.overwritten:
        with torch.enable_grad(), Capture(parameters, X, copy_views=True, cached=cached) as mode:
            outputs = evaluate(model, X)
    opaque = mode.opaque | set(form) | {u.parameter for u in mode.uses if not u.intact}
    uses = tuple(u for u in mode.uses if u.parameter not in opaque)
    return Captured(outputs, uses, frozenset(opaque), mode.reads_integers)


def factorize(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    X: Tensor,
    form: Collection[str] = (),
    cached: Mapping[str, CachedCall] | None = None,
) -> Factors:
    """Run the model once on X and take the gradients at every use of a parameter: C backward passes.

    Parameters that were used in a way that is not recognized, and those named in ``form``, get per-example gradients.
    Layers that are cached are no part of the graph.
    """
    captured = capture(model, parameters, X, form, cached)
    by_parameter: dict[str, list[Factor]] = {}
    for use, gradient in zip(captured.uses, _output_gradients(captured.outputs, captured.uses), strict=True):
        if gradient is not None:
            by_parameter.setdefault(use.parameter, []).append(Factor(use, gradient))
    formed = {}
    if captured.opaque:
        formed = per_example_gradients(model, {n: p for n, p in parameters.items() if n in captured.opaque}, X)
    return Factors(captured.outputs, by_parameter, formed)


def _output_gradients(outputs: Tensor, uses: Sequence[Use]) -> list[Tensor | None]:
    """∂f_c/∂(output of each use), (C, n, …); None where the output does not matter."""
    edges = list({(id(u.edge.node), u.edge.output_nr): u.edge for u in uses}.values())
    if not edges or not outputs.requires_grad:
        return [None] * len(uses)
    columns = []
    for c in range(outputs.shape[1]):
        seed = torch.zeros_like(outputs)
        seed[:, c] = 1.0
        columns.append(torch.autograd.grad(outputs, edges, seed, retain_graph=True, allow_unused=True))
    stacked: dict[tuple[int, int], Tensor | None] = {}
    for k, edge in enumerate(edges):
        grads = [column[k] for column in columns]
        some = next((g for g in grads if g is not None), None)
        key = (id(edge.node), edge.output_nr)
        if some is None:
            stacked[key] = None
        elif len(grads) == 1:
            stacked[key] = some.unsqueeze(0)
        else:
            stacked[key] = torch.stack([torch.zeros_like(some) if g is None else g for g in grads])
    return [stacked[(id(u.edge.node), u.edge.output_nr)] for u in uses]

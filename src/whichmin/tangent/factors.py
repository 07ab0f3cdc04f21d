"""The tangent kernel from per-layer inputs and output gradients."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whichmin.tangent.autograd import per_example_gradients
from whichmin.tangent.cached_layer import Seen
from whichmin.tangent.capture import Capture, Use
from whichmin.tangent.contract import Factor, Grams, add_part
from whichmin.tangent.examine import evaluate


@dataclass(frozen=True, eq=False)
class Factors:
    """What the kernel of some rows is made of.

    Attributes:
        outputs: f, (n, C), with its autograd graph.
        by_parameter: the uses of each parameter that was recognized.
        formed: per-example gradients (C, n, *shape) of the parameters that were not.
    """

    outputs: Tensor
    by_parameter: dict[str, list[Factor]]
    formed: dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Probe:
    """What running the model on a few rows tells about its kernel.

    Attributes:
        outputs: f, (n, C), with its autograd graph.
        uses: where parameters were recognized.
        opaque: the names of those that were not.
        looked_up: whether integers were looked up (see ``Capture``).
    """

    outputs: Tensor
    uses: tuple[Use, ...]
    opaque: tuple[str, ...]
    looked_up: bool

    def bytes_per_row(self, parameters: Mapping[str, Tensor]) -> int:
        """What one row of the factors takes: inputs and gradients at every use."""
        (n, C), item, total = self.outputs.shape, self.outputs.element_size(), 0
        for use in self.uses:
            x = use.input
            total += (0 if x is None else x.numel() * x.element_size()) + C * math.prod(use.shape) * item
        total += sum(n * C * parameters[name].numel() * item for name in self.opaque)
        return 2 * total // n + 1  # as much again for what autograd keeps

    def can_be_held(self) -> list[str]:
        """Weights of dense layers that are used once, on inputs that no parameter moves (see ``cached_layer``)."""
        names = [u.parameter for u in self.uses]
        return [u.parameter for u in self.uses if u.is_first_layer and names.count(u.parameter) == 1]

    @property
    def structure(self) -> tuple[object, ...]:
        """How parameters are used; kernels of the same structure are contracted alike."""
        told = (
            (
                u.parameter,
                u.kind,
                u.transposed,
                u.shape[1:],
                str({k: v for k, v in (u.options or {}).items() if k != "prepare"}),
            )
            for u in self.uses
        )
        return (self.outputs.shape[1], self.outputs.dtype, self.opaque, *told)


def probe(model: nn.Module, parameters: Mapping[str, nn.Parameter], X: Tensor) -> Probe:
    """Run the model once on a few rows X: one forward pass."""
    outputs, uses, opaque, looked_up = _captured(model, parameters, X)
    return Probe(outputs, tuple(uses), tuple(n for n in parameters if n in opaque), looked_up)


def factorize(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    X: Tensor,
    form: Collection[str] = (),
    held: Mapping[str, Seen] | None = None,
) -> Factors:
    """Run the model once on X and take the gradients at every use of a parameter: C backward passes.

    Parameters that were used in a way that is not recognized, and those named in ``form``, get per-example gradients.
    Those that are ``held`` are no part of the graph.
    """
    outputs, uses, opaque, _ = _captured(model, parameters, X, form, held)
    by_parameter: dict[str, list[Factor]] = {}
    for use, gradient in zip(uses, _output_gradients(outputs, uses), strict=True):
        if gradient is not None:
            by_parameter.setdefault(use.parameter, []).append(Factor(use, gradient))
    formed = {}
    if opaque:
        formed = per_example_gradients(model, {n: p for n, p in parameters.items() if n in opaque}, X)
    return Factors(outputs, by_parameter, formed)


def _captured(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    X: Tensor,
    form: Collection[str] = (),
    held: Mapping[str, Seen] | None = None,
) -> tuple[Tensor, list[Use], set[str], bool]:
    """Outputs, recognized uses, the names of opaque parameters, and whether integers were looked up."""
    with torch.enable_grad(), Capture(parameters, X, held=held) as capture:
        outputs = evaluate(model, X)
    if capture.overwritten:
        with torch.enable_grad(), Capture(parameters, X, copy_views=True, held=held) as capture:
            outputs = evaluate(model, X)
    opaque = capture.opaque | set(form) | {u.parameter for u in capture.uses if not u.intact}
    return outputs, [u for u in capture.uses if u.parameter not in opaque], opaque, capture.looked_up


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
        known = next((g for g in grads if g is not None), None)
        key = (id(edge.node), edge.output_nr)
        if known is None:
            stacked[key] = None
        elif len(grads) == 1:
            stacked[key] = known.unsqueeze(0)
        else:
            stacked[key] = torch.stack([torch.zeros_like(known) if g is None else g for g in grads])
    return [stacked[(id(u.edge.node), u.edge.output_nr)] for u in uses]


def contract(
    left: Factors,
    right: Factors,
    parameters: Mapping[str, Tensor],
    weights: Mapping[str, Tensor | float],
    grams: Grams | None = None,
) -> Tensor:
    """The kernel block (C·n₁, C·n₂), output-major, of two sets of rows; ``grams`` are products that are known."""
    n1, C = left.outputs.shape
    n2 = len(right.outputs)
    K = left.outputs.new_zeros((C * n1, C * n2))
    grams = Grams() if grams is None else grams
    for name, factors in left.by_parameter.items():
        others = right.by_parameter.get(name)
        if others:
            add_part(K, factors, others, tuple(parameters[name].shape), weights[name], grams)
    for name, gradients in left.formed.items():
        P = gradients.reshape(C * n1, -1)
        Q = P if right is left else right.formed[name].reshape(C * n2, -1)
        weight = weights[name]
        P = P * (weight.reshape(1, -1) if isinstance(weight, Tensor) else weight)
        K.addmm_(P, Q.T)
    return K

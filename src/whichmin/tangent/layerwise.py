"""The tangent kernel from per-layer inputs and output gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whichmin.tangent.capture import Capture, Use
from whichmin.tangent.contract import Factor, add_part
from whichmin.tangent.jacobian import per_example_gradients
from whichmin.tangent.module import evaluate


@dataclass(frozen=True, eq=False)
class Factors:
    """What the kernel of some rows is made of.

    Attributes:
        outputs: f, (n, C), with its autograd graph.
        by_parameter: the uses of each parameter that was recognized.
        formed: per-example gradients (C, n, *shape) of the parameters that were not.
        looked_up: whether integers were looked up (see ``Capture``).
    """

    outputs: Tensor
    by_parameter: dict[str, list[Factor]]
    formed: dict[str, Tensor]
    looked_up: bool = False

    def bytes_per_row(self) -> int:
        """What one row takes: inputs and gradients at every use."""
        n, total = len(self.outputs), 0
        for factors in self.by_parameter.values():
            for f in factors:
                x = f.use.input
                total += (0 if x is None else x.numel() * x.element_size()) + f.gradient.numel() * 4
        total += sum(g.numel() * g.element_size() for g in self.formed.values())
        return 2 * total // n + 1  # as much again for what autograd keeps


def factorize(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], X: Tensor, form: Collection[str] = ()
) -> Factors:
    """Run the model once on X and take the gradients at every use of a parameter: C backward passes.

    Parameters that were used in a way that is not recognized, and those named in ``form``, get per-example gradients.
    """
    with torch.enable_grad(), Capture(parameters, X) as capture:
        outputs = evaluate(model, X)
    if capture.overwritten:
        with torch.enable_grad(), Capture(parameters, X, copy_views=True) as capture:
            outputs = evaluate(model, X)
    opaque = capture.opaque | set(form) | {u.parameter for u in capture.uses if not u.intact}
    uses = [u for u in capture.uses if u.parameter not in opaque]
    by_parameter: dict[str, list[Factor]] = {}
    for use, gradient in zip(uses, _output_gradients(outputs, uses), strict=True):
        if gradient is not None:
            by_parameter.setdefault(use.parameter, []).append(Factor(use, gradient))
    formed = {}
    if opaque:
        formed = per_example_gradients(model, {n: p for n, p in parameters.items() if n in opaque}, X)
    return Factors(outputs, by_parameter, formed, capture.looked_up)


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
    left: Factors, right: Factors, parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor | float]
) -> Tensor:
    """The kernel block (C·n₁, C·n₂), output-major, of two sets of rows."""
    n1, C = left.outputs.shape
    n2 = len(right.outputs)
    K = left.outputs.new_zeros((C * n1, C * n2))
    for name, factors in left.by_parameter.items():
        others = right.by_parameter.get(name)
        if others:
            add_part(K, factors, others, tuple(parameters[name].shape), weights[name])
    for name, gradients in left.formed.items():
        P = gradients.reshape(C * n1, -1)
        Q = P if right is left else right.formed[name].reshape(C * n2, -1)
        weight = weights[name]
        P = P * (weight.reshape(1, -1) if isinstance(weight, Tensor) else weight)
        K.addmm_(P, Q.T)
    return K

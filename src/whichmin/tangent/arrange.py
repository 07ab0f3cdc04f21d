"""The gradients at every use of a parameter, with their rows first wherever the network has them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whichmin.tangent.captured import Captured, give_up
from whichmin.tangent.layers.base import Factor, Use
from whichmin.tangent.layers.bias import Bias, aligned_to
from whichmin.tangent.layers.gain import Gain
from whichmin.tangent.rows import (
    EXACT,
    Arrangement,
    Layout,
    arrangement,
    exact_layout,
    exact_marks,
    marks,
    possible_layouts,
    rows_of,
)


@dataclass(frozen=True, eq=False)
class Arranged:
    """The uses of parameters with their rows first.

    Attributes:
        captured: the forward pass; parameters whose rows could not be told are opaque.
        by_parameter: the uses of each parameter, and of tensors derived from parameters.
        by_rows: signatures of the uses whose rows stand in a layout that has a name.
        is_regular: whether all that matter do: else rows may stand elsewhere on other inputs, as tokens of experts do.
    """

    captured: Captured
    by_parameter: dict[str, list[Factor]]
    by_rows: frozenset[tuple[object, ...]]
    is_regular: bool

    @property
    def reordered(self) -> frozenset[str]:
        """Parameters of which a use does not have the rows, one by one, along its first axis."""
        by_rows = {s[1] for s in self.by_rows if s[4] == "first" and s[5] == ()}
        return frozenset(self.by_parameter) - by_rows


def arrange(
    captured: Captured, parameters: Mapping[str, Tensor], known: frozenset[tuple[object, ...]] = frozenset()
) -> Arranged:
    """Take the gradients at every use of a parameter and bring their rows first.

    Args:
        captured: a forward pass.
        parameters: the trainable parameters.
        known: signatures of uses whose rows are known to stand where the signature says.
    """
    gradients = _output_gradients(captured.outputs, captured.uses)
    factors, by_rows = _arranged(captured, parameters, gradients, known)
    lost = {u.parameter for u, f in zip(captured.uses, factors, strict=True) if f is False}
    kept = give_up(captured, lost)
    by_parameter: dict[str, list[Factor]] = {}
    left = set(kept.uses)
    for use, factor in zip(captured.uses, factors, strict=True):
        if isinstance(factor, Factor) and use in left:
            by_parameter.setdefault(use.parameter, []).append(factor)
    is_regular = len(by_rows) == sum(isinstance(f, Factor) for f in factors)
    return Arranged(kept, by_parameter, by_rows, is_regular)


def _arranged(
    captured: Captured,
    parameters: Mapping[str, Tensor],
    gradients: Sequence[Tensor | None],
    known: frozenset[tuple[object, ...]],
) -> tuple[list[Factor | bool], frozenset[tuple[object, ...]]]:
    """A factor for every use, rows first; True where the output does not matter, False where rows cannot be told."""
    outputs, uses = captured.outputs, captured.uses
    n = len(outputs)
    factors: list[Factor | bool] = [True] * len(uses)
    by_rows, unknown = set(), []
    for k, (use, g) in enumerate(zip(uses, gradients, strict=True)):
        if g is None:
            continue
        axes = use.layer.positions(use.shape, _shape(use, captured, parameters))
        layouts = possible_layouts(use.shape, axes, n)
        layout: Layout | None = next((w for w in layouts if _signature(k, use, axes, w, n) in known), None)
        if layout is None or (layout == "first" and not _goes_by_rows(use, n)):
            unknown.append(k)
            continue
        by_rows.add(_signature(k, use, axes, layout, n))
        factors[k] = _by_layout(use, g, axes, layout, n)
    if unknown and n <= EXACT:
        unknown = _by_exact_marks(unknown, captured, parameters, gradients, factors, by_rows)
    if not unknown:
        return factors, frozenset(by_rows)
    weights = torch.linspace(1.0, 1.5, outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    marked = _marked(captured, unknown, marks(n, outputs)[:, None] * weights)
    for k, h in zip(unknown, marked, strict=True):
        use, g = uses[k], gradients[k]
        assert g is not None
        plain = torch.tensordot(weights.to(g), g, 1)
        shape = _shape(use, captured, parameters)
        factors[k], layout = _arrange(use, g, plain, torch.zeros_like(plain) if h is None else h, shape, n)
        if layout is not None:
            by_rows.add(_signature(k, use, use.layer.positions(use.shape, shape), layout, n))
    return factors, frozenset(by_rows)


def _signature(k: int, use: Use, axes: int, layout: Layout, n: int) -> tuple[object, ...]:
    """What a use of a layout is known by when the model runs on another number of rows than n."""
    inner = use.shape[1:axes] if layout == "first" else math.prod(use.shape[:axes]) // n
    return (k, use.parameter, type(use.layer), use.shape[axes:], layout, inner)


def _marked(captured: Captured, which: Sequence[int], seed: Tensor) -> tuple[Tensor | None, ...]:
    """At some uses the gradient of a weighted sum of the outputs."""
    edges = [captured.uses[k].edge for k in which]
    return torch.autograd.grad(captured.outputs, edges, seed, retain_graph=True, allow_unused=True)


def _by_exact_marks(
    which: Sequence[int],
    captured: Captured,
    parameters: Mapping[str, Tensor],
    gradients: Sequence[Tensor | None],
    factors: list[Factor | bool],
    by_rows: set[tuple[object, ...]],
) -> list[int]:
    """Enter the factors of uses whose rows stand in a layout; those of which it cannot be told so are returned."""
    n, left = len(captured.outputs), []
    seed = exact_marks(captured.outputs)
    layouts: dict[tuple[int, int, int], Layout | None] = {}  # a weight and its bias have one output
    for k, h in zip(which, _marked(captured, which, seed), strict=True):
        use, g = captured.uses[k], gradients[k]
        assert g is not None
        axes = use.layer.positions(use.shape, _shape(use, captured, parameters))
        key = (id(use.edge.node), use.edge.output_nr, axes)
        if key not in layouts:
            layouts[key] = None if h is None else exact_layout(g, h, axes, seed)
        layout = layouts[key]
        if layout is None or (layout == "first" and not _goes_by_rows(use, n)):
            left.append(k)
            continue
        by_rows.add(_signature(k, use, axes, layout, n))
        factors[k] = _by_layout(use, g, axes, layout, n)
    return left


def _by_layout(use: Use, g: Tensor, axes: int, layout: Layout, n: int) -> Factor | bool:
    """The factor of a use whose rows stand in a layout; False where the layer cannot have them so."""
    if layout == "first":
        return Factor(use, g)
    return _permuted(use, g, axes, arrangement(layout, math.prod(use.shape[:axes]), n))


def _shape(use: Use, captured: Captured, parameters: Mapping[str, Tensor]) -> tuple[int, ...]:
    """That of the parameter, or of the derived tensor, of a use."""
    derived = captured.derived.get(use.parameter)
    return tuple((parameters[use.parameter] if derived is None else derived.tensor).shape)


def _goes_by_rows(use: Use, n: int) -> bool:
    return use.input is None or (use.input.ndim > 0 and len(use.input) == n)


def _arrange(
    use: Use, g: Tensor, plain: Tensor, marked: Tensor, shape: tuple[int, ...], n: int
) -> tuple[Factor | bool, Layout | None]:
    """The factor of a use with its rows first, False where they cannot be told, and their layout if it has a name.

    Args:
        use: the use.
        g: the gradients of the outputs at it, (C, *use.shape).
        plain: the gradient of a sum over rows and outputs there.
        marked: that of the same sum with marked rows.
        shape: that of the parameter.
        n: the number of rows.
    """
    axes = use.layer.positions(use.shape, shape)
    rows = rows_of(plain, marked, axes, n) if axes > 0 else None
    if rows is not None:
        layout = rows.layout(use.shape, axes)
        if layout == "first" and _goes_by_rows(use, n):
            return Factor(use, g), layout
        return _permuted(use, g, axes, rows.arrangement()), None if layout == "first" else layout
    if isinstance(use.layer, Bias | Gain) and use.layer.axes == "broadcast":
        for axis, size in enumerate(aligned_to(len(use.shape), shape)):
            if size != 1 or use.shape[axis] == 1 or axis == 0:
                continue
            rows = rows_of(plain.movedim(axis, 0), marked.movedim(axis, 0), 1, n)
            if rows is not None:
                moved = tuple(d for i, d in enumerate(use.shape) if i != axis)
                x = use.input
                if x is not None:
                    layer, x = use.layer.given(x, use.shape)
                    x = x.movedim(axis, 0)
                else:
                    layer = use.layer
                assert isinstance(layer, Bias | Gain)
                there = replace(
                    use, layer=replace(layer, row_axis=axis), input=x, shape=(use.shape[axis], *moved),
                    version=0 if x is None else x._version, is_cacheable=False,
                )  # fmt: skip
                return _permuted(there, g.movedim(axis + 1, 1), 1, rows.arrangement()), None
    return False, None


def _permuted(use: Use, g: Tensor, axes: int, by_rows: Arrangement) -> Factor | bool:
    """The factor with its positions by rows."""
    layer, x = use.layer, use.input
    if by_rows.index.shape[1] > 1 and not layer.takes_positions:
        return False
    if x is not None:
        layer, x = layer.given(x, use.shape)
        x = by_rows(x, axes)
    gradient = by_rows(g, axes, before=1)
    there = replace(
        use, layer=layer, input=x, shape=tuple(gradient.shape[1:]), version=0 if x is None else x._version,
        is_cacheable=False,
    )  # fmt: skip
    return Factor(there, gradient)


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

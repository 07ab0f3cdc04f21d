"""The kernels of one tile of pairs, computed in place: what keeps memory bounded and the arithmetic in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whichmin.infinite.activations import Activation
from whichmin.infinite.layer import Layer

#: Deficit D = 1 − x·x'/(|x||x'|) below which a pair is recomputed by differences: above it the product's rounding, some
#: 1e-15, moves the angle √(2D) by less than 1e-12.
_NEAR = 1e-5
#: Input features, in numbers, that are held at a time while near pairs are recomputed (32 MB).
_CHUNK = 2**22


@dataclass(frozen=True)
class Side:
    """The rows or the columns of a kernel: unit inputs, and the signal's second moments layer by layer.

    Args:
        unit: x/‖x‖, (n, d), zero for a zero input.
        before: second moments of each layer's input, (n,) each.
        after: second moments of each hidden layer's output before its activation, (n,) each.
    """

    unit: Tensor
    before: tuple[Tensor, ...]
    after: tuple[Tensor, ...]

    def part(self, rows: slice) -> Side:
        """Some of the rows."""
        return Side(self.unit[rows], tuple(p[rows] for p in self.before), tuple(p[rows] for p in self.after))


class Buffers:
    """The memory of one tile at a time: fresh memory for each would cost as much as the arithmetic.

    Args:
        entries: of the largest tile.
        like: a tensor of the type and device wanted.
    """

    def __init__(self, entries: int, like: Tensor) -> None:
        self._flat = [like.new_empty(entries) for _ in range(5)]

    def shaped(self, n1: int, n2: int) -> list[Tensor]:
        """Five (n1, n2) tensors with anything in them."""
        return [flat[: n1 * n2].view(n1, n2) for flat in self._flat]


def kernel_tile(
    layers: Sequence[Layer],
    activations: Sequence[Activation],
    product: Tensor,
    rows: Side,
    columns: Side,
    *,
    kind: str,
    same: bool,
    buffers: Buffers,
) -> Tensor:
    """The kernel of some rows and columns, (n1, n2).

    Args:
        layers: the laws of the layers.
        activations: one fewer.
        product: 1 − u·u' for the unit inputs, (n1, n2), not yet exact for near-parallel pairs.
        rows: n1 inputs.
        columns: n2 inputs.
        kind: "ntk" or "nngp".
        same: rows and columns are the same inputs, whose deficits on the diagonal are zero.
        buffers: memory to work in, which the result shares.
    """
    deficit, out, *three = buffers.shaped(len(rows.unit), len(columns.unit))
    work = (three[0], three[1], three[2])
    deficit.copy_(product)
    _separate(deficit, rows.unit, columns.unit, same)
    out.zero_()
    tangent = out if kind == "ntk" else None
    last = len(layers) - 1
    for index, layer in enumerate(layers):
        if tangent is not None:
            _add_tangent(tangent, deficit, layer, rows, columns, index, work)
        if index == last:
            break
        if layer.bias_variance:
            _through_bias(deficit, layer, rows, columns, index, work)
        activations[index].apply_(deficit, rows.after[index], columns.after[index], tangent, work)
        if same:
            deficit.fill_diagonal_(0.0)
    if tangent is not None:
        return out
    _add_moment(out, deficit, rows.before[last], columns.before[last], layers[last].weight_variance, work)
    return out.add_(layers[last].bias_variance)


def _add_tangent(
    tangent: Tensor, deficit: Tensor, layer: Layer, rows: Side, columns: Side, index: int, work: Sequence[Tensor]
) -> None:
    """Θ ← weight_tangent · H + bias_tangent + weight_variance · Θ, in place; Θ is zero before the first layer."""
    if index:
        tangent.mul_(layer.weight_variance)
    _add_moment(tangent, deficit, rows.before[index], columns.before[index], layer.weight_tangent, work)
    if layer.bias_tangent:
        tangent.add_(layer.bias_tangent)


def _separate(deficit: Tensor, unit1: Tensor, unit2: Tensor, same: bool) -> None:
    """Recompute 1 − u·u' of near-(anti)parallel pairs in place, as ½‖u ∓ u'‖², which does not cancel."""
    if same:
        deficit.fill_diagonal_(1.0)
    low, high = deficit.aminmax()
    for sign, any_near in ((-1.0, low < _NEAR), (1.0, high > 2.0 - _NEAR)):
        if not any_near:
            continue
        pairs = (deficit < _NEAR if sign < 0 else deficit > 2.0 - _NEAR).nonzero()
        for part in pairs.split(max(1, _CHUNK // unit1.shape[1])):
            i, j = part.unbind(1)
            half = unit1[i].add_(unit2[j], alpha=sign).square_().sum(1).mul_(0.5)
            deficit[i, j] = half if sign < 0 else 2.0 - half
    if same:
        deficit.fill_diagonal_(0.0)


def _add_moment(out: Tensor, deficit: Tensor, p1: Tensor, p2: Tensor, factor: float, work: Sequence[Tensor]) -> None:
    """Add factor · √p₁√p₂ (1 − D), the second moment of two signals, to ``out``."""
    if not factor:
        return
    rho = torch.sub(deficit.new_tensor(1.0), deficit, out=work[0])
    rho.mul_((factor * p1.sqrt())[:, None])
    out.addcmul_(rho, p2.sqrt()[None, :])


def _through_bias(deficit: Tensor, layer: Layer, rows: Side, columns: Side, index: int, work: Sequence[Tensor]) -> None:
    """The deficit of σ_w·signal plus a common σ_b, in place.

    With (s, c) = (σ_w√p, σ_b)/√(σ_w²p + σ_b²) on each side, D ← s s' D + ½(s − s')² + ½(c − c')².
    """
    side = [
        (
            (layer.weight_variance * x.before[index] / x.after[index]).sqrt(),
            (layer.bias_variance / x.after[index]).sqrt(),
        )
        for x in (rows, columns)
    ]
    (s1, c1), (s2, c2) = side
    deficit.mul_(s1[:, None]).mul_(s2[None, :])
    for a, b in ((s1, s2), (c1, c2)):
        gap = torch.sub(a[:, None], b[None, :], out=work[0])
        deficit.addcmul_(gap, gap, value=0.5)

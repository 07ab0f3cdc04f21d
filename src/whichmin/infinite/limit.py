"""The infinite-width limit of a fully connected network, and its two kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from whichmin.arrays import as_tensor
from whichmin.errors import DataError, InputError
from whichmin.infinite.activations import Activation
from whichmin.infinite.layer import Layer
from whichmin.infinite.pairwise import pairwise
from whichmin.infinite.tiles import Buffers, Side, kernel_tile
from whichmin.shown import Shown

Kind = Literal["ntk", "nngp"]


@dataclass(frozen=True)
class Limit(Shown):
    """A fully connected network of infinite width: dense layers with an activation after each but the last.

    Args:
        layers: from the input to the output, one at least.
        activations: one fewer than layers.
        features: the number of input features d.
    """

    layers: tuple[Layer, ...]
    activations: tuple[Activation, ...]
    features: int

    def ntk(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The tangent kernel Θ(x1, x2) per output, (n1, n2); see :meth:`kernel`."""
        return self.kernel(x1, x2, "ntk")

    def nngp(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The covariance of the outputs at initialization, (n1, n2); see :meth:`kernel`."""
        return self.kernel(x1, x2, "nngp")

    def kernel(self, x1: Tensor, x2: Tensor | None = None, kind: Kind = "ntk") -> Tensor:
        """One of the two kernels, in float64, per output: for C outputs the kernel is ⊗ I_C.

        Costs n1·n2·(d + some twenty operations a layer), half of it for ``x2=None``, on as many threads as
        ``torch.get_num_threads()``; memory n1·n2 and a strip of 704 rows. Near-parallel inputs are taken apart by
        differences, so that such pairs are as accurate as all others.

        Args:
            x1: (n1, …), flattened to (n1, d).
            x2: (n2, …); x1 by default.
            kind: "ntk" or "nngp".

        Returns:
            (n1, n2), float64, on the inputs' device.

        Raises:
            DataError: inputs that are not finite, empty, or do not have d features.
            InputError: another kind.
        """
        if kind not in ("ntk", "nngp"):
            raise InputError(f"kind is {kind!r}; expected 'ntk' or 'nngp'.")
        rows = self._side(inputs(x1, "x1", self.features))
        columns = rows if x2 is None else self._side(inputs(x2, "x2", self.features))
        if columns.unit.device != rows.unit.device:
            raise DataError(
                f"x1 is on {rows.unit.device} and x2 on {columns.unit.device}: move them to one device, "
                "x2.to(x1.device)."
            )

        def compute(product: Tensor, part1: Side, part2: Side, same: bool, buffers: Buffers) -> Tensor:
            return kernel_tile(
                self.layers, self.activations, product, part1, part2, kind=kind, same=same, buffers=buffers
            )

        return pairwise(rows, columns, x2 is None, compute)

    def _side(self, x: Tensor) -> Side:
        norm = torch.linalg.vector_norm(x, dim=1)
        unit = x / torch.where(norm > 0, norm, 1.0)[:, None]
        h = (norm / self.features**0.5).square()
        before, after = [h], []
        for layer, activation in zip(self.layers, self.activations, strict=False):
            after.append(layer.weight_variance * before[-1] + layer.bias_variance)
            before.append(activation.moment(after[-1]))
        return Side(unit, tuple(before), tuple(after))


def inputs(x: object, name: str, features: int | None = None) -> Tensor:
    """The inputs as a finite (n, d) float64 tensor.

    Raises:
        DataError: what is no such thing, by name.
    """
    tensor = as_tensor(x, name)
    if tensor.ndim < 2 or tensor.numel() == 0:
        raise DataError(
            f"{name} has shape {tuple(tensor.shape)}; expected (n, …), one row or more, one row per example."
        )
    tensor = tensor.flatten(1).to(torch.float64)
    bad = ~torch.isfinite(tensor).all(dim=1)
    if bad.any():
        raise DataError(
            f"{name} holds NaN or infinity in {int(bad.sum())} of {len(tensor)} rows, first in row "
            f"{int(bad.nonzero()[0, 0])}: drop or impute those rows."
        )
    if features is not None and tensor.shape[1] != features:
        raise DataError(
            f"{name} has {tensor.shape[1]} features per row; expected {features}: preprocess all inputs alike."
        )
    return tensor

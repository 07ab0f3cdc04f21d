"""The tangent kernel as an operator: K v by one vector-Jacobian and one Jacobian-vector product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whichmin.errors import InputError
from whichmin.kernels.linearize import Tangent

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


class KernelOperator:
    """K(x1, x2) = J(x1) D J(x2)ᵀ without forming it.

    Attributes:
        shape: (n1, n2, C, C), that of the kernel.

    Cost of a product: about one training step on x2 and two forward passes on x1; memory as those.
    """

    def __init__(
        self, tangent: Tangent, x1: Tensor, x2: Tensor, weights: Mapping[str, Tensor | float], outputs: int
    ) -> None:
        self._tangent, self._x1, self._x2, self._weights = tangent, x1, x2, weights
        self.shape = (len(x1), len(x2), outputs, outputs)

    def matvec(self, v: Tensor) -> Tensor:
        """K v, Σ_jd K[i, j, c, d] v[j, d].

        Args:
            v: (n2, C), or (n2·C,) with the outputs of a row side by side.

        Returns:
            (n1, C), or (n1·C,) for a flat v.

        Raises:
            InputError: v of another shape.
        """
        n1, n2, C, _ = self.shape
        if tuple(v.shape) not in ((n2, C), (n2 * C,)):
            raise InputError(f"matvec got shape {tuple(v.shape)}; expected {(n2, C)} or {(n2 * C,)}.")
        moved = self._tangent.vjp(self._x2, v.reshape(n2, C))
        product = self._tangent.jvp(self._x1, {n: g * self._weights[n] for n, g in moved.items()})
        return product if v.ndim == 2 else product.reshape(n1 * C)

    def __matmul__(self, v: Tensor) -> Tensor:
        """``K @ v``, as :meth:`matvec`."""
        return self.matvec(v)

    def to_dense(self) -> Tensor:
        """(n1, n2, C, C), by n2·C products."""
        n1, n2, C, _ = self.shape
        first = self._tangent.f0(self._x2[:1])
        eye = torch.eye(n2 * C, dtype=first.dtype, device=first.device)
        columns = torch.stack([self.matvec(e) for e in eye], dim=1)
        return columns.reshape(n1, C, n2, C).permute(0, 2, 1, 3).contiguous()

    def to_scipy(self) -> LinearOperator:
        """A ``scipy.sparse.linalg.LinearOperator`` of shape (n1·C, n2·C), float64."""
        from scipy.sparse.linalg import LinearOperator

        n1, n2, C, _ = self.shape
        back = KernelOperator(self._tangent, self._x2, self._x1, self._weights, C)
        first = self._tangent.f0(self._x2[:1])

        def apply(operator: KernelOperator, v: object) -> object:
            return operator.matvec(torch.as_tensor(v).reshape(-1).to(first)).double().cpu().numpy()

        return LinearOperator(  # pyright: ignore[reportCallIssue]
            (n1 * C, n2 * C),
            matvec=lambda v: apply(self, v),  # pyright: ignore[reportCallIssue]
            rmatvec=lambda v: apply(back, v),  # pyright: ignore[reportCallIssue]
            dtype="float64",  # pyright: ignore[reportCallIssue]
        )

"""The tangent kernel as an operator: K v by one vector-Jacobian and one Jacobian-vector product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from whichmin.errors import InputError
from whichmin.inputs import AnyInputs, InputsLike, pair_of_inputs
from whichmin.kernels.layout import from_matrix
from whichmin.kernels.linearize import Tangent
from whichmin.shown import Shown
from whichmin.tangent.checks import check_modules
from whichmin.tangent.context import own_context
from whichmin.tangent.copying import without_shared_memory
from whichmin.tangent.examine import examine
from whichmin.tangent.metric import Metric, metric_weights

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator


@own_context()
def kernel_operator(
    model: nn.Module, x1: InputsLike, x2: InputsLike | None = None, *, metric: Metric | None = None
) -> KernelOperator:
    """The empirical neural tangent kernel K(x1, x2) = J(x1) D J(x2)ᵀ as an operator: it is multiplied, never formed.

    Args:
        model: any network whose rows are functions of their own inputs; it is copied.
        x1: inputs, (n1, …), as for :func:`whichmin.tangent_kernel`.
        x2: inputs, (n2, …); x1 by default.
        metric: D: a positive number or tensor for each trainable parameter, by name; None is the identity.

    Cost: forward passes on a few rows; see :class:`KernelOperator` for products.

    Raises:
        ModelError, DataError: as :func:`whichmin.tangent_kernel`.
    """
    x1, x2 = pair_of_inputs(x1, x2)
    check_modules(model)
    model = without_shared_memory(model)
    examination = examine(model, x1)
    if x2 is not None and x2 is not x1:
        examine(model, x2, outputs=examination.outputs)
    weights = metric_weights(metric, examination.parameters)
    examination.check_rows()
    return KernelOperator(Tangent(model), x1, x1 if x2 is None else x2, weights, examination.outputs)


class KernelOperator(Shown):
    """K(x1, x2) = J(x1) D J(x2)ᵀ without forming it; made by :func:`whichmin.kernel_operator`.

    Attributes:
        shape: (n1, n2, C, C), that of the kernel.

    Cost of a product: about one training step on x2 and two forward passes on x1; memory as those, or as those on so
    many rows as it was made to take at once.
    """

    def __init__(
        self,
        tangent: Tangent,
        x1: AnyInputs,
        x2: AnyInputs,
        metric: Metric | None,
        outputs: int,
        at_once: int | None = None,
    ) -> None:
        self._tangent, self._x1, self._x2, self._metric = tangent, x1, x2, metric
        self._at_once = at_once or max(len(x1), len(x2))  # rows that the network runs on
        self.shape = (len(x1), len(x2), outputs, outputs)

    def _facts(self) -> Mapping[str, Any]:
        return {"shape": self.shape, "model": type(self._tangent._model), "metric": self._metric is not None}

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
        c, b = v.reshape(n2, C), self._at_once
        direction = self._tangent.vjp(self._x2[:b], c[:b])
        for i in range(b, n2, b):
            more = self._tangent.vjp(self._x2[i : i + b], c[i : i + b])
            direction = {n: g + more[n] for n, g in direction.items()}
        if self._metric is not None:
            direction = {n: g * self._metric[n] for n, g in direction.items()}
        product = torch.cat([self._tangent.jvp(self._x1[i : i + b], direction) for i in range(0, n1, b)])
        return product if v.ndim == 2 else product.reshape(n1 * C)

    def __matmul__(self, v: Tensor) -> Tensor:
        """``K @ v``, as :meth:`matvec`."""
        return self.matvec(v)

    def to_dense(self) -> Tensor:
        """(n1, n2, C, C), by n2·C products."""
        _, n2, C, _ = self.shape
        first = self._tangent.f0(self._x2[:1])
        eye = torch.eye(n2 * C, dtype=first.dtype, device=first.device)
        return from_matrix(torch.stack([self.matvec(e) for e in eye], dim=1), C)

    def to_scipy(self) -> LinearOperator:
        """A ``scipy.sparse.linalg.LinearOperator`` of shape (n1·C, n2·C), float64."""
        from scipy.sparse.linalg import LinearOperator

        n1, n2, C, _ = self.shape
        back = KernelOperator(self._tangent, self._x2, self._x1, self._metric, C)
        first = self._tangent.f0(self._x2[:1])

        def apply(operator: KernelOperator, v: object) -> object:
            return operator.matvec(torch.as_tensor(v).reshape(-1).to(first)).double().cpu().numpy()

        return LinearOperator(  # pyright: ignore[reportCallIssue]
            (n1 * C, n2 * C),
            matvec=lambda v: apply(self, v),  # pyright: ignore[reportCallIssue]
            rmatvec=lambda v: apply(back, v),  # pyright: ignore[reportCallIssue]
            dtype="float64",  # pyright: ignore[reportCallIssue]
        )

"""The network linearized at a fixed point: f₀, products with the Jacobian, and the tangent kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.inputs import InputsLike, as_inputs
from whichmin.kernels.kernel import tangent_kernel
from whichmin.shown import Shown
from whichmin.tangent.autograd import jvp, leaves_of
from whichmin.tangent.checks import check_modules
from whichmin.tangent.context import own_context
from whichmin.tangent.copying import merge_shared, private_copy
from whichmin.tangent.metric import Metric
from whichmin.tangent.model import evaluate, finite, trainable


class Tangent(Shown):
    """f_lin(θ, x) = f(θ₀, x) + J(x)(θ − θ₀), with J = ∂f/∂θ at the model's present parameters θ₀.

    The model is copied: changing it afterwards does not move the point of linearization.

    Args:
        model: any ``nn.Module`` whose rows are functions of their own inputs; frozen parameters are left out.

    Raises:
        ModelError: see :func:`whichmin.tangent_kernel`.
    """

    def __init__(self, model: nn.Module) -> None:
        check_modules(model)
        trainable(model)
        with own_context():
            self._model = private_copy(model)
            merge_shared(self._model)
        self._parameters = {n: p.detach() for n, p in trainable(self._model).items()}

    def _facts(self) -> Mapping[str, Any]:
        return {"model": type(self._model), "parameters": self.size, "tensors": len(self._parameters)}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """θ₀ by name."""
        return {name: p.clone() for name, p in self._parameters.items()}

    @property
    def size(self) -> int:
        """The number of trainable parameters P."""
        return sum(p.numel() for p in self._parameters.values())

    @own_context()
    def f0(self, x: InputsLike) -> Tensor:
        """f(θ₀, x), (n, C). Cost: one forward pass."""
        with torch.no_grad():
            return finite(evaluate(self._model, as_inputs(x, "x")), "x")

    @own_context()
    def jvp(self, x: InputsLike, tangent: Mapping[str, Tensor]) -> Tensor:
        """J(x) v, (n, C), for v a tree like the parameters. Cost: about two forward passes.

        Raises:
            ModelError: a tree whose names or shapes do not match the parameters.
        """
        self._check_tree(tangent)
        v = {n: tangent[n].to(p) for n, p in self._parameters.items()}
        return jvp(self._model, self._parameters, as_inputs(x, "x"), v)

    @own_context()
    def vjp(self, x: InputsLike, cotangent: Tensor) -> dict[str, Tensor]:
        """J(x)ᵀ c, a tree like the parameters, for c of shape (n, C). Cost: one forward and one backward pass.

        Raises:
            ModelError: a cotangent that is not of the outputs' shape.
        """
        leaves, out = leaves_of(self._model, self._parameters, as_inputs(x, "x"))
        if cotangent.shape != out.shape:
            raise ModelError(
                f"the cotangent has shape {tuple(cotangent.shape)}; expected {tuple(out.shape)}, like f(x)."
            )
        grads = torch.autograd.grad(out, list(leaves.values()), cotangent.to(out).clone(), allow_unused=True)
        return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(leaves.items(), grads, strict=True)}

    def kernel(
        self, x1: InputsLike, x2: InputsLike | None = None, *, method: str = "auto", metric: Metric | None = None
    ) -> Tensor:
        """:func:`whichmin.tangent_kernel` at θ₀, (n1, n2, C, C)."""
        return tangent_kernel(self._model, x1, x2, method=method, metric=metric)

    def _check_tree(self, tree: Mapping[str, Tensor]) -> None:
        if set(tree) != set(self._parameters):
            raise ModelError(f"the tangent names {sorted(tree)}; expected {sorted(self._parameters)}.")
        for name, p in self._parameters.items():
            if tree[name].shape != p.shape:
                raise ModelError(f"tangent[{name!r}] has shape {tuple(tree[name].shape)}; expected {tuple(p.shape)}.")

"""A copy of a network that is moved through parameter space and linearized where it stands."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from whichmin.eigen import Spectrum, decompose
from whichmin.errors import ModelError
from whichmin.tangent.contract import Factor
from whichmin.tangent.kernel import agrees
from whichmin.tangent.layerwise import Factors, contract, factorize
from whichmin.tangent.linearize import jvp
from whichmin.tangent.memory import require
from whichmin.tangent.module import check_inputs, check_modules, check_rows, evaluate, finite, trainable
from whichmin.tangent.products import product
from whichmin.task import Task

logger = logging.getLogger(__name__)


class Network:
    """A private copy of a model together with its task.

    Attributes:
        model: the copy; moving it does not touch the caller's.
        task: the task.
        X: where errors and test outputs are looked at: the test inputs, or the training inputs without a test set.
        size: the number of trainable parameters P.

    Raises:
        ModelError: see :func:`whichmin.tangent_kernel`; or outputs that do not match the targets.
        MemoryPlanError: the kernel of the training set does not fit.
    """

    def __init__(self, model: nn.Module, task: Task) -> None:
        check_modules(model)
        trainable(model)
        self.model = copy.deepcopy(model)
        self.task = task
        self.X = task.X if task.X_test is None else task.X_test
        self._named = trainable(self.model)
        self._values = list(self._named.values())
        self._weights: dict[str, Tensor | float] = dict.fromkeys(self._named, 1.0)
        self._form: tuple[str, ...] = ()
        self.size = sum(p.numel() for p in self._values)

    def first(self) -> tuple[Factors, Tensor]:
        """The factors and the kernel matrix at the start, with all checks."""
        X, y = self.task.X, self.task.y
        rows = sorted({0, len(X) - 1})
        probe = factorize(self.model, self._named, X[rows])
        check_inputs(self.model, X, probe.looked_up)
        if probe.outputs.shape[1] != y.shape[1]:
            raise ModelError(
                f"the model has {probe.outputs.shape[1]} outputs per row and the targets have {y.shape[1]}: change the "
                "last layer or encode the targets alike."
            )
        self._plan(probe)
        factors = self.factors()
        check_rows(self.model, X, factors.outputs, rows, probe.outputs)
        K = contract(factors, factors, self._named, self._weights)
        n, C = y.shape
        sampled = K.view(C, n, C, n)[:, rows][..., rows].permute(1, 3, 0, 2)
        if not agrees(probe.outputs, self._named, self._weights, sampled):
            logger.warning("the layerwise kernel differs from plain autograd: per-example gradients for all parameters")
            self._form = tuple(self._named)
            factors = self.factors()
            K = contract(factors, factors, self._named, self._weights)
        return factors, K

    def _plan(self, probe: Factors) -> None:
        n, C = self.task.y.shape
        n_bytes = n * probe.bytes_per_row() + 5 * (n * C) ** 2 * 8 + 6 * self.size * probe.outputs.element_size()
        remedy = "Predict from fewer training points, or in a smaller floating-point type."
        require(n_bytes, probe.outputs.device, f"the kernel of {n}·{C} training outputs and its decomposition", remedy)

    def factors(self, X: Tensor | None = None) -> Factors:
        """The factors of the kernel of X (the training inputs by default) where the network stands."""
        return factorize(self.model, self._named, self.task.X if X is None else X, self._form)

    def kernel(self, left: Factors, right: Factors) -> Tensor:
        """K(left, right) as a matrix (n₁·C, n₂·C), rows ordered as ``outputs.reshape(-1)``."""
        return self.row_major(contract(left, right, self._named, self._weights))

    def row_major(self, K: Tensor) -> Tensor:
        """From the contraction's order of rows, outputs first, to that of ``outputs.reshape(-1)``."""
        C = self.task.outputs
        if C == 1:
            return K
        n1, n2 = K.shape[0] // C, K.shape[1] // C
        return K.view(C, n1, C, n2).permute(1, 0, 3, 2).reshape(K.shape)

    def spectrum(self, K: Tensor) -> Spectrum:
        """The decomposition of a row-major kernel of the training set."""
        return decompose(finite(K, "the kernel").double(), 2.0 / len(K), torch.finfo(K.dtype).eps)

    def pull_back(self, factors: Factors, c: Tensor) -> list[Tensor]:
        """Jᵀc where the factors were taken, for c (N·C,)."""
        seed = c.to(factors.outputs).view_as(factors.outputs)
        grads = torch.autograd.grad(factors.outputs, self._values, seed, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self._values, grads, strict=True)]

    def descend(self, factors: Factors, c: Tensor) -> None:
        """θ ← θ − Jᵀc, J where the factors were taken: dense layers from their factors, the others by autograd."""
        seed = c.to(factors.outputs).view_as(factors.outputs)
        dense = {n for n, fs in factors.by_parameter.items() if all(map(_is_one_token, fs))}
        rest = [n for n in self._named if n not in dense]
        if rest:
            values = [self._named[n] for n in rest]
            grads = torch.autograd.grad(factors.outputs, values, seed, retain_graph=True, allow_unused=True)
            for p, g in zip(values, grads, strict=True):
                if g is not None:
                    p.data.sub_(g)
        for name in dense:
            for factor in factors.by_parameter[name]:
                _step(self._named[name].data, factor, seed)

    def push_forward(self, X: Tensor, direction: Mapping[str, Tensor]) -> Tensor:
        """J(X) v where the network stands, (n, C)."""
        return jvp(self.model, self._named, X, direction)

    def trainable_state(self) -> dict[str, Tensor]:
        """A copy of the trainable parameters, by name."""
        return {n: p.detach().clone() for n, p in self._named.items()}

    def graph(self) -> Factors:
        """f(X) with its autograd graph and no factors: enough to pull back."""
        with torch.enable_grad():
            return Factors(evaluate(self.model, self.task.X), {}, {})

    def eigenvalue_gradient(self, factors: Factors, v: Tensor) -> list[Tensor]:
        """∇_θ ‖Jᵀv‖² where the factors were taken: that of an eigenvalue of K, for its unit eigenvector v.

        Zero where an operation of the network has no second derivative.

        Cost: a backward pass and another through it.
        """
        seed = v.to(factors.outputs).view_as(factors.outputs)
        grads = torch.autograd.grad(
            factors.outputs, self._values, seed, retain_graph=True, create_graph=True, allow_unused=True
        )
        total = torch.stack([g.square().sum() for g in grads if g is not None]).sum()
        try:
            second = torch.autograd.grad(total, self._values, retain_graph=True, allow_unused=True)
        except RuntimeError as error:  # fused attention has no second derivatives
            logger.info("the network cannot be differentiated twice: %s", error)
            return [torch.zeros_like(p) for p in self._values]
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self._values, second, strict=True)]

    def shift(self, direction: Sequence[Tensor], by: float) -> None:
        """θ ← θ + by·direction. Factors taken before no longer pull back, unless θ is put back first."""
        torch._foreach_add_([p.data for p in self._values], list(direction), alpha=by)  # pyright: ignore[reportPrivateImportUsage]

    def place(self) -> list[Tensor]:
        """A copy of θ."""
        return [p.detach().clone() for p in self._values]

    def put(self, values: Sequence[Tensor]) -> None:
        """θ ← values."""
        torch._foreach_copy_([p.data for p in self._values], list(values))  # pyright: ignore[reportPrivateImportUsage]

    def outputs(self, X: Tensor) -> Tensor:
        """f(θ, X), (n, C)."""
        with torch.no_grad():
            return evaluate(self.model, X)

    def state(self) -> dict[str, Tensor]:
        """A copy of the state dict."""
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}


def _is_one_token(factor: Factor) -> bool:
    """A dense layer or its bias, applied once to a row."""
    return factor.gradient.ndim == 3 and (factor.is_dense or factor.use.kind == "sum")


def _step(parameter: Tensor, factor: Factor, seed: Tensor) -> None:
    """Parameter ← parameter − Σ_ic seed_ic ∂f_c(x_i)/∂parameter, in place."""
    g = factor.gradient
    weighted = g[0] * seed if len(g) == 1 else torch.einsum("nc,cno->no", seed, g)
    if not factor.is_dense:
        parameter.sub_(weighted.sum(0).view_as(parameter))
    elif factor.flipped:
        parameter.sub_(product(_input(factor).T, weighted.T))
    else:
        parameter.sub_(product(weighted.T, _input(factor).T))


def _input(factor: Factor) -> Tensor:
    x = factor.use.input
    assert x is not None
    return x

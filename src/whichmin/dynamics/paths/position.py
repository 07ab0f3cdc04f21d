"""A copy of a network that is moved through parameter space and linearized where it stands."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.kernels.kernel import agrees
from whichmin.kernels.linearize import jvp
from whichmin.kernels.spectrum import Spectrum, decompose
from whichmin.tangent.cached_layer import Held, Seen
from whichmin.tangent.capture import Capture
from whichmin.tangent.contract import Factor, Grams
from whichmin.tangent.examine import check_inputs, check_modules, check_rows, evaluate, finite, trainable
from whichmin.tangent.factors import Factors, Probe, contract, factorize, probe
from whichmin.tangent.memory import require
from whichmin.tangent.products import product
from whichmin.task import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Move:
    """A direction in parameter space.

    Attributes:
        tensors: by parameter, of its shape.
        steps: of layers that are held, (n, out): the weight's direction is stepᵀ A, A the layer's training inputs.
    """

    tensors: dict[str, Tensor]
    steps: dict[str, Tensor] = field(default_factory=dict)

    def minus(self, other: Move) -> Move:
        """The difference of two directions of one form."""
        return Move(
            {n: t - other.tensors[n] for n, t in self.tensors.items()},
            {n: t - other.steps[n] for n, t in self.steps.items()},
        )

    def square(self) -> float:
        """‖·‖² of a direction that holds no steps."""
        return sum(float(t.double().square().sum()) for t in self.tensors.values())

    @staticmethod
    def combined(parts: Sequence[tuple[float, Move]]) -> Move:
        """The sum of directions of one form, each times a number."""
        (w, move), *others = parts
        tensors, steps = ({n: t * w for n, t in d.items()} for d in (move.tensors, move.steps))
        for w, other in others:
            if w:
                for total, d in ((tensors, other.tensors), (steps, other.steps)):
                    for name, t in d.items():
                        total[name].add_(t, alpha=w)
        return Move(tensors, steps)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a network stood."""

    values: dict[str, Tensor]
    memories: dict[str, tuple[Tensor | None, ...]]


class Network:
    """A private copy of a model together with its task.

    Attributes:
        model: the copy; moving it does not touch the caller's. Its parameters may lag behind those of layers that are
            held (see ``whichmin.tangent.cached_layer``) until :meth:`state` or :meth:`settle` is called.
        task: the task.
        X: where errors and test outputs are looked at: the test inputs, or the training inputs without a test set.
        named: the copy's trainable parameters.
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
        self._original = model
        self.named = trainable(self.model)
        self._metric: dict[str, Tensor] | None = None
        self._form: tuple[str, ...] = ()
        self._held: dict[str, Held] = {}
        self.size = sum(p.numel() for p in self.named.values())

    def first(self) -> tuple[Factors, Tensor]:
        """The factors and the kernel matrix at the start, with all checks."""
        X, y = self.task.X, self.task.y
        rows = sorted({0, len(X) - 1})
        looked = probe(self.model, self.named, X[rows])
        check_inputs(self.model, X, looked.looked_up)
        if looked.outputs.shape[1] != y.shape[1]:
            raise ModelError(
                f"the model has {looked.outputs.shape[1]} outputs per row and the targets have {y.shape[1]}: change "
                "the last layer or encode the targets alike."
            )
        self._plan(looked)
        self._held = {name: Held() for name in looked.can_be_held()}
        factors = self.factors()
        check_rows(self.model, X, factors.outputs, rows, looked.outputs)
        K = self._contract(factors, factors)
        n, C = y.shape
        sampled = K.view(C, n, C, n)[:, rows][..., rows].permute(1, 3, 0, 2)
        if not agrees(self._original, looked, self.named, dict.fromkeys(self.named, 1.0), sampled):
            logger.warning("the layerwise kernel differs from plain autograd: per-example gradients for all parameters")
            self._form, self._held = tuple(self.named), {}
            factors = self.factors()
            K = self._contract(factors, factors)
        return factors, K

    def _plan(self, looked: Probe) -> None:
        n, C = self.task.y.shape
        row, item = looked.bytes_per_row(self.named), looked.outputs.element_size()
        n_bytes = n * row + 5 * (n * C) ** 2 * 8 + 6 * self.size * item
        remedy = "Predict from fewer training points, or in a smaller floating-point type."
        require(n_bytes, looked.outputs.device, f"the kernel of {n}·{C} training outputs and its decomposition", remedy)

    def factors(self, X: Tensor | None = None) -> Factors:
        """The factors of the kernel of X (the training inputs by default) where the network stands."""
        X = self.task.X if X is None else X
        seen = self._seen(X)
        found = factorize(self.model, self.named, X, self._form, seen)
        return self.factors(X) if self._refused(seen) else found

    def outputs(self, X: Tensor) -> Tensor:
        """f(θ, X), (n, C)."""
        seen = self._seen(X)
        with torch.no_grad(), Capture(self.named, X, held=seen):
            found = evaluate(self.model, X)
        return self.outputs(X) if self._refused(seen) else found

    def _refused(self, seen: Mapping[str, Seen]) -> bool:
        """Whether a held layer met other inputs than before (they change behind autograd's back): it is let go then."""
        gone = [name for name, one in seen.items() if one.refused]
        for name in gone:
            self._held.pop(name).settle(self.named[name].data)
        return bool(gone)

    def _seen(self, X: Tensor) -> dict[str, Seen]:
        """What held layers return on X; nothing is remembered of inputs that are not the task's."""
        if X is not self.task.X and X is not self.X:
            self.settle()
            return {}
        seen = {n: layer.train if X is self.task.X else layer.test for n, layer in self._held.items()}
        for name, one in seen.items():
            if one.output is None:
                self._held[name].settle(self.named[name].data)
        return seen

    def kernel(self, left: Factors, right: Factors) -> Tensor:
        """K(left, right) as a matrix (n₁·C, n₂·C), rows ordered as ``outputs.reshape(-1)``."""
        return self.row_major(self._contract(left, right))

    def _contract(self, left: Factors, right: Factors) -> Tensor:
        grams = Grams()
        for layer in self._held.values():
            for seen in (layer.train, layer.test):
                if seen.input is not None:
                    grams.know(seen.input, layer.inputs, layer.gram(seen))
        weights: dict[str, Tensor | float] = dict.fromkeys(self.named, 1.0)
        return contract(left, right, self.named, weights if self._metric is None else dict(self._metric), grams)

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

    def pull_back(self, factors: Factors, c: Tensor) -> Move:
        """Jᵀc for c (N·C,), J where the factors were taken: dense layers from their factors, the others by autograd.

        The network must stand where the factors were taken.
        """
        seed = c.to(factors.outputs).view_as(factors.outputs)
        dense = {n for n, fs in factors.by_parameter.items() if all(map(_is_one_token, fs))}
        rest = [n for n in self.named if n not in dense]
        found: dict[str, Tensor] = {}
        if rest:
            values = [self.named[n] for n in rest]
            grads = torch.autograd.grad(factors.outputs, values, seed, retain_graph=True, allow_unused=True)
            found = {n: torch.zeros_like(p) if g is None else g for n, p, g in zip(rest, values, grads, strict=True)}
        steps = {}
        for name in dense:
            fs = factors.by_parameter[name]
            if name in self._held:
                steps[name] = _weighted(fs[0], seed)
            else:
                parts = [_pulled(self.named[name], f, seed) for f in fs]
                found[name] = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        if self._metric is not None:
            found = {name: g * self._metric[name] for name, g in found.items()}
        return Move(found, steps)

    def push_forward(
        self, factors: Factors, X: Tensor, direction: Mapping[str, Tensor], without: Collection[str] = ()
    ) -> Tensor:
        """J(X) v where the network stands and the factors of X were taken, (n, C); v is zero on ``without``."""
        dense = {n for n, fs in factors.by_parameter.items() if all(map(_is_one_token, fs))} - set(without)
        rest = [n for n in self.named if n not in dense and n not in without]
        total = torch.zeros_like(factors.outputs.detach())
        if rest:
            self.settle()
            only = {n: v if n in rest else torch.zeros_like(v) for n, v in direction.items()}
            total += jvp(self.model, self.named, X, only)
        for name in dense:
            for factor in factors.by_parameter[name]:
                total += _pushed(factor, direction[name])
        return total

    def push(self, factors: Factors, move: Move) -> Tensor:
        """J(X) v for a direction v, X the training inputs whose factors these are, (n, C)."""
        total = torch.zeros_like(factors.outputs.detach())
        for name, step in move.steps.items():
            layer, (factor,) = self._held[name], factors.by_parameter[name]
            total += (factor.gradient * (layer.gram(layer.train) @ step)).sum(-1).T
        if move.tensors:
            zero = {n: torch.zeros(()).to(p).expand_as(p) for n, p in self.named.items() if n not in move.tensors}
            total += self.push_forward(factors, self.task.X, move.tensors | zero, without=move.steps)
        return total

    def dot(self, left: Move, right: Move) -> float:
        """The inner product of two directions of one form."""
        total = sum(float((t * right.tensors[n]).sum(dtype=torch.float64)) for n, t in left.tensors.items())
        for name, step in left.steps.items():
            layer = self._held[name]
            total += float((layer.gram(layer.train) @ step * right.steps[name]).sum(dtype=torch.float64))
        return total

    def decay(self, by: float) -> None:
        """θ ← by·θ."""
        for name, p in self.named.items():
            if name in self._held:
                self._held[name].settle(p.data)
                self._held[name].forget()
            p.data.mul_(by)

    def measure(self, metric: Mapping[str, Tensor]) -> None:
        """Move by D Jᵀ in place of Jᵀ from now on: ``pull_back`` gives D Jᵀc, ``kernel`` J D Jᵀ."""
        self.let_go()
        self._metric = dict(metric)

    def kernel_in(self, left: Factors, right: Factors, metric: Mapping[str, Tensor] | None) -> Tensor:
        """J D Jᵀ in another metric, the identity for None, as :meth:`kernel`. Costs n₁·n₂·P multiplications for a D."""
        weights: dict[str, Tensor | float] = dict.fromkeys(self.named, 1.0) if metric is None else dict(metric)
        return self.row_major(contract(left, right, self.named, weights))

    def let_go(self) -> None:
        """Follow no layer's outputs in place of its weight any more: for rules that move it in another way."""
        self.settle()
        self._held = {}

    def values(self) -> dict[str, Tensor]:
        """A copy of the trainable parameters, by name."""
        self.settle()
        return {n: p.detach().clone() for n, p in self.named.items()}

    def eigenvalue_gradient(self, v: Tensor) -> Move:
        """∇_θ ‖J(X)ᵀv‖² where the network stands: that of an eigenvalue of K, for its unit eigenvector v.

        Zero where an operation of the network has no second derivative.

        Cost: a forward pass, a backward pass and another through it.
        """
        self.settle()
        values = list(self.named.values())
        with torch.enable_grad():
            outputs = evaluate(self.model, self.task.X)
        seed = v.to(outputs).view_as(outputs)
        grads = torch.autograd.grad(outputs, values, seed, retain_graph=True, create_graph=True, allow_unused=True)
        total = torch.stack([g.square().sum() for g in grads if g is not None]).sum()
        try:
            second = torch.autograd.grad(total, values, allow_unused=True)
        except RuntimeError as error:  # fused attention has no second derivatives
            logger.info("the network cannot be differentiated twice: %s", error)
            second = [None] * len(values)
        return Move(
            {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(self.named.items(), second, strict=True)}
        )

    def shift(self, move: Move, by: float) -> None:
        """θ ← θ + by·move. Factors taken before no longer pull back, unless θ is put back first."""
        for name, step in move.steps.items():
            self._held[name].move(step, by)
        for name, tensor in move.tensors.items():
            value = self.named[name].data
            if name in self._held:
                self._held[name].settle(value)
                self._held[name].forget()
            value.add_(tensor, alpha=by)

    def settle(self) -> None:
        """Bring the parameters that lag behind to where they should stand."""
        for name, layer in self._held.items():
            layer.settle(self.named[name].data)

    def place(self) -> Place:
        """A copy of θ."""
        values = {n: p.detach().clone() for n, p in self.named.items()}
        return Place(values, {n: layer.memory() for n, layer in self._held.items()})

    def put(self, place: Place) -> None:
        """θ ← a place where it was."""
        for name, value in place.values.items():
            self.named[name].data.copy_(value)
        for name, layer in self._held.items():
            layer.recall(place.memories[name])

    def distance(self, state: Mapping[str, Tensor], place: Place) -> dict[str, Tensor]:
        """The trainable parameters of a state dict minus those of a place where nothing was pending."""
        return {n: state[n].to(p) - p for n, p in place.values.items()}

    def state(self) -> dict[str, Tensor]:
        """A copy of the state dict."""
        self.settle()
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}


def _is_one_token(factor: Factor) -> bool:
    """A dense layer or its bias, applied once to a row."""
    return factor.gradient.ndim == 3 and (factor.is_dense or factor.is_plain_bias)


def _weighted(factor: Factor, seed: Tensor) -> Tensor:
    """Σ_c seed_ic ∂f_c(x_i)/∂(output of the call), (n, out)."""
    g = factor.gradient
    return g[0] * seed if len(g) == 1 else torch.einsum("nc,cno->no", seed, g)


def _pulled(parameter: Tensor, factor: Factor, seed: Tensor) -> Tensor:
    """Σ_ic seed_ic ∂f_c(x_i)/∂parameter."""
    weighted = _weighted(factor, seed)
    if not factor.is_dense:
        return weighted.sum(0).view_as(parameter)
    if factor.flipped:
        return product(_input(factor).T, weighted.T)
    return product(weighted.T, _input(factor).T)


def _pushed(factor: Factor, v: Tensor) -> Tensor:
    """Σ ∂f_c(x_i)/∂parameter · v, (n, C)."""
    if not factor.is_dense:
        moved = v.reshape(1, -1).expand(factor.gradient.shape[1], -1)
    else:
        moved = product(_input(factor), v.T if factor.flipped else v)
    return (factor.gradient * moved).sum(-1).T


def _input(factor: Factor) -> Tensor:
    x = factor.use.input
    assert x is not None
    return x

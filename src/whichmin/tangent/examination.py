"""What a few rows of the inputs tell of a model, and whether a kernel is what plain autograd says there."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.inputs import AnyInputs, tensors_of
from whichmin.tangent.arrange import Arranged, arrange
from whichmin.tangent.captured import Captured
from whichmin.tangent.copying import private_copy
from whichmin.tangent.factors import factorize
from whichmin.tangent.metric import Metric
from whichmin.tangent.model import GRADIENT_ROUNDING, are_alike, evaluate
from whichmin.tangent.route import Route

#: How many rows of the inputs a model is tried on.
SAMPLED = 3
#: Differences of outputs up to so many times what rounding brings are rounding's.
SLACK = 50


@dataclass(frozen=True, eq=False)
class Examination:
    """What a few rows of the inputs tell of a model.

    Attributes:
        model: the network.
        X: the inputs, (n, …).
        parameters: its trainable parameters.
        rows: which rows, in no order.
        sample: the model's run on them, or on all.
        is_whole: whether it is that on all.
    """

    model: nn.Module
    X: AnyInputs
    parameters: dict[str, nn.Parameter]
    rows: list[int]
    sample: Captured
    is_whole: bool = False

    @property
    def outputs(self) -> int:
        """C, the number of outputs of a row."""
        return self.sample.outputs.shape[1]

    @cached_property
    def arranged(self) -> Arranged:
        """The uses of parameters in the sample with the rows of each; on some rows for a sum of the outputs."""
        if self.is_whole:
            return arrange(self.sample, self.parameters)
        outputs = self.sample.outputs
        weights = torch.linspace(1.0, 1.5, outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
        with torch.enable_grad():
            total = (outputs * weights).sum(1, keepdim=True)
        return arrange(replace(self.sample, outputs=total), self.parameters)

    @property
    def opaque(self) -> tuple[str, ...]:
        """Parameters whose use is not recognized, in the model's order."""
        return tuple(
            n for n in self.parameters if n in self.arranged.captured.opaque | (self.sample.silent - self.route.trusted)
        )

    @cached_property
    def route(self) -> Route:
        """How J is made where nothing speaks against it."""
        silent = self.sample.silent - self.arranged.captured.opaque
        is_told = len(self.rows) > 1 and self.arranged.is_regular  # one row is first wherever it is
        by_rows = self.arranged.by_rows if is_told else frozenset()
        route = Route(by_rows=by_rows, trusted=silent)
        return replace(route, trusted=silent - self.misjudged(route, silent)) if silent else route

    @property
    def cacheable(self) -> list[str]:
        """Weights of dense layers used once by rows, on inputs that no parameter moves (see ``cached_layer``)."""
        names = [u.parameter for u in self.sample.uses]
        used = [u for u in self.sample.uses if u.is_cacheable and names.count(u.parameter) == 1]
        used = [u for u in used if u.parameter not in self.arranged.reordered]
        return [u.parameter for u in used if not self.parameters[u.parameter]._backward_hooks]

    def arranged_by(self, route: Route) -> Arranged | None:
        """What a run on all inputs by a route would give, where it was made."""
        is_same = self.is_whole and route == self.route and not self.sample.silent
        return self.arranged if is_same else None

    def bytes_per_row(self, form: Collection[str] = ()) -> int:
        """What the features of one row take: inputs and gradients at every use, gradients of parameters in ``form``."""
        n, C = self.sample.outputs.shape
        item = self.sample.outputs.element_size()
        names = {*self.sample.opaque, *self.sample.woven, *form}
        formed = C * item * sum(self.parameters[name].numel() for name in names)
        if set(form) == set(self.parameters):
            return formed
        total = n * formed
        for use in self.sample.uses:
            x = use.input
            total += (0 if x is None else x.numel() * x.element_size()) + C * math.prod(use.shape) * item
        return 2 * total // n + 1  # as much again for what autograd keeps

    def bytes_kept(self, form: Collection[str] = ()) -> int:
        """What is left of a row's features where each parameter is kept in its smaller form (see ``compress``)."""
        n, C = self.sample.outputs.shape
        item = self.sample.outputs.element_size()
        formed = {name: n * C * p.numel() * item for name, p in self.parameters.items()}
        factors: dict[str, int] = {}
        for use in self.sample.uses:
            entries = C * math.prod(use.shape) + (0 if use.input is None else use.input.numel())
            factors[use.parameter] = factors.get(use.parameter, 0) + entries * item
        always = {*self.sample.opaque, *self.sample.woven, *form}
        kept = (f if n in always else min(f, factors.get(n, 0)) for n, f in formed.items())
        return sum(kept) // n + 1

    def check_rows(self, outputs: Tensor | None = None) -> None:
        """Refuse models whose output for a row depends on the other rows, or on the call.

        Args:
            outputs: f(X) as another call gave it, (n, C); None to evaluate some rows for it.

        Raises:
            ModelError: two calls differ, or a row's output changes with the rows around it.
        """
        model, X, sampled = self.model, self.X, (self._plain if self.is_whole else self.sample.outputs).detach()
        with torch.no_grad():
            if outputs is None:
                more = [i for i in range(min(len(X), 2 * SAMPLED)) if i not in self.rows][:2]
                rows = list(range(len(self.rows)))
                out = evaluate(model, X[[*sorted(self.rows), *more]]).detach()
                out = out[rows][torch.tensor(self.rows).argsort().argsort().to(out.device)]
            else:
                out = outputs.detach()[self.rows]
            slack = SLACK * self.eps**0.75 * float(out.abs().max())

            def differ(a: Tensor, b: Tensor) -> bool:
                difference = float((a - b).abs().max())
                return not difference <= slack and not difference <= slack + SLACK * self.rounding

            suspicious = differ(out, sampled)
            if not suspicious and len(X) <= SAMPLED:
                suspicious = differ(evaluate(model, X[self.rows[:1]]), sampled[:1])
            if not suspicious:
                return
            random = differ(evaluate(model, X[self.rows]), sampled)
        if random:
            raise ModelError(
                "two calls of the model on the same inputs differ: something in it is random, or it changes when it is "
                "called. Call model.eval(), or take the randomness (functional dropout, noise) out."
            )
        raise ModelError(
            "the model's output for a row depends on the other rows of the batch, or on their order (batch statistics, "
            "attention across rows?): each row must be a function of its own input for a tangent kernel to exist."
        )

    @cached_property
    def rounding(self) -> float:
        """What rounding moves the sampled outputs by: eps·‖(Jᵀc)∘θ‖ with random c, J by all parameters, frozen too.

        That is the change of the outputs where each parameter changes by its last digit. Outputs may be far smaller
        than the numbers they are the difference of, so that their own size does not tell it.

        Cost: a copy of the model, and a forward and a backward pass on a few rows.
        """
        network = private_copy(self.model)
        parameters = [p.requires_grad_() for p in network.parameters() if p.is_floating_point()]
        with torch.enable_grad():
            outputs = evaluate(network, self.X[self.rows])
        if not outputs.requires_grad:
            return 0.0
        grads = torch.autograd.grad(outputs, parameters, self._cotangent(outputs, 0), allow_unused=True)
        moved = [float((g * p.detach()).norm()) for g, p in zip(grads, parameters, strict=True) if g is not None]
        return self.eps * math.hypot(*moved)

    @cached_property
    def eps(self) -> float:
        """The rounding of the coarsest floating-point type that the network computes in."""
        types = {p.dtype for p in self.parameters.values()} | self.sample.types | {self.sample.outputs.dtype}
        types |= {t.dtype for t in tensors_of(self.X) if t.is_floating_point()}
        return max(torch.finfo(t).eps for t in types)

    def agrees(self, K: Tensor, metric: Metric | None = None, other: Examination | None = None) -> bool:
        """Whether a kernel is what plain autograd says: cᵀK d = ⟨Jᵀc, D J(other)ᵀd⟩ with mixed outputs c and d.

        Once with weights of both signs, which tell differences between rows, and once with positive ones, which tell
        what rows have in common.

        Args:
            K: that of the sampled rows, (r₁·C, r₂·C).
            metric: D; None is the identity.
            other: of the second inputs; None where they are the same.

        Cost: two backward passes on a few rows; four for other inputs.
        """
        return all(self._agrees(K, metric, other, k) for k in range(2))

    def _agrees(self, K: Tensor, metric: Metric | None, other: Examination | None, k: int) -> bool:
        c, left = self.pulled(k)
        d, right = (c, left) if other is None else other.pulled(k)
        plain = 0.0
        for name, g in left.items():
            h = right.get(name)
            if h is not None:
                weight = 1.0 if metric is None else metric[name]
                g, weight = (g * weight, 1.0) if isinstance(weight, Tensor) else (g, weight)
                plain += weight * float(torch.dot(g.flatten(), h.flatten()))
        terms = c.reshape(-1, 1).to(K) * K * d.reshape(1, -1).to(K)
        scale = max(float(terms.abs().sum()), abs(plain), 1e-300)
        return abs(plain - float(terms.sum())) <= self.eps**0.5 * scale

    def pulled(self, k: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Some c, (r, C), and Jᵀc by parameter as plain autograd gives it on the sampled rows.

        Args:
            k: 0 for weights of both signs, 1 for positive ones.
        """
        if k not in self._pulls:
            self._pulls[k] = self._pull(k)
        return self._pulls[k]

    @cached_property
    def _pulls(self) -> dict[int, tuple[Tensor, dict[str, Tensor]]]:
        """What was pulled."""
        return {}

    def _pull(self, k: int) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = self._plain
        c = self._cotangent(outputs, k)
        if not outputs.requires_grad:
            return c, {}
        grads = torch.autograd.grad(outputs, list(self.parameters.values()), c, retain_graph=True, allow_unused=True)
        return c, {name: g for name, g in zip(self.parameters, grads, strict=True) if g is not None}

    @property
    def faint(self) -> frozenset[str]:
        """Parameters whose gradients are too small to be seen in a kernel, but more than rounding."""
        whole = math.hypot(*self._sizes.values())
        least, seen = GRADIENT_ROUNDING * self.eps * whole, self.eps**0.25 * whole
        return frozenset(name for name, size in self._sizes.items() if least < size <= seen)

    @property
    def unseen(self) -> frozenset[str]:
        """Parameters whose gradients are zero, or no more than rounding."""
        least = GRADIENT_ROUNDING * self.eps * math.hypot(*self._sizes.values())
        return frozenset(name for name, size in self._sizes.items() if size <= least)

    @cached_property
    def _sizes(self) -> dict[str, float]:
        """The norm of what was pulled to each parameter."""
        pulled = [self.pulled(k)[1] for k in range(2)]
        return {
            name: math.hypot(*(float(torch.linalg.vector_norm(of[name])) for of in pulled if name in of))
            for name in self.parameters
        }

    @staticmethod
    def _cotangent(outputs: Tensor, k: int) -> Tensor:
        generator = torch.Generator().manual_seed(k)
        c = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
        return (0.5 + c.abs() if k else c).to(outputs)

    def blame(self, names: Collection[str]) -> bool:
        """Note parameters that other rows than the sampled ones tell to be wrong by the ways tried; whether any are."""
        self._blamed.update(names)
        return bool(names)

    @cached_property
    def _blamed(self) -> set[str]:
        """What was blamed."""
        return set()

    def misjudged(self, route: Route, names: Collection[str] | None = None) -> frozenset[str]:
        """Parameters, all or some, whose gradients by ``route`` differ from plain autograd on the sampled rows.

        With those that were blamed and of which ``route`` does not form gradients.
        """
        factors = factorize(self.model, self.parameters, self.X[self.rows], route)
        wrong = self._blamed - route.form
        for k in range(2):
            c, plain = self.pulled(k)
            for name, p in self.parameters.items():
                if names is not None and name not in names:
                    continue
                g = plain.get(name, torch.zeros_like(p))
                whole = factors.per_example(name, p)
                if whole is None:
                    whole = g.new_zeros((c.shape[1], c.shape[0], *p.shape))
                if not self.is_alike(torch.einsum("nc,cn...->...", c.to(whole), whole), g):
                    wrong.add(name)
        return frozenset(wrong)

    def is_alike(self, one: Tensor, other: Tensor) -> bool:
        """Whether two gradients of a parameter are the same but for rounding (see ``model.are_alike``)."""
        return are_alike(one, other, self.eps, math.hypot(*self._sizes.values()))

    @cached_property
    def _plain(self) -> Tensor:
        """The model's outputs on the sampled rows, with the graph that autograd makes by itself."""
        with torch.enable_grad():
            return evaluate(self.model, self.X[self.rows])

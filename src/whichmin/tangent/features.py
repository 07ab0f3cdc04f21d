"""J as an object: the tangent features of some inputs where a network stands."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from whichmin.inputs import AnyInputs
from whichmin.tangent.autograd import jvp
from whichmin.tangent.cached_layer import CachedCall, CachedLayers
from whichmin.tangent.contract import contract, multiplications
from whichmin.tangent.direction import Direction
from whichmin.tangent.factors import Factors, factorize
from whichmin.tangent.layers.base import Factor
from whichmin.tangent.layers.grams import Grams
from whichmin.tangent.layers.matrix_products import FormedProducts, MatrixProducts
from whichmin.tangent.metric import Metric
from whichmin.tangent.model import are_alike, evaluate
from whichmin.tangent.route import BY_LAYERS, Route

#: Products of parameters with more uses than this are of many small parts.
FEW_USES = 2
#: J of the parameters without matrix products is formed for many products where it takes no more bytes than this.
FORMED_BYTES = 2**26


class Features:
    """J = ∂f/∂θ of inputs X, over the trainable parameters θ of a network where it stands. J is never formed.

    Parameters that every row meets once in a dense layer or its bias are multiplied by their inputs and output
    gradients; for the others products with J and Jᵀ are Jacobian-vector and vector-Jacobian products, for which the
    network must still stand where the features were taken.

    Args:
        model: the network.
        parameters: its trainable parameters.
        X: the inputs, (n, …).
        factors: what J is made of.
        cached: the network's cached layers; directions hold their steps.
        calls: the cached layers' calls with X.
        columns: for some weights of dense layers the columns that count (see ``Coordinates``).
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        X: AnyInputs,
        factors: Factors,
        cached: CachedLayers | None = None,
        calls: Mapping[str, CachedCall] | None = None,
        columns: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.parameters, self.X = parameters, X
        self._model, self._factors = model, factors
        self._cached, self._calls = cached, calls or {}
        columns = columns or {}
        self._products: dict[str, list[MatrixProducts] | list[FormedProducts]] = {}
        for name, uses in factors.by_parameter.items():
            products = [f.use.layer.products(f, columns.get(name)) for f in uses]
            if all(p is not None for p in products):
                self._products[name] = [p for p in products if p is not None]
        self._rest = [n for n in parameters if n not in self._products]
        self._absent: list[str] = []
        self._addends: dict[str, list[Tensor]] = {}

    @property
    def outputs(self) -> Tensor:
        """f(X), (n, C), with its autograd graph."""
        return self._factors.outputs

    @property
    def opaque(self) -> frozenset[str]:
        """Parameters whose use was not recognized, of which per-example gradients were formed."""
        return self._factors.opaque

    def uses(self, name: str) -> list[Factor]:
        """The recognized uses of a parameter."""
        return self._factors.by_parameter.get(name, [])

    def by_columns(self, columns: Mapping[str, Tensor]) -> Features:
        """The same J with only some columns of some weights, as ``Coordinates`` has them."""
        return Features(self._model, self.parameters, self.X, self._factors, self._cached, self._calls, columns=columns)

    def formed(self) -> Features:
        """The same J for many products: formed, within ``FORMED_BYTES``, where they are of many parts.

        These are parameters that take automatic differentiation, and those of many uses, as in recurrent layers. The
        object itself changes, and is returned.
        """
        names = [*self._rest, *(n for n, products in self._products.items() if len(products) > FEW_USES)]
        size = sum(self.parameters[n].numel() for n in names) * self.outputs.numel() * self.outputs.element_size()
        if not names or size > FORMED_BYTES:
            return self
        J = {n: self._factors.per_example(n, self.parameters[n]) for n in names}
        self._products |= {n: [FormedProducts(g.detach())] for n, g in J.items() if g is not None}
        self._absent, self._rest = [n for n, g in J.items() if g is None], []
        return self

    def pull(self, c: Tensor, rows: Tensor | None = None, metric: Metric | None = None) -> Direction:
        """D Jᵀc.

        Args:
            c: (n, C) or (n·C,); of the rows, where rows are given.
            rows: row numbers; None for all.
            metric: D; None is the identity, and gives steps of cached layers in place of tensors.
        """
        c = self._like_outputs(c, rows)
        steps = {}
        if rows is None and metric is None:
            steps = {name: p.step(c) for name in self._calls if (p := self._followed(name)) is not None}
        tensors = {
            name: torch.zeros_like(self.parameters[name]) if g is None else g
            for name, g in self._gradients(c, rows, without=steps).items()
        }
        if metric is not None:
            tensors = {name: g * metric[name] for name, g in tensors.items()}
        return Direction(tensors, steps)

    def gradients(self, c: Tensor, rows: Tensor | None = None) -> dict[str, Tensor | None]:
        """Jᵀc as ``backward`` leaves it in ``.grad``: None where no output depends on a parameter."""
        return self._gradients(self._like_outputs(c, rows), rows)

    def push(self, v: Direction | Mapping[str, Tensor], rows: Tensor | None = None) -> Tensor:
        """J v, (n, C), of the rows where rows are given; v is zero on parameters that it does not name."""
        direction = v if isinstance(v, Direction) else Direction(dict(v))
        total = self._zeros(rows)
        for name, step in direction.steps.items():
            assert self._cached is not None
            addend = self._cached[name].gram(self._calls[name]) @ step
            total += self._products[name][0].push(addend if rows is None else addend[rows], rows)
        for name, tensor in direction.tensors.items():
            for product in self._products.get(name, []):
                total += product.push(product.addend(tensor, rows), rows)
        return self._add_rest(total, {n: direction.tensors[n] for n in self._rest if n in direction.tensors}, rows)

    def extrapolate(self, values: Mapping[str, Tensor], rows: Tensor | None = None) -> Tensor:
        """Returns f + J(θ' − θ), (n, C): the linearized outputs with other parameters θ', of all names.

        The network must stand where the features were taken.
        """
        outputs = self.outputs.detach()
        total = outputs.clone() if rows is None else outputs[rows]
        for name, products in self._products.items():
            if name not in self._addends:
                self._addends[name] = [p.addend(self.parameters[name].detach()) for p in products]
            for product, start in zip(products, self._addends[name], strict=True):
                moved = product.addend(values[name].detach(), rows)
                start = start if rows is None or len(start) == 1 else start[rows]
                total += product.push(moved - start, rows)
        moves = {n: values[n].detach() - self.parameters[n].detach() for n in self._rest}
        return self._add_rest(total, moves, rows)

    def multiplications(self, n: int) -> float:
        """About how many the kernel of n rows like these takes at least."""
        return multiplications(self._factors, self.parameters, n)

    def gram(self, other: Features | None = None, metric: Metric | None = None) -> Tensor:
        """J D J(other)ᵀ, (n₁·C, n₂·C), rows ordered as ``outputs.reshape(-1)``; with itself by default.

        Cost: about n₁·n₂·C²·(the sum of the layer widths); in a metric of tensors n₁·n₂·C²·P.
        """
        grams = Grams()
        if self._cached is not None:
            self._cached.share(grams)
        right = self._factors if other is None else other._factors
        K = contract(self._factors, right, self.parameters, metric, grams)
        n1, C, n2, _ = K.shape
        return K.reshape(n1 * C, n2 * C)

    def inner(self, a: Direction, b: Direction) -> float:
        """⟨a, b⟩ of two directions of the form that :meth:`pull` returns."""
        total = sum(float((t * b.tensors[n]).sum(dtype=torch.float64)) for n, t in a.tensors.items())
        for name, step in a.steps.items():
            assert self._cached is not None
            layer = self._cached[name]
            total += float((layer.gram(layer.train) @ step * b.steps[name]).sum(dtype=torch.float64))
        return total

    def differing(self, eps: float) -> frozenset[str]:
        """Parameters whose Jᵀc, for some c of both signs on all rows, is not what plain autograd says.

        The sampled rows of an :class:`Examination` tell nothing of what other rows alone do: gates, masks, branches.
        What has neither known uses nor gradients of its own counts as unused.

        Args:
            eps: the rounding unit that the network computes in.

        Cost: a backward pass and a product with Jᵀ; a forward pass where layers are cached, which are no part of the
        graph.
        """
        values, outputs = self.parameters, self.outputs
        if self._calls:
            assert self._cached is not None
            self._cached.settle()
            with torch.enable_grad():
                outputs = evaluate(self._model, self.X)
        if not outputs.requires_grad:
            return frozenset()
        draw = torch.Generator().manual_seed(len(self.outputs))
        c = torch.randn(self.outputs.shape, generator=draw, dtype=torch.float64).to(self.outputs)
        grads = torch.autograd.grad(outputs, list(values.values()), c, retain_graph=True, allow_unused=True)
        plain = {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(values.items(), grads, strict=True)}
        size = math.hypot(*(float(g.norm()) for g in plain.values()))
        wrong = set()
        for name, g in plain.items():
            if name in self._products:
                pulled = _total([p.pull(c, None).reshape(g.shape) for p in self._products[name]], g)
            elif name in self._factors.formed:
                whole = self._factors.formed[name]
                pulled = torch.einsum("nc,cn...->...", c.to(whole), whole)
            else:
                uses = [f for f in self.uses(name) if f.gradient.numel() > 0]
                pulled = _total([f.use.layer.pull(f, tuple(g.shape), c).to(g) for f in uses], g)
            if not are_alike(pulled, g, eps, size):
                wrong.add(name)
        return frozenset(wrong)

    def _gradients(self, c: Tensor, rows: Tensor | None, without: Collection[str] = ()) -> dict[str, Tensor | None]:
        found: dict[str, Tensor | None] = dict.fromkeys(self._absent)
        for name, products in self._products.items():
            if name not in without:
                total = _total([p.pull(c, rows) for p in products], self.parameters[name])
                found[name] = total if total.ndim > 1 else total.view_as(self.parameters[name])
        if self._rest:
            whole = c
            if rows is not None:
                whole = torch.zeros_like(self.outputs)
                whole[rows] = c
            values = [self.parameters[n] for n in self._rest]
            grads = torch.autograd.grad(self.outputs, values, whole, retain_graph=True, allow_unused=True)
            found |= {n: None if g is None else g.clone() for n, g in zip(self._rest, grads, strict=True)}
        return found

    def _add_rest(self, total: Tensor, v: dict[str, Tensor], rows: Tensor | None) -> Tensor:
        """Add J v of parameters that have no matrix products."""
        if v:
            if self._cached is not None:
                self._cached.settle()
            named = {n: self.parameters[n] for n in v}
            total += jvp(self._model, named, self.X if rows is None else self.X[rows], v)
        return total

    def _followed(self, name: str) -> MatrixProducts | None:
        """The products of a cached layer, whose outputs move in place of its weight; None for other parameters."""
        products = self._products.get(name)
        if self._cached is None or name not in self._cached or not products or not self._cached[name].is_followed:
            return None
        return products[0] if isinstance(products[0], MatrixProducts) else None

    def _like_outputs(self, c: Tensor, rows: Tensor | None) -> Tensor:
        return c.to(self.outputs).reshape(-1 if rows is None else len(rows), self.outputs.shape[1])

    def _zeros(self, rows: Tensor | None) -> Tensor:
        n, C = self.outputs.shape
        return self.outputs.new_zeros((n if rows is None else len(rows), C))


def _total(parts: list[Tensor], like: Tensor) -> Tensor:
    """Their sum; zeros where there are none."""
    if not parts:
        return torch.zeros_like(like)
    total, *others = parts
    for part in others:
        total = total + part
    return total


def features_of(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    X: AnyInputs,
    *,
    route: Route = BY_LAYERS,
    cached: CachedLayers | None = None,
) -> Features:
    """The features of X where the network stands: a forward pass and C backward passes.

    Args:
        model: the network.
        parameters: its trainable parameters.
        X: the inputs.
        route: how J is made.
        cached: the network's cached layers.
    """
    calls = {} if cached is None else cached.calls(X)
    factors = factorize(model, parameters, X, route, calls)
    for name, call in calls.items():
        call.refused |= not _stands_by_rows(factors.by_parameter.get(name, []), call)
    if cached is not None and cached.drop_refused(calls):
        return features_of(model, parameters, X, route=route, cached=cached)
    return Features(model, parameters, X, factors, cached, calls)


def _stands_by_rows(uses: Sequence[Factor], call: CachedCall) -> bool:
    """Whether a cached layer meets every row once and in the rows' order: its steps are added to its outputs so."""
    if not uses:
        return True
    x, B = uses[0].input, call.input
    if len(uses) > 1 or uses[0].gradient.ndim != 3 or B is None or x.shape != B.shape:
        return False
    return x.data_ptr() == B.data_ptr() or torch.equal(x, B.to(x))

"""Any optimizer on the linearized network, step by step in weight space.

The optimizer itself is driven, on parameters θ that start at θ₀, with the gradient γ_b J(X_b)ᵀ r_b of the network
linearized where it stands, f(θ) + J (θ' − θ): nothing has to be known of the optimizer. J is never formed: a product
with it or its transpose is one matrix product for each dense layer, from its inputs and output gradients, and automatic
differentiation for the other parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.position import Network
from whichmin.errors import DivergenceError
from whichmin.kernels.linearize import jvp
from whichmin.recipe.build import take_step
from whichmin.recipe.schedule import Batches, GivenBatches
from whichmin.tangent.contract import Factor
from whichmin.tangent.factors import Factors
from whichmin.tangent.products import product

#: How often over the first training error a run counts as diverged.
DIVERGED = 1e6


class WeightSpace:
    """Training of a network that is linearized where it stands.

    Attributes:
        values: the parameters that the optimizer moves, by name.
        steps: how many steps were made.

    Args:
        network: a private copy, at the point of linearization.
        build: makes the optimizer of a list of parameters.
        schedule: makes the scheduler of the optimizer, or None.
        batches: the rows that each step uses; None for all.
        every: after how many steps the training error is looked at.
    """

    def __init__(
        self,
        network: Network,
        build: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer], Any],
        batches: Batches | GivenBatches | None,
        every: int,
    ) -> None:
        self.network, self._batches, self._every = network, batches, every
        self.values = {n: nn.Parameter(v) for n, v in network.values().items()}
        self.optimizer = build(list(self.values.values()))
        self._scheduler = schedule(self.optimizer)
        self._y = network.task.y
        self.steps = 0
        self.linearize()

    def linearize(self) -> None:
        """Linearize where the parameters are now."""
        with torch.no_grad():
            for name, p in self.network.named.items():
                p.data.copy_(self.values[name])
        self.network.let_go()
        self._base = {n: v.detach().clone() for n, v in self.values.items()}
        self.factors = self.network.factors()
        self._f = self.factors.outputs.detach()
        self._dense = {n: fs[0] for n, fs in self.factors.by_parameter.items() if _is_simple(fs)}
        self._rest = [n for n in self.values if n not in self._dense]
        self._start = {n: _called(f, self._base[n]) for n, f in self._dense.items()}

    def outputs(self, rows: Tensor | None = None) -> Tensor:
        """The linearized outputs on the training inputs, or on some rows of them, (n, C)."""
        with torch.no_grad():
            total = self._f.clone() if rows is None else self._f[rows]
            for name, factor in self._dense.items():
                moved = _called(factor, self.values[name], rows)
                start = self._start[name]
                moved = moved - (start if rows is None or start.ndim == 1 else start[rows])
                g = factor.gradient if rows is None else factor.gradient[:, rows]
                total += (g * moved).sum(-1).T
            if self._rest:
                X = self.network.task.X if rows is None else self.network.task.X[rows]
                v = {
                    n: self.values[n] - self._base[n] if n in self._rest else torch.zeros_like(b)
                    for n, b in self._base.items()
                }
                total += jvp(self.network.model, self.network.named, X, v)
        return total

    def mse(self) -> float:
        """The linearized training mean square error."""
        return float((self.outputs() - self._y).double().square().mean())

    def step(self, residual: Tensor | None = None) -> None:
        """One step; the residual on its rows may be known."""
        rows = None if self._batches is None else self._batches.rows(self.steps)
        r = residual
        if r is None:
            r = self.outputs(rows) - (self._y if rows is None else self._y[rows])
        seed = r * (2.0 / r.numel())
        for name, factor in self._dense.items():
            self.values[name].grad = _pulled_rows(self.values[name], factor, seed, rows)
        if self._rest:
            whole = seed
            if rows is not None:
                whole = torch.zeros_like(self._f)
                whole[rows] = seed
            named = [self.network.named[n] for n in self._rest]
            grads = torch.autograd.grad(self.factors.outputs, named, whole, retain_graph=True, allow_unused=True)
            for name, g in zip(self._rest, grads, strict=True):
                self.values[name].grad = None if g is None else g.clone()  # as in training, where nothing depends on it
        take_step(self.optimizer)
        if self._scheduler is not None:
            self._scheduler.step()
        self.steps += 1

    def run(
        self, steps: float, until: float | None, before_step: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, float]]:
        """Make steps up to number ``steps``, or until the training error is below ``until``.

        ``before_step`` is called before every step.

        Yields:
            (step, training mean square error) wherever the error is known: in full batches before every step.

        Raises:
            DivergenceError: the error is no longer finite, or a million times what it was.
        """
        first: float | None = None
        while True:
            last = self.steps >= steps
            r: Tensor | None = None
            if self.steps % self._every == 0 or last:
                r = self.outputs() - self._y
                now = float(r.double().square().mean())
                first = now if first is None else first
                yield self.steps, now
                if not math.isfinite(now) or now > DIVERGED * (first + 1e-30):
                    raise DivergenceError(
                        f"{type(self.optimizer).__name__} diverges on the linearized network: after {self.steps} steps "
                        f"its training MSE is {now:.3g}. Lower the learning rate.",
                        math.nan,
                    )
                if until is not None and now < until and self.steps % self._every == 0:
                    return
            if last:
                return
            if before_step is not None:
                before_step()
            self.step(r if self._batches is None else None)

    def moved(self) -> float:
        """‖θ − θ_lin‖."""
        return math.sqrt(
            sum(float((v.detach() - self._base[n]).double().square().sum()) for n, v in self.values.items())
        )

    def looked_at(self, factors: Factors, X: Tensor) -> Tensor:
        """The linearized outputs at X, whose factors were taken at the point of linearization, (n·C,), float64."""
        v = {n: value.detach() - self._base[n] for n, value in self.values.items()}
        return flat(factors.outputs) + flat(self.network.push_forward(factors, X, v))

    def state(self) -> dict[str, Tensor]:
        """The parameters, by name."""
        return {n: v.detach().clone() for n, v in self.values.items()}


def _is_simple(factors: list[Factor]) -> bool:
    """Used once, as a dense layer or its bias, on one token a row."""
    (factor, *others) = factors
    return not others and factor.gradient.ndim == 3 and (factor.is_dense or factor.is_plain_bias)


def _called(factor: Factor, value: Tensor, rows: Tensor | None = None) -> Tensor:
    """What the parameter adds to the call's output, (n, out)."""
    if not factor.is_dense:
        return value.detach().reshape(-1)
    x = factor.use.input
    assert x is not None
    value = value.detach()
    return product(x if rows is None else x[rows], value.T if factor.flipped else value)


def _pulled_rows(parameter: Tensor, factor: Factor, seed: Tensor, rows: Tensor | None) -> Tensor:
    """Σ_ic seed_ic ∂f_c(x_i)/∂parameter over some rows."""
    g, x = factor.gradient, factor.use.input
    if rows is not None:
        g, x = g[:, rows], None if x is None else x[rows]
    weighted = g[0] * seed if len(g) == 1 else torch.einsum("nc,cno->no", seed, g)
    if not factor.is_dense:
        return weighted.sum(0).view_as(parameter)
    assert x is not None
    return product(x.T, weighted.T) if factor.flipped else product(weighted.T, x.T)

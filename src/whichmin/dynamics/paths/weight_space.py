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
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.errors import DivergenceError
from whichmin.recipe.build import take_step
from whichmin.recipe.schedule import Batches, GivenBatches
from whichmin.tangent.features import Features

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
        network: MovingNetwork,
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
        self.network.release()
        with torch.no_grad():
            for name, p in self.network.parameters.items():
                p.data.copy_(self.values[name])
        self.features = self.network.features()

    def outputs(self, rows: Tensor | None = None) -> Tensor:
        """The linearized outputs on the training inputs, or on some rows of them, (n, C)."""
        with torch.no_grad():
            return self.features.extrapolate(self.values, rows)

    def mse(self) -> float:
        """The linearized training mean square error."""
        return float((self.outputs() - self._y).double().square().mean())

    def step(self, residual: Tensor | None = None) -> None:
        """One step; the residual on its rows may be known."""
        rows = None if self._batches is None else self._batches.rows(self.steps)
        r = residual
        if r is None:
            r = self.outputs(rows) - (self._y if rows is None else self._y[rows])
        for name, g in self.features.gradients(r * (2.0 / r.numel()), rows).items():
            self.values[name].grad = g
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

    def outputs_at(self, features: Features) -> Tensor:
        """The linearized outputs at inputs whose features were taken at the point of linearization, (n·C,), float64."""
        v = {n: value.detach() - self.network.parameters[n].detach() for n, value in self.values.items()}
        return flat(features.outputs) + flat(features.push(v))

    def state(self) -> dict[str, Tensor]:
        """The parameters, by name."""
        return {n: v.detach().clone() for n, v in self.values.items()}

"""Any optimizer on the linearized network, step by step in weight space.

The optimizer itself is driven, on parameters θ' that start at θ, with the gradient J(X_b)ᵀ ∂L/∂f of the network
linearized where it stands, f(θ) + J (θ' − θ): nothing has to be known of the optimizer. J is never formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.outcome import Goal
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.errors import DivergenceError
from whichmin.loop.stopping import Halt
from whichmin.recipe.build import take_step
from whichmin.recipe.recipe import Recipe
from whichmin.recipe.schedule import Batches, GivenBatches
from whichmin.tangent.features import Features

#: A training loss of more than this many times the first one counts as divergence.
DIVERGED = 1e6


class WeightSpace:
    """Training of a network that is linearized where it stands.

    Attributes:
        values: the parameters that the optimizer moves, by name.
        optimizer: the optimizer.
        steps: how many steps were made, with those before the recipe's first one.
        has_stalled: whether a run ended because its loss came no lower.

    Args:
        network: a private copy, at the point of linearization; it has released its cached layers.
        recipe: what trains, its learning rate settled.
        batches: the rows that each step uses; None for all.
    """

    def __init__(self, network: MovingNetwork, recipe: Recipe, batches: Batches | GivenBatches | None) -> None:
        self.network, self._batches = network, batches
        self.values = {n: nn.Parameter(v) for n, v in network.values().items()}
        self.optimizer = recipe.build(list(self.values.values()))
        self._scheduler = recipe.build_scheduler(self.optimizer)
        self.steps = self._first = recipe.first_step
        self._halt, self.has_stalled = Halt(self._first, network.task.objective.lowest), False
        self.linearize()

    def linearize(self) -> None:
        """Linearize where the parameters are now."""
        with torch.no_grad():
            for name, p in self.network.parameters.items():
                p.data.copy_(self.values[name])
        self._base = {n: v.detach().clone() for n, v in self.values.items()}
        self.features = self.network.features().formed()

    def outputs(self, rows: Tensor | None = None) -> Tensor:
        """The linearized outputs on the training inputs, or on some rows of them, (n, C)."""
        with torch.no_grad():
            return self.features.extrapolate(self.values, rows)

    def loss(self) -> float:
        """The linearized training loss."""
        task = self.network.task
        return task.loss.value(self.outputs(), task.y)

    def step(self, outputs: Tensor | None = None) -> None:
        """One step; the outputs on its rows may be known."""
        rows = None if self._batches is None else self._batches.rows(self.steps)
        task = self.network.task
        f = self.outputs(rows) if outputs is None else outputs
        g = task.loss.gradient(f, task.y if rows is None else task.y[rows]) if len(f) else f.detach()
        for name, gradient in self.features.gradients(g, rows).items():
            self.values[name].grad = gradient
        take_step(self.optimizer)
        if self._scheduler is not None:
            self._scheduler.step()
        self.steps += 1

    def run(
        self, steps: float, goal: Goal, before_step: Callable[[], None] | None = None, *, halts: bool = False
    ) -> Iterator[tuple[int, float]]:
        """Make steps up to number ``steps``, or until the goal's training loss is reached.

        ``before_step`` is called before every step. With ``halts`` it ends, and ``has_stalled``, where training would
        (:class:`whichmin.loop.stopping.Halt`).

        Yields:
            (step, training loss) wherever the loss is known: at the start, and in full batches before every step.

        Raises:
            DivergenceError: the loss is no longer finite, or a million times what it was.
        """
        first: float | None = None
        while True:
            last = self.steps >= steps
            outputs: Tensor | None = None
            if goal.is_evaluated(self.steps) or last or self.steps == self._first:
                outputs = self.outputs()
                now = self.network.task.loss.value(outputs, self.network.task.y)
                first = now if first is None else first
                yield self.steps, now
                excess = self.network.task.objective.excess
                if not excess(now) <= DIVERGED * (abs(excess(first)) + 1e-30):
                    raise DivergenceError(
                        f"{type(self.optimizer).__name__} diverges on the linearized network: after {self.steps} steps "
                        f"its training {self.network.task.loss.label} is {now:.3g}. Lower the learning rate.",
                        math.nan,
                    )
                if goal.is_reached(now, self.steps):
                    return
                rates = [float(group["lr"]) for group in self.optimizer.param_groups]
                if halts and self._halt.has_come(self.steps, now, rates):
                    self.has_stalled = True
                    return
            if last:
                return
            if before_step is not None:
                before_step()
            self.step(outputs if self._batches is None else None)

    def moved(self) -> dict[str, Tensor]:
        """θ' − θ, by parameter."""
        return {n: v.detach() - self._base[n] for n, v in self.values.items()}

    def outputs_at(self, features: Features) -> Tensor:
        """The linearized outputs at the inputs of features taken at the point of linearization, (n·C,), float64."""
        return flat(features.outputs) + flat(features.push(self.moved()))

    def state(self) -> dict[str, Tensor]:
        """The parameters, by name."""
        return {n: v.detach().clone() for n, v in self.values.items()}

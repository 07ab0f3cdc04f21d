"""A training that is to be predicted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whichmin.dynamics.paths.outcome import Goal
from whichmin.dynamics.paths.position import MovingNetwork, Position
from whichmin.dynamics.rules.rule import Rule
from whichmin.kernels.spectrum import Spectrum
from whichmin.losses import Objective
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.features import Features


@dataclass(frozen=True, eq=False)
class Problem:
    """A training that is to be predicted, with the network linearized at θ₀.

    Attributes:
        network: a private copy, which stands at θ₀.
        features: J(X) there.
        spectrum: of K(X, X) there.
        origin: θ₀.
        objective: the loss on the training set.
        goal: where training ends.
        recipe: what trains the network, its learning rate settled.
        optimizer: the optimizer's class name.
        learning_rate: its learning rate, with ``"best"`` resolved.
        rule: its rule; None where none is known.
        seconds: how long the linearization at θ₀ took.
    """

    network: MovingNetwork
    features: Features
    spectrum: Spectrum
    origin: Position
    objective: Objective
    goal: Goal
    recipe: Recipe
    optimizer: str
    learning_rate: float
    rule: Rule | None
    seconds: float = 0.0

    @property
    def loss_label(self) -> str:
        """The loss's name in messages."""
        return self.objective.loss.label

    def scale(self, train: Tensor) -> float:
        """What tolerances are relative to: the standard deviation of the targets.

        Where the loss is not least at one vector of outputs, as cross-entropy, that of the training outputs.

        Args:
            train: training outputs at the end, (N·C,).
        """
        least, outputs = self.objective.minimizer, self.network.task.outputs
        y = (train.double() if least is None else torch.from_numpy(least)).reshape(-1, outputs)
        std = float(y.std(dim=0, correction=0).square().mean().sqrt())
        return std or float(y.abs().max()) or 1.0

"""A training that is to be predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whichmin.dynamics.paths.origin import Origin
from whichmin.dynamics.paths.outcome import Goal
from whichmin.dynamics.paths.position import MovingNetwork, Position
from whichmin.dynamics.rules.rule import Rule
from whichmin.kernels.modes import Spectrum
from whichmin.losses import Objective
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.features import Features

if TYPE_CHECKING:
    from whichmin.dynamics.paths.predictor import Predictor


@dataclass(frozen=True, eq=False)
class Problem:
    """A training that is to be predicted.

    Attributes:
        network: a private copy.
        at_origin: θ₀, and the network linearized there when that is asked for.
        objective: the loss on the training set.
        goal: where training ends.
        recipe: what trains the network, its learning rate settled.
        optimizer: the optimizer's class name.
        learning_rate: its learning rate, with ``"best"`` resolved.
        rule: its rule; None where none is known.
        predictor_of: gives the predictor of such a problem.
    """

    network: MovingNetwork
    at_origin: Origin
    objective: Objective
    goal: Goal
    recipe: Recipe
    optimizer: str
    learning_rate: float
    rule: Rule | None
    predictor_of: Callable[[Problem], Predictor] = field(repr=False)

    @property
    def origin(self) -> Position:
        """θ₀."""
        return self.at_origin.position

    @property
    def features(self) -> Features:
        """J(X) at θ₀."""
        return self.at_origin.features

    @property
    def spectrum(self) -> Spectrum:
        """Of K(X, X) at θ₀."""
        return self.at_origin.spectrum

    @property
    def seconds(self) -> float:
        """How long the linearization at θ₀ took."""
        return self.at_origin.seconds

    def anew(self, steps: float) -> Problem:
        """The same training to so many steps, for which nothing is made or held; the network stands at θ₀."""
        self.network.put(self.origin)
        self.network.release()
        goal = replace(self.goal, times=(steps,), until=None)
        return replace(self, at_origin=Origin(self.network), goal=goal)

    @property
    def first(self) -> int:
        """How many steps were made before θ₀: not 0 where training goes on from a checkpoint."""
        return self.recipe.first_step

    @property
    def loss_label(self) -> str:
        """The loss's name in messages."""
        return self.objective.loss.label

    @property
    def known_scale(self) -> float | None:
        """What tolerances are relative to, where the loss tells it before anything is predicted.

        The standard deviation of the outputs of least loss, with the mean square error the targets; None where no one
        vector of outputs has it, as with cross-entropy.
        """
        least = self.objective.minimizer
        return None if least is None else self._std(torch.from_numpy(least))

    def scale(self, train: Tensor) -> float:
        """What tolerances are relative to: ``known_scale``, else the standard deviation of the training outputs.

        Args:
            train: predicted training outputs at the end, (N·C,).
        """
        known = self.known_scale
        return self._std(train.double()) if known is None else known

    def missed_tolerance(self, error: float, tol: float, scale: float) -> str:
        """What notes say of an error that is larger than a part ``tol`` of the scale."""
        return (
            f"the estimated error {error:.2g} did not come down to tol = {tol:g} of the {self.objective.scale_of}' "
            f"standard deviation {scale:.3g}"
        )

    def _std(self, flat: Tensor) -> float:
        """Over the rows, root mean square over the C outputs; of constant ones their size, so that it is above 0."""
        y = flat.reshape(-1, self.network.task.outputs)
        std = float(y.std(dim=0, correction=0).square().mean().sqrt())
        return std or float(y.abs().max()) or 1.0

"""Centering: f_θ − f_θ₀, which starts at zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from whichmin.inputs import Output
from whichmin.mitigation.method import NetworkMethod
from whichmin.mitigation.networks import CenteredNetwork
from whichmin.mitigation.work import Work


@dataclass(frozen=True)
class Centered(NetworkMethod):
    """The network less what it was before training: no initialization term, for a second forward pass."""

    name = "centered"
    subtracts = True
    summary = "Train the network less what it was before training."

    @property
    def copies(self) -> float:
        """Two, of which one is trained."""
        return 2.0

    @property
    def passes(self) -> float:
        """Two."""
        return 2.0

    @property
    def step_cost(self) -> float:
        """A forward pass beside one with its gradient, which takes three."""
        return 4 / 3

    def network(self, work: Work) -> nn.Module:
        """The network less itself."""
        return CenteredNetwork(work.model, work.output)

    def shell(self, model: nn.Module, state: Mapping[str, Tensor], output: Output | None) -> nn.Module:
        """The network less itself."""
        return CenteredNetwork(model, output)

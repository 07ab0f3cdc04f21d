"""Antisymmetric copies: (f_θ − f_θ')/√2, which starts at zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from whichmin.inputs import Output
from whichmin.mitigation.method import NetworkMethod
from whichmin.mitigation.networks import AntisymmetricNetwork
from whichmin.mitigation.work import Work
from whichmin.tangent.memory import require

#: Numbers that training holds for each parameter: itself, its gradient, two of the optimizer, and three copies of the
#: state before, during and after training.
HELD = 7


@dataclass(frozen=True)
class Antisymmetric(NetworkMethod):
    """Two copies of the network, trained together; without initialization term, at twice the cost of everything."""

    name = "antisymmetric"
    subtracts = True
    summary = "Train the difference of two copies over √2, which starts at zero."

    @property
    def copies(self) -> float:
        """Two."""
        return 2.0

    @property
    def passes(self) -> float:
        """Two."""
        return 2.0

    @property
    def step_cost(self) -> float:
        """Two."""
        return 2.0

    def network(self, work: Work) -> nn.Module:
        """Both copies at θ₀.

        Raises:
            MemoryPlanError: they do not fit.
        """
        parameters = list(work.model.parameters())
        held = 2 * HELD * sum(p.numel() * p.element_size() for p in parameters)
        remedy = "Take centered, which trains one copy."
        require(held, parameters[0].device, "training two antisymmetric copies of the network", remedy)
        return AntisymmetricNetwork(work.model, work.output)

    def shell(self, model: nn.Module, state: Mapping[str, Tensor], output: Output | None) -> nn.Module:
        """Two copies."""
        return AntisymmetricNetwork(model, output)

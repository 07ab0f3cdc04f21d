"""No remedy: the network as it is, which all others are compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from whichmin.mitigation.method import Method
from whichmin.mitigation.outcome import Remedy
from whichmin.mitigation.work import Work

NAME = "as_it_is"


@dataclass(frozen=True)
class AsItIs(Method):
    """Trains the network that was given."""

    name = NAME
    summary = "Train the network that was given."
    acts_on = "network"
    foreseen = "path"

    def predict(self, work: Work) -> Remedy:
        """The prediction of the network."""
        return replace(self.remedy(work), predicted=work.predicted)

    def train(self, work: Work, remedy: Remedy, *, every: bool = False) -> Remedy:
        """The network, trained."""
        return replace(remedy, trained=work.trained)

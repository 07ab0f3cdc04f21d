"""Subtraction: the initialization term is taken off the trained network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from whichmin.inputs import Output
from whichmin.mitigation.method import Method
from whichmin.mitigation.networks import SubtractedNetwork
from whichmin.mitigation.outcome import Outcome, Remedy
from whichmin.mitigation.work import Work
from whichmin.tangent.model import trainable


@dataclass(frozen=True)
class Subtract(Method):
    """f_θ(x) − [f₀(x) − K(x, X) K⁺ f₀(X)]: right up to the linearization error, for one solve after training."""

    name = "subtract"
    subtracts = True
    summary = "Train the network as it is, and take the initialization term off its outputs."
    acts_on = "outputs"
    foreseen = "closed form"

    @property
    def copies(self) -> float:
        """Three: θ, θ₀ and a direction."""
        return 3.0

    @property
    def passes(self) -> float:
        """A pass at θ, one at θ₀, and one with its derivative, which takes about two."""
        return 4.0

    def predict(self, work: Work) -> Remedy:
        """The prediction of the network as it is, less the term."""
        return replace(self.remedy(work), predicted=_less_initialization(work, work.predicted))

    def train(self, work: Work, remedy: Remedy, *, every: bool = False) -> Remedy:
        """The network trained as it is, less the term."""
        return replace(remedy, trained=_less_initialization(work, work.trained))

    def shell(self, model: nn.Module, state: Mapping[str, Tensor], output: Output | None) -> nn.Module:
        """With a direction of zeros."""
        return SubtractedNetwork(model, model, {n: p.detach() * 0 for n, p in trainable(model).items()}, output)


def _less_initialization(work: Work, outcome: Outcome) -> Outcome:
    started = time.perf_counter()
    assert outcome.network is not None
    network = work.less_initialization(outcome.network)
    X = work.task.X_test
    assert X is not None
    term = network.initialization(X).to(outcome.validation)
    validation, test = work.split.parts(term)
    assert (test is None) == (outcome.test is None)
    left = None if outcome.test is None or test is None else outcome.test - test
    seconds = outcome.seconds + time.perf_counter() - started
    return replace(outcome, validation=outcome.validation - validation, test=left, seconds=seconds, network=network)

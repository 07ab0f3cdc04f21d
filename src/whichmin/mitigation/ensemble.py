"""The mean over several initializations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from whichmin.errors import InputError
from whichmin.inputs import Output
from whichmin.mitigation.method import Method
from whichmin.mitigation.networks import EnsembleNetwork
from whichmin.mitigation.outcome import Outcome, Remedy
from whichmin.mitigation.work import Work
from whichmin.recipe.batches import generator_of
from whichmin.tangent.copying import private_copy


@dataclass(frozen=True)
class Ensemble(Method):
    """(1/k) Σ f_i over k initializations: initialization terms that are independent shrink by √k.

    Attributes:
        members: k, 2 or more; the first is the network that was given.
        draw: a function from i = 1, …, k − 1 to the others. None to shuffle, within every parameter, the entries of the
            network that was given: another draw of the same law where entries are drawn alike and independently, as
            all of torch's own layers do.
    """

    members: int = 5
    draw: Callable[[int], nn.Module] | None = None

    name = "ensemble"
    summary = "Train several initializations, and take the mean of their outputs."
    acts_on = "outputs"
    foreseen = "path"

    def __post_init__(self) -> None:
        """Refuse an ensemble of one."""
        if isinstance(self.members, bool) or not isinstance(self.members, int) or self.members < 2:
            raise InputError(f"members is {self.members!r}; expected a whole number of networks, 2 or more.")

    @property
    def copies(self) -> float:
        """One for each member."""
        return float(self.members)

    @property
    def passes(self) -> float:
        """One for each member."""
        return float(self.members)

    def predict(self, work: Work) -> Remedy:
        """The mean of the members' predictions."""
        others = (work.outcome(work.predict(network)) for network in self._others(work))
        return replace(self.remedy(work), predicted=_mean(work, [work.predicted, *others]))

    def train(self, work: Work, remedy: Remedy, *, every: bool = False) -> Remedy:
        """The mean of the trained members."""
        others = (work.train(network) for network in self._others(work))
        return replace(remedy, trained=_mean(work, [work.trained, *others]))

    def shell(self, model: nn.Module, state: Mapping[str, Tensor], output: Output | None) -> nn.Module:
        """As many members as the state has."""
        count = len({name.split(".")[1] for name in state if name.startswith("members.")})
        return EnsembleNetwork([model] * count, output)

    def _others(self, work: Work) -> Iterator[nn.Module]:
        for i in range(1, self.members):
            yield shuffled(work.model, i) if self.draw is None else self.draw(i)


def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """A copy in which the entries of every trainable parameter have changed places with each other."""
    network, generator = private_copy(model), generator_of(seed)
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                order = torch.randperm(p.numel(), generator=generator).to(p.device)
                p.copy_(p.reshape(-1)[order].reshape(p.shape))
    return network


def _mean(work: Work, members: list[Outcome]) -> Outcome:
    """The outcome of the mean; its error is at most the mean of the members' errors."""
    networks = [m.network for m in members if m.network is not None]
    network = EnsembleNetwork(networks, work.output)
    test = [m.test for m in members if m.test is not None]
    return Outcome(
        torch.stack([m.validation for m in members]).mean(0),
        torch.stack(test).mean(0) if test else None,
        sum(m.error for m in members) / len(members),
        work.task.loss.value(work.evaluate(network)[0], work.task.y),
        sum(m.steps for m in members),
        sum(m.seconds for m in members),
        members[0].way if len({m.way for m in members}) == 1 else "relinearized",
        all(m.reached for m in members),
        tuple(dict.fromkeys(note for m in members for note in m.notes)),
        network,
    )

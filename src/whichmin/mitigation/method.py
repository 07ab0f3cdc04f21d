"""The contract of a remedy: what it does to a network, what it costs, and how its outcome is foreseen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor, nn

from whichmin.errors import InputError
from whichmin.inputs import Output
from whichmin.losses import Loss
from whichmin.mitigation.outcome import Remedy
from whichmin.mitigation.work import Work
from whichmin.shown import Shown
from whichmin.tangent.copying import private_copy


class Method(Shown, ABC):
    """A remedy: a frozen dataclass of its settings, with its facts.

    Attributes:
        name: what ``methods`` and the result call it.
        summary: what it does, a sentence.
        acts_on: what it changes: the network that is trained, the task, or the outputs of a trained network.
        foreseen: how its outcome is predicted: in closed form from the network as it is, along the path of
            linearizations of its own network (:func:`whichmin.predict`), or only by training.
        subtracts: whether its outputs are differences of the network's.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    acts_on: ClassVar[Literal["network", "task", "outputs"]]
    foreseen: ClassVar[Literal["closed form", "path", "training"]]
    subtracts: ClassVar[bool] = False

    @property
    def copies(self) -> float:
        """How many times the numbers of the network its network holds."""
        return 1.0

    @property
    def passes(self) -> float:
        """How many forward passes of the network a prediction of its network costs."""
        return 1.0

    @property
    def step_cost(self) -> float:
        """How many times as long as one of the network as it is a training step takes."""
        return 1.0

    def check_loss(self, loss: Loss) -> None:
        """Refuse a loss that has no meaning for what it makes of the network's outputs.

        Raises:
            InputError: differences of logarithms of probabilities.
        """
        if self.subtracts and loss.takes_log_probabilities:
            raise InputError(
                f"{loss!r} takes logarithms of probabilities, and the outputs of {self.name} are differences of them, "
                "which are none: leave log_softmax out of the model and pass torch.nn.CrossEntropyLoss()."
            )

    @abstractmethod
    def predict(self, work: Work) -> Remedy:
        """What it brings, without training where :attr:`foreseen` says so.

        Raises:
            WhichminError: it cannot be predicted, or does not fit this network.
        """

    @abstractmethod
    def train(self, work: Work, remedy: Remedy, *, every: bool = False) -> Remedy:
        """What it brings, trained.

        Args:
            work: the problem.
            remedy: what was predicted.
            every: whether all that it chooses from is trained as well, rather than its choice alone.

        Raises:
            WhichminError: it cannot be trained.
        """

    def shell(self, model: nn.Module, state: Mapping[str, Tensor], output: Output | None) -> nn.Module:
        """A network of the form that it leaves, into which a saved state fits.

        Args:
            model: the network before training.
            state: the state dict.
            output: which output of the model is meant.
        """
        return private_copy(model)

    def remedy(self, work: Work) -> Remedy:
        """The row that it fills in."""
        count = sum(p.numel() for p in work.model.parameters())
        return Remedy(
            self.name, parameters=round((self.copies - 1) * count), passes=self.passes, step_cost=self.step_cost
        )


class NetworkMethod(Method):
    """A remedy that trains another network by the same recipe, and is predicted by predicting that one."""

    acts_on = "network"
    foreseen = "path"

    @abstractmethod
    def network(self, work: Work) -> nn.Module:
        """The network at its start.

        Raises:
            WhichminError: this network has no such form.
        """

    def predict(self, work: Work) -> Remedy:
        """The prediction of its network."""
        return replace(self.remedy(work), predicted=work.outcome(work.predict(self.network(work))))

    def train(self, work: Work, remedy: Remedy, *, every: bool = False) -> Remedy:
        """Its network, trained."""
        return replace(remedy, trained=work.train(self.network(work), predicted=remedy.predicted))

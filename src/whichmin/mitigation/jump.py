"""Jump: start training at the parameters that are predicted."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from torch import nn

from whichmin.errors import WhichminError
from whichmin.mitigation.method import Method
from whichmin.mitigation.outcome import Outcome, Remedy
from whichmin.mitigation.work import Work

#: Jumps that are made, each from where the last one landed, before training takes over.
JUMPS = 4
#: The loss has to fall by this factor for another jump.
FALL = 0.5


@dataclass(frozen=True)
class Jump(Method):
    """Loads the predicted parameters and polishes them by training: the minimizer of the network as it is, sooner."""

    name = "jump"
    summary = "Start training from the predicted parameters."
    acts_on = "network"
    foreseen = "path"

    def predict(self, work: Work) -> Remedy:
        """That of the network as it is, whose minimizer it reaches."""
        return replace(self.remedy(work), predicted=work.predicted)

    def train(self, work: Work, remedy: Remedy, *, every: bool = False) -> Remedy:
        """Jumps, and training from there; its seconds are those of predicting and of training.

        Where training is to end after a number of steps, the prediction is of its end, and nothing is left to train.
        """
        started = time.perf_counter()
        predicted, most = work.predicted, work.aim.steps
        if most is not None and predicted.steps >= most:
            polished, spent = self._untrained(work, predicted), work.prediction.seconds
        else:
            network, spent = self._landed(work)
            polished = work.train(network)
        seconds = spent + time.perf_counter() - started
        return replace(remedy, trained=replace(polished, seconds=seconds))

    @staticmethod
    def _untrained(work: Work, predicted: Outcome) -> Outcome:
        """The network at the predicted parameters."""
        assert predicted.network is not None
        train, (validation, test) = work.evaluate(predicted.network)
        loss = work.task.loss.value(train, work.task.y)
        return replace(
            predicted, validation=validation, test=test, error=0.0, train_loss=loss, steps=0.0, way="trained",
            training_seconds=math.nan,
        )  # fmt: skip

    def _landed(self, work: Work) -> tuple[nn.Module, float]:
        """The network after the jumps, and the seconds of those that were made before."""
        assert work.predicted.network is not None
        network, loss = work.predicted.network, self._loss(work, work.predicted.network)
        for _ in range(JUMPS - 1):
            if work.aim.until is None or loss < work.aim.until:
                break
            try:
                further = work.predict(network, relinearize="never").model()
            except WhichminError:
                break
            after = self._loss(work, further)
            if not after < FALL * loss:
                break
            network, loss = further, after
        return network, work.prediction.seconds

    @staticmethod
    def _loss(work: Work, network: nn.Module) -> float:
        return work.task.loss.value(work.evaluate(network)[0], work.task.y)

"""One problem on which methods are tried: how a network is predicted and trained there, and what methods share."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.dynamics.predict import predict
from whichmin.dynamics.prediction import Prediction
from whichmin.errors import SingularKernelError, WhichminError
from whichmin.inputs import Inputs, Output
from whichmin.kernels.kernel import tangent_kernel
from whichmin.kernels.linearize import Tangent
from whichmin.kernels.modes import Spectrum
from whichmin.kernels.spectrum import lazy_spectrum
from whichmin.mitigation.networks import Composed, SubtractedNetwork
from whichmin.mitigation.outcome import Outcome
from whichmin.mitigation.significance import difference_error, paired_p, row_losses
from whichmin.mitigation.validation import Split
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.model import evaluate
from whichmin.task import Task
from whichmin.training.run import Run
from whichmin.training.train import MAX_STEPS, train

#: Steps that are made to see how long one takes.
TIMED_STEPS = 4


class OutOfBudgetError(WhichminError):
    """The seconds of a search are over."""


@dataclass(frozen=True)
class Aim:
    """Where training stops, and how sure is sure.

    Attributes:
        until: the training loss to stop below; None for none.
        steps: the most steps; None for :data:`whichmin.training.train.MAX_STEPS`, and to stop where training stalls.
        tol: of predictions.
        level: of the paired tests over validation points.
    """

    until: float | None
    steps: int | None
    tol: float
    level: float

    @property
    def limit(self) -> int:
        """The most steps."""
        return MAX_STEPS if self.steps is None else self.steps


class Work:
    """A network, its data and what trains it.

    Args:
        model: the network at θ₀; it is not changed.
        split: the data.
        recipe: what trains it.
        aim: where training stops.
        budget: the seconds that all may take together; infinity for no end.
    """

    def __init__(self, model: nn.Module, split: Split, recipe: Recipe, aim: Aim, budget: float = math.inf) -> None:
        self.model, self.split, self.recipe, self.aim = model, split, recipe, aim
        self.task = split.both
        self._deadline = time.perf_counter() + budget

    @property
    def output(self) -> Output | None:
        """Which output of the model is meant."""
        return Output.of(self.task.output)

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self._deadline - time.perf_counter()

    def check_budget(self, what: str) -> None:
        """Refuse to begin something when the seconds are over.

        Raises:
            OutOfBudgetError: they are.
        """
        if self.left <= 0:
            raise OutOfBudgetError(f"the budget ran out before {what}.")

    def task_of(self, network: nn.Module) -> Task:
        """The task for a network; one that is composed of others returns the output that is meant itself."""
        if not isinstance(network, Composed) or self.task.output is None:
            return self.task

        def without(X: Any) -> Any:
            if not isinstance(X, Inputs):
                return X
            alone = isinstance(X.tensors, tuple) and len(X.tensors) == 1
            return X.tensors[0] if alone else Inputs(X.tensors)  # type: ignore[index]

        task = self.task
        return replace(task, X=without(task.X), X_test=without(task.X_test), output=None)

    def predict(
        self, network: nn.Module, recipe: Recipe | None = None, *, relinearize: Relinearize = "auto",
        tol: float | None = None,
    ) -> Prediction:  # fmt: skip
        """Where training takes a network, from where it stands.

        Args:
            network: it is not changed.
            recipe: what trains it; the work's own by default.
            relinearize: as for :func:`whichmin.predict`.
            tol: as there; the aim's by default.

        Raises:
            OutOfBudgetError: the seconds are over.
            WhichminError: as :func:`whichmin.predict`.
        """
        self.check_budget("it was predicted")
        aim = self.aim
        return predict(
            network, self.task_of(network), recipe or self.recipe, steps=aim.steps, until=aim.until, tol=tol or aim.tol,
            relinearize=relinearize, budget=None if math.isinf(self.left) else self.left, row_span=True,
        )  # fmt: skip

    def outcome(self, prediction: Prediction) -> Outcome:
        """What a prediction says."""
        assert prediction.test is not None
        assert isinstance(prediction.steps, float | int)
        validation, test = self.split.parts(prediction.test)
        loss = self.task.loss.value(prediction.train.to(self.task.y.device), self.task.y)
        steps = float(prediction.steps)
        return Outcome(
            validation, test, prediction.error, loss, steps, prediction.seconds, prediction.method,  # type: ignore[arg-type]
            reached=self._is_reached(loss, steps, prediction.method),
            notes=prediction.notes, network=prediction.model(), training_seconds=prediction.training_seconds,
        )  # fmt: skip

    def _is_reached(self, loss: float, steps: float, way: str) -> bool:
        """Whether training gets where it aims at; what is predicted to end there may be off by its error."""
        aim = self.aim
        if aim.until is None:
            return True
        return steps <= aim.limit if loss < aim.until else way != "trained" and steps < aim.limit

    def train(self, network: nn.Module, recipe: Recipe | None = None, *, predicted: Outcome | None = None) -> Outcome:
        """Train a network, from where it stands.

        Args:
            network: it is not changed.
            recipe: what trains it; the work's own by default.
            predicted: what was predicted of just this: where that was by training to the end, it is the answer.

        Raises:
            OutOfBudgetError: the seconds are over.
            KeyboardInterrupt: Ctrl-C.
            WhichminError: as :func:`whichmin.train`.
        """
        if predicted is not None and predicted.way == "trained" and math.isfinite(predicted.error):
            ended = f"at a training loss of {predicted.train_loss:.3g} after {predicted.steps:,.0f} steps."
            notes = () if predicted.reached else (f"training stopped short of its aim, {ended}",)
            return replace(predicted, error=0.0, notes=notes, seconds=predicted.training_seconds)
        self.check_budget("it was trained")
        budget = None if math.isinf(self.left) else self.left
        aim, task = self.aim, self.task_of(network)
        run = train(
            network, task, recipe or self.recipe, until=aim.until, steps=aim.steps, budget=budget, row_span=True
        )
        if run.interrupted:
            raise KeyboardInterrupt
        return self._of_run(run)

    def _of_run(self, run: Run) -> Outcome:
        assert run.test is not None
        validation, test = self.split.parts(run.test)
        reached = run.converged if self.aim.until is not None else run.steps >= self.aim.limit
        notes = () if reached else (f"training stopped short of its aim: {run.reason}",)
        return Outcome(
            validation, test, 0.0, float(run.losses[-1]), float(run.steps), run.seconds, "trained", reached, notes,
            run.model,
        )  # fmt: skip

    def evaluate(self, network: nn.Module) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
        """Outputs of a network on the training points, and on the validation and test points."""
        task = self.task_of(network)
        assert task.X_test is not None
        with torch.no_grad():
            return evaluate(network, task.X), self.split.parts(evaluate(network, task.X_test))

    def validation_loss(self, outcome: Outcome) -> float:
        """The task's loss on the validation points."""
        return self.split.validation.test_loss(outcome.validation.double())

    def falls(self, before: Outcome, after: Outcome, shift: float = 0.0) -> float:
        """The p of the paired test whether the validation loss falls from one outcome to another.

        Args:
            before: the one.
            after: the other.
            shift: added to the loss of the one.
        """
        validation = self.split.validation
        rows = row_losses(validation, before.validation)
        if shift:
            rows = rows + shift * rows.mean() / self.validation_loss(before)  # in the units of a row's loss
        return paired_p(rows, row_losses(validation, after.validation))

    def loss_error(self, before: Outcome, after: Outcome) -> float:
        """How far the difference of two predicted validation losses may be off."""
        return difference_error(self.split.validation, *((o.validation, o.error) for o in (before, after)))

    @cached_property
    def seconds_per_step(self) -> float:
        """How long a training step of the network as it is takes, on average over a few."""
        run = train(self.model, self.task, self.recipe, until=None, steps=TIMED_STEPS)
        return run.seconds / TIMED_STEPS

    @cached_property
    def prediction(self) -> Prediction:
        """Where the network goes as it is.

        Raises:
            SingularKernelError: its kernel is too large to be decomposed and cannot be inverted.
        """
        found = self.predict(self.model)
        if not found.terms:
            raise SingularKernelError(" ".join(found.notes))
        return found

    @cached_property
    def predicted(self) -> Outcome:
        """The same as an outcome."""
        return self.outcome(self.prediction)

    @cached_property
    def trained(self) -> Outcome:
        """The network trained as it is."""
        return self.train(self.model, predicted=self.predicted)

    def spectrum_of(self, network: nn.Module) -> Spectrum:
        """Of the tangent kernel K(X, X) of a network where it stands."""
        return lazy_spectrum(tangent_kernel(network, self.task_of(network).X))

    def largest_eigenvalue(self, network: nn.Module) -> float:
        """λ_max of the tangent kernel of a network where it stands."""
        return self.spectrum_of(network).largest

    @cached_property
    def interpolant(self) -> Outcome:
        """The interpolator K(x', X) K⁺ Y of the network as it is; without a minimizer Y, of the outputs predicted."""
        validation, test = self.split.parts(self.prediction.terms["interpolant"])
        return Outcome(validation, test, 0.0, math.nan, math.nan, 0.0, "linearized", True)

    @cached_property
    def initialization_direction(self) -> dict[str, Tensor]:
        """The direction v = J₀(X)ᵀ K⁺ f₀(X) by parameter: J₀(x) v is what training sees of f₀."""
        tangent, X = Tangent(self.model), self.task.X
        f0 = tangent.f0(X)
        c = self.spectrum_of(self.model).solve(f0.double().cpu().reshape(-1).numpy())
        return tangent.vjp(X, torch.from_numpy(c).reshape(f0.shape).to(f0))

    def less_initialization(self, network: nn.Module) -> SubtractedNetwork:
        """A trained network less the initialization term of the network as it is."""
        return SubtractedNetwork(network, self.model, self.initialization_direction, self.output)

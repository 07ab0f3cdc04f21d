"""The runs of a cell: where its network goes as predicted, and as trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from whichmin.decision import Decision
from whichmin.dynamics.paths.clock import untimed
from whichmin.dynamics.predict import predict
from whichmin.jobs.store import Question, Store, versions
from whichmin.mitigation.outcome import Outcome, Remedy
from whichmin.mitigation.registry import METHODS
from whichmin.mitigation.validation import split
from whichmin.mitigation.work import Aim, Work
from whichmin.recipe.recipe import Recipe
from whichmin.studies.experiment.build import build_network, build_optimizer
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.initializations import few_threads
from whichmin.studies.sweeping.data import DATA_KEYS, Fingerprints, data_of, known_task
from whichmin.studies.sweeping.grid import AS_IT_IS, Cell
from whichmin.tangent.context import own_context
from whichmin.task import Task
from whichmin.training.train import train

Kind = Literal["predicted", "trained"]
#: Of the paired tests by which a remedy chooses, as in :func:`whichmin.mitigate`.
LEVEL = 0.05
#: What trainings do not depend on, where there is no remedy.
_OF_PREDICTIONS = ("tol",)
#: What runs do not depend on beside their data: how much of a grid is asked for at a time.
_OF_STUDIES = ("seeds", "train")


@dataclass(frozen=True, eq=False)
class Measured:
    """What a run measured.

    Attributes:
        numbers: by name, plain values.
        arrays: by name: ``test``, the test outputs (n_test, C), and curves.
    """

    numbers: dict[str, Any]
    arrays: dict[str, Tensor]


@dataclass(frozen=True)
class Run:
    """One run of a cell, as a job.

    Attributes:
        kind: "predicted" or "trained".
        cell: what is asked.
        data: the fingerprint of its data.
        code: what code of the caller's it runs.
    """

    kind: Kind
    cell: Cell
    data: str
    code: tuple[tuple[str, str], ...] = ()
    failures = (Exception,)

    @classmethod
    def of(cls, kind: Kind, cell: Cell, fingerprints: Fingerprints) -> Self:
        """A run with the fingerprints of its data and code.

        Raises:
            DataError: data that cannot be had.
            ConfigError: a network that cannot be had.
        """
        code = fingerprints.code(cell.experiment)
        return cls(kind, cell, fingerprints.data(cell.experiment), tuple(code.items()))

    @property
    def question(self) -> Question:
        """The resolved configuration, with versions and the fingerprint of the data in place of where they are."""
        return self._question

    @cached_property
    def _question(self) -> Question:
        cell, experiment = self.cell, self.cell.experiment
        left_out = {*DATA_KEYS, *_OF_STUDIES, "optimizer", "seed"} - {"network", "dtype", "device"}
        if self.kind == "trained" and cell.mitigation == AS_IT_IS:
            left_out |= {*_OF_PREDICTIONS}
        settings = {name: value for name, value in experiment.to_dict().items() if name not in left_out}
        settings["optimizer"] = cell.optimizer.to_dict()
        settings |= {"initialization": cell.initialization, "seed": self._batch_seed}
        if cell.validation:
            settings |= {"mitigation": cell.mitigation, "validation": cell.validation}
        return Question(
            {
                "kind": f"sweep-{self.kind}",
                "versions": versions(),
                "data": self.data,
                "code": dict(self.code),
                "settings": settings,
            }
        )

    @property
    def _batch_seed(self) -> int:
        experiment = self.cell.experiment
        return Recipe(torch.optim.SGD, experiment.batch_size, experiment.seed).at_initialization(
            self.cell.initialization
        ).seed  # fmt: skip

    @own_context()
    def compute(self) -> Measured:
        """Predict or train.

        Raises:
            WhichminError: that cannot be done.
            KeyboardInterrupt: Ctrl-C.
        """
        experiment = self.cell.experiment
        task = known_task(data_of(experiment), self.data)
        model = build_network(experiment, task, self.cell.initialization)
        recipe = Recipe(build_optimizer(self.cell.optimizer), experiment.batch_size, experiment.seed)
        recipe = recipe.at_initialization(self.cell.initialization)
        with untimed(), few_threads(model, task):
            if self.cell.validation:
                return self._remedied(model, task, recipe)
            return (_predicted if self.kind == "predicted" else _trained)(model, task, recipe, experiment)

    def keep(self, store: Store, question: Question, answer: Measured) -> None:
        """A folder with the numbers, the arrays, and what was asked in full."""
        experiment = self.cell.experiment
        asked = experiment.to_dict() | {"optimizer": self.cell.optimizer.to_dict()}
        asked = {name: value for name, value in asked.items() if name not in _OF_STUDIES}
        asked |= {"initialization": self.cell.initialization, "mitigation": self.cell.mitigation}
        store.write(question, {"asked": asked, "numbers": answer.numbers}, answer.arrays)

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> Measured:
        """What :meth:`keep` wrote."""
        return Measured(config["numbers"], arrays)

    def _remedied(self, model: nn.Module, task: Task, recipe: Recipe) -> Measured:
        """Where a remedy leads, or the network as it is, with the points held out that choose between them."""
        experiment = self.cell.experiment
        parts = split(task, self.cell.validation, experiment.data_seed)
        work = Work(model, parts, recipe, Aim(experiment.until, experiment.steps, experiment.tol, LEVEL))
        method = METHODS[self.cell.mitigation]()
        remedy = method.predict(work)
        if self.kind == "trained":
            remedy = method.train(work, remedy)
        outcome = remedy.predicted if self.kind == "predicted" else remedy.trained
        assert outcome is not None
        return _of_outcome(outcome, remedy, work)


def _predicted(model: nn.Module, task: Task, recipe: Recipe, asked: Experiment) -> Measured:
    prediction = predict(model, task, recipe, steps=asked.steps, until=asked.until, tol=asked.tol)
    assert isinstance(prediction.steps, float | int)
    numbers = {
        "learning_rate": prediction.learning_rate,
        "method": prediction.method,
        "intervals": prediction.intervals,
        "steps": float(prediction.steps),
        "train_loss": task.loss.value(prediction.train.to(task.y.device), task.y),
        "error": prediction.error,
        "max_lr": prediction.max_lr,
        "seconds": prediction.seconds,
        "notes": list(prediction.notes),
    }
    arrays = {"curve_steps": prediction.curve.steps, "curve_losses": prediction.curve.losses}
    return _with_test(numbers, arrays, task, prediction.test, prediction.terms.get("interpolant"))


def _trained(model: nn.Module, task: Task, recipe: Recipe, asked: Experiment) -> Measured:
    run = train(model, task, recipe, until=asked.until, steps=asked.steps, row_span=True)
    if run.interrupted:
        raise KeyboardInterrupt
    numbers = {
        "learning_rate": run.learning_rate,
        "steps": float(run.steps),
        "train_loss": float(run.losses[-1]),
        "reached": run.converged or asked.until is None,
        "seconds": run.seconds,
        "notes": [] if run.converged or asked.until is None else [f"training stopped short of its aim: {run.reason}"],
    }
    arrays = {"curve_steps": run.loss_steps, "curve_losses": run.losses}
    return _with_test(numbers, arrays, task, run.test)


def _of_outcome(outcome: Outcome, remedy: Remedy, work: Work) -> Measured:
    numbers = {
        "learning_rate": work.prediction.learning_rate,
        "method": outcome.way,
        "steps": outcome.steps,
        "train_loss": outcome.train_loss,
        "error": outcome.error,
        "reached": outcome.reached,
        "seconds": outcome.seconds,
        "validation_loss": work.validation_loss(outcome),
        "notes": list(outcome.notes),
    }
    arrays = {"validation": outcome.validation}
    search = remedy.search
    if search is not None:
        numbers |= {"chosen_scale": search.scale, "search": search.reason}
        arrays |= {"search_scales": torch.tensor(search.scales, dtype=torch.float64)}
        arrays |= {"search_losses": torch.tensor(search.losses, dtype=torch.float64)}
    return _with_test(numbers, arrays, work.split.task, outcome.test)


def _with_test(
    numbers: dict[str, Any],
    arrays: dict[str, Tensor],
    task: Task,
    test: Tensor | None,
    interpolant: Tensor | None = None,
) -> Measured:
    """With the test outputs, and what they are worth."""
    if test is None:
        return Measured(numbers, arrays)
    arrays = arrays | {"test": test}
    numbers = numbers | {"test_loss": task.test_loss(test.double())}
    if Decision.of(task).classes:
        numbers["accuracy"] = task.accuracy(test)
    if interpolant is not None:
        arrays["interpolant"] = interpolant
        numbers["test_loss_interpolant"] = task.test_loss(interpolant.double())
    return Measured(numbers, arrays)

"""Where a recipe takes one initialization: predicted or trained, as a job, and what of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from whichmin.checkpoint import begin
from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.dynamics.predict import predict
from whichmin.errors import WhichminError
from whichmin.jobs.store import Question, Store
from whichmin.recipe.describe import Unknown
from whichmin.recipe.recipe import Recipe
from whichmin.studies.initializations import Initialization, few_threads
from whichmin.studies.subject import Subject
from whichmin.tangent.context import own_context
from whichmin.task import Task
from whichmin.training.train import train


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a recipe takes one initialization, as predicted or as trained.

    Attributes:
        test: test outputs, (n_test, C).
        error: the prediction's estimated error; 0 for a trained network.
        steps: how many steps.
        seconds: what it took.
        notes: remarks.
    """

    test: Tensor
    error: float
    steps: float
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> dict[str, Any]:
        """All but the outputs, as plain values."""
        return {"error": self.error, "steps": self.steps, "seconds": self.seconds, "notes": list(self.notes)}


class Procedure(Protocol):
    """How to answer where a recipe takes a network, and the settings that the answer depends on."""

    @property
    def kind(self) -> str:
        """What the network is said to be: "predicted" or "trained"."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """All that the answer depends on besides data, network and recipe, as plain values."""
        ...

    def ask(self, model: nn.Module, task: Task, recipe: Recipe) -> Answer:
        """The answer.

        Raises:
            KeyboardInterrupt: Ctrl-C, also where training ended with what there was.
        """
        ...


@dataclass(frozen=True)
class Predicting:
    """By prediction, with :func:`whichmin.predict`'s own arguments."""

    until: float | None
    steps: float | None
    tol: float
    relinearize: Relinearize = "auto"
    kind = "predicted"

    @property
    def settings(self) -> dict[str, Any]:
        """The tolerance counts here, and nowhere in training."""
        said = {} if self.relinearize == "auto" else {"relinearize": self.relinearize}
        return {"until": self.until, "steps": self.steps, "tol": self.tol} | said

    def ask(self, model: nn.Module, task: Task, recipe: Recipe) -> Answer:
        """The prediction."""
        prediction = predict(
            model, task, recipe, steps=self.steps, until=self.until, tol=self.tol, relinearize=self.relinearize
        )
        assert prediction.test is not None
        assert isinstance(prediction.steps, float | int)
        return Answer(prediction.test, prediction.error, float(prediction.steps), prediction.seconds, prediction.notes)


@dataclass(frozen=True)
class Training:
    """By training, with :func:`whichmin.train`'s own arguments."""

    until: float | None
    steps: int | None
    kind = "trained"

    @property
    def settings(self) -> dict[str, Any]:
        """Where training stops."""
        return {"until": self.until, "steps": self.steps}

    def ask(self, model: nn.Module, task: Task, recipe: Recipe) -> Answer:
        """The trained network; one that was interrupted is no answer."""
        run = train(model, task, recipe, until=self.until, steps=self.steps)
        if run.interrupted:
            raise KeyboardInterrupt
        assert run.test is not None
        short = () if run.converged or self.until is None else (f"training stopped short of its aim: {run.reason}",)
        return Answer(run.test, 0.0, float(run.steps), run.seconds, short)


def question_of(
    subject: Subject | Unknown, procedure: Procedure, start: Initialization, recipe: Recipe
) -> Question | Unknown | None:
    """What is asked of an initialization, as a store knows it; None where the recipe cannot be used there.

    Args:
        subject: the data and the network at the start.
        procedure: how it is answered.
        start: the initialization.
        recipe: what trains it.
    """
    if isinstance(subject, Unknown):
        return subject
    try:
        return subject.asked(procedure.kind, begin(start, recipe)[1], procedure.settings)
    except WhichminError:  # the job fails alike, and says so
        return None


@dataclass(frozen=True, eq=False)
class Trial:
    """A recipe and an initialization, as a job.

    Attributes:
        procedure: how it is answered.
        start: the initialization.
        task: the data.
        recipe: what trains it.
        question: what is asked, as a store knows it; None where the answer is not kept.
        about: what a reader of the store is told beside.
    """

    procedure: Procedure
    start: Initialization
    task: Task
    recipe: Recipe
    question: Question | None
    about: dict[str, Any]
    failures = (WhichminError,)

    @own_context()
    def compute(self) -> Answer:
        """Predict or train."""
        model, recipe = begin(self.start, self.recipe)
        with few_threads(model, self.task):
            return self.procedure.ask(model, self.task, recipe)

    def keep(self, store: Store, question: Question, answer: Answer) -> None:
        """A folder with the numbers and the test outputs."""
        store.write(question, self.about | answer.numbers, {"test": answer.test})

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> Answer:
        """What :meth:`keep` wrote."""
        notes = tuple(config["notes"])
        return Answer(arrays["test"], config["error"], config["steps"], config["seconds"], notes)

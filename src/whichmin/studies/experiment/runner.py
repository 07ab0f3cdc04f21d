"""The answer, optimizer by optimizer and seed by seed: predicted, trained, explained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from whichmin.decomposition.explain import explain
from whichmin.decomposition.explanation import Explanation
from whichmin.dynamics.predict import predict
from whichmin.dynamics.prediction import Prediction
from whichmin.errors import WhichminError
from whichmin.jobs.perform import Terms, in_order
from whichmin.jobs.progress import DELAY, performed, progress_bar
from whichmin.jobs.store import Question, Store
from whichmin.recipe.describe import Unknown
from whichmin.recipe.recipe import Recipe
from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
from whichmin.studies.experiment.choices import Choice, choices_of
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.subject import Subject, not_kept
from whichmin.task import Task
from whichmin.training.foreseen import predict_before_training
from whichmin.training.train import train

if TYPE_CHECKING:
    from whichmin._bars import tqdm


def run(experiment: Experiment, *, out: str | Path | None = None, progress: bool = False) -> list[Entry]:
    """All seeds of an experiment: the list of what :func:`iterate` yields."""
    return list(iterate(experiment, out=out, progress=progress))


def iterate(experiment: Experiment, *, out: str | Path | None = None, progress: bool = False) -> Iterator[Entry]:
    """Answer an experiment one choice and seed at a time, keeping each on disk as soon as it is finished.

    A choice is one of the networks with one of the ways to train it, where the experiment names several. Mini-batches
    of initialization s have the order of ``seed + 1000·s``, as in :func:`whichmin.compare`.

    Args:
        experiment: what is asked.
        out: a folder; ``runs`` within it keeps what is finished, by choice and seed, and what it has already is read
            from there. None keeps nothing.
        progress: whether to show bars on standard error for what takes longer than two seconds.

    Yields:
        An entry per choice and seed, in order. One that fails has its ``failure`` and nothing else, and is not kept.

    Raises:
        OutputError: ``out`` cannot be written to; nothing has been computed then.
        ConfigError: data, network or optimizers that cannot be had.
        WhichminError: the first failure, after all entries, if there is nothing but failures.
    """
    store = None if out is None else Store.open(out)
    choices = choices_of(experiment)
    recipes = [
        Recipe(build_optimizer(choice.optimizer), choice.experiment.batch_size, experiment.seed) for choice in choices
    ]
    task = build_task(experiment)
    total, failures = len(choices) * len(experiment.initializations), []
    blanks: list[Entry] = []

    def trials() -> Iterator[_Trial]:
        for choice, recipe in zip(choices, recipes, strict=True):
            for seed in experiment.initializations:
                member = f"seed {seed}"
                label = member if len(choices) == 1 else f"{choice.name}, {member}"
                blanks.append(Entry(label, optimizer=choice.name, member=member))
                yield _Trial(choice, task, recipe.at_initialization(seed), seed, blanks[-1], bar, store is not None)

    with progress_bar(total, "seed" if len(choices) == 1 else "run", progress) as bar:
        for number, attempt in in_order(performed(trials(), Terms(store, retry=True), bar)):
            if attempt.answer is not None:
                yield replace(attempt.answer, reused=attempt.is_old)
                continue
            assert isinstance(attempt.error, WhichminError)
            failures.append(attempt.error)
            yield replace(blanks[number], task=task, failure=attempt.error)
    if len(failures) == total:
        raise failures[0]


class _Trial:
    """One choice and seed of an experiment, as a job."""

    failures = (WhichminError,)

    def __init__(
        self, choice: Choice, task: Task, recipe: Recipe, seed: int, blank: Entry, bar: tqdm, is_kept: bool
    ) -> None:
        self.experiment, self.task, self.named, self.recipe = choice.experiment, task, choice.optimizer, recipe
        self.seed, self.blank, self.bar, self.is_kept = seed, blank, bar, is_kept
        self.model: nn.Module = build_network(choice.experiment, task, seed)

    @property
    def question(self) -> Question | None:
        """What is asked, as the store knows it; None where nothing is kept."""
        return self._asked if isinstance(self._asked, Question) else None

    def compute(self) -> Entry:
        """The entry."""
        notes = (not_kept(self._asked),) if isinstance(self._asked, Unknown) else ()
        return replace(self.blank, **self._answer(), notes=notes)

    def keep(self, store: Store, question: Question, answer: Entry) -> None:
        """A folder with the two predictions and the explanation, each as it saves itself."""
        assert answer.linearized is not None
        assert answer.relinearized is not None
        assert answer.explanation is not None
        parts = {
            "linearized": answer.linearized.save,
            "relinearized": answer.relinearized.save,
            "explanation": answer.explanation.save,
        }
        asked = self.experiment.to_dict() | {"initialization": self.seed}
        store.write(question, {"asked": asked, "prepared": self.task.prepared}, {}, parts)

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> Entry:
        """What :meth:`keep` wrote."""
        explanation = Explanation.load(place / "explanation")
        return replace(
            self.blank,
            linearized=Prediction.load(place / "linearized"),
            relinearized=Prediction.load(place / "relinearized"),
            run=explanation.run,
            explanation=explanation,
        )

    @cached_property
    def _asked(self) -> Question | Unknown | None:
        """What is asked; None where nothing is kept, or the recipe cannot be used, which the answer says."""
        if not self.is_kept:
            return None
        asked = self.experiment
        settings = {"until": asked.until, "steps": asked.steps, "tol": asked.tol, "train": asked.train}
        subject = Subject.of(self.model, self.task)
        try:
            return subject if isinstance(subject, Unknown) else subject.asked("explained", self.recipe, settings)
        except WhichminError:
            return None

    def _answer(self) -> dict[str, Any]:
        """The parts of the entry.

        One linearization is asked for separately only where it is a formula; elsewhere it costs about as much as
        training, and the one that the explanation makes anyway, of as many steps as training took, is taken.
        """
        asked, recipe = self.experiment, self.recipe
        self._stage("predicting")
        linearized = None
        if self.named.linear and recipe.batch_size is None:
            linearized = predict(
                self.model, self.task, recipe, steps=asked.steps, until=asked.until, tol=asked.tol, relinearize="never"
            )
            recipe = _resolved(recipe, linearized)
        if not asked.train:
            explanation = explain(
                self.model, self.task, recipe, train=False, until=asked.until, steps=asked.steps, tol=asked.tol,
                progress=not self.bar.disable,
            )  # fmt: skip
            return {
                "linearized": linearized or explanation.prediction,
                "relinearized": explanation.relinearized,
                "explanation": explanation,
            }
        relinearized, trained = predict_before_training(
            self.model, self.task, recipe, until=asked.until, steps=asked.steps, tol=asked.tol,
            progress=not self.bar.disable,
        )  # fmt: skip
        recipe = _resolved(recipe, relinearized)
        self._stage("training")
        assert isinstance(relinearized.steps, float | int)
        progress = not self.bar.disable and relinearized.steps
        if trained is None:
            trained = train(self.model, self.task, recipe, until=asked.until, steps=asked.steps, progress=progress)
        if trained.interrupted:
            raise KeyboardInterrupt
        self._stage("explaining")
        explanation = explain(trained, progress=not self.bar.disable)
        return {
            "linearized": linearized or explanation.prediction,
            "relinearized": relinearized,
            "run": trained,
            "explanation": explanation,
        }

    def _stage(self, text: str) -> None:
        shown = not self.bar.disable and self.bar.format_dict["elapsed"] > DELAY
        self.bar.set_description(f"{self.blank.label}: {text}", refresh=shown)


def _resolved(recipe: Recipe, prediction: Prediction) -> Recipe:
    """The recipe with the rate that a prediction took for a rate by name."""
    return recipe.with_learning_rate(prediction.learning_rate) if recipe.names_rate else recipe

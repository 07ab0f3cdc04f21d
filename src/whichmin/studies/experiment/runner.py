"""The answer, optimizer by optimizer and seed by seed: predicted along the path, trained, explained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from whichmin._bars import tqdm
from whichmin.decomposition.explain import explain
from whichmin.decomposition.explanation import Explanation
from whichmin.dynamics.predict import predict
from whichmin.dynamics.prediction import Prediction
from whichmin.errors import OutputError, WhichminError
from whichmin.jobs.store import Question, Store
from whichmin.recipe.describe import Unknown
from whichmin.recipe.recipe import Recipe
from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
from whichmin.studies.experiment.choices import Choice, choices_of
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.subject import Subject, not_kept
from whichmin.task import Task
from whichmin.training.train import train

_DELAY = 2.0


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
    unit = "seed" if len(choices) == 1 else "run"
    with tqdm(total=total, unit=unit, delay=_DELAY, leave=False, disable=not progress) as bar:
        for choice, recipe in zip(choices, recipes, strict=True):
            for seed in experiment.initializations:
                member = f"seed {seed}"
                label = member if len(choices) == 1 else f"{choice.name}, {member}"
                blank = Entry(label, optimizer=choice.name, member=member)
                entry = _Trial(choice, task, recipe.at_initialization(seed), seed, blank, bar).entry(store)
                yield entry
                bar.update()
                failures += [entry.failure] if entry.failure is not None else []
    if len(failures) == total:
        raise failures[0]


class _Trial:
    """One choice and seed of an experiment."""

    def __init__(self, choice: Choice, task: Task, recipe: Recipe, seed: int, blank: Entry, bar: tqdm) -> None:
        self.experiment, self.task, self.named, self.recipe = choice.experiment, task, choice.optimizer, recipe
        self.seed, self.blank, self.bar = seed, blank, bar
        self.model: nn.Module = build_network(choice.experiment, task, seed)

    def entry(self, store: Store | None) -> Entry:
        """From the store if it is there."""
        try:
            question = None if store is None else self._question()
            if store is None or not isinstance(question, Question):
                notes = (not_kept(question),) if isinstance(question, Unknown) else ()
                return replace(self.blank, **self._answer(), notes=notes)
            kept = store.read(question, self._read)
            if kept is None:
                kept = replace(self.blank, **self._answer())
                self._keep(store, question, kept)
            return kept
        except OutputError:
            raise
        except WhichminError as error:
            return replace(self.blank, task=self.task, failure=error)

    def _question(self) -> Question | Unknown:
        asked = self.experiment
        subject = Subject.of(self.model, self.task)
        if isinstance(subject, Unknown):
            return subject
        settings = {"until": asked.until, "steps": asked.steps, "tol": asked.tol, "train": asked.train}
        return subject.asked("explained", self.recipe, settings)

    def _keep(self, store: Store, question: Question, entry: Entry) -> None:
        assert entry.linearized is not None
        assert entry.relinearized is not None
        assert entry.explanation is not None
        parts = {
            "linearized": entry.linearized.save,
            "relinearized": entry.relinearized.save,
            "explanation": entry.explanation.save,
        }
        asked = self.experiment.to_dict() | {"initialization": self.seed}
        store.write(question, {"asked": asked, "prepared": self.task.prepared}, {}, parts)

    def _read(self, place: Path, _: dict[str, Any], __: dict[str, Tensor]) -> Entry:
        explanation = Explanation.load(place / "explanation")
        return replace(
            self.blank,
            linearized=Prediction.load(place / "linearized"),
            relinearized=Prediction.load(place / "relinearized"),
            run=explanation.run,
            explanation=explanation,
            reused=True,
        )

    def _answer(self) -> dict[str, Any]:
        """The parts of the entry.

        One linearization is asked for separately only where it is a formula; elsewhere it costs about as much as
        training, and the one that the explanation makes anyway, of as many steps as training took, is taken.
        """
        asked, recipe = self.experiment, self.recipe
        self._stage("predicting")
        linearized = None
        if self.named.linear and recipe.batch_size is None:
            linearized = self._predict(recipe, "never")
            recipe = _resolved(recipe, linearized)
        if not asked.train:
            explanation = explain(
                self.model, self.task, recipe, train=False, until=asked.until, steps=asked.steps, tol=asked.tol
            )
            return {
                "linearized": linearized or explanation.prediction,
                "relinearized": explanation.relinearized,
                "explanation": explanation,
            }
        relinearized = self._predict(recipe, "auto")
        recipe = _resolved(recipe, relinearized)
        self._stage("training")
        progress = not self.bar.disable
        trained = train(self.model, self.task, recipe, until=asked.until, steps=asked.steps, progress=progress)
        if trained.interrupted:
            raise KeyboardInterrupt
        self._stage("explaining")
        explanation = explain(trained)
        return {
            "linearized": linearized or explanation.prediction,
            "relinearized": relinearized,
            "run": trained,
            "explanation": explanation,
        }

    def _predict(self, recipe: Recipe, relinearize: Any) -> Prediction:
        asked = self.experiment
        return predict(
            self.model, self.task, recipe, steps=asked.steps, until=asked.until, tol=asked.tol, relinearize=relinearize
        )

    def _stage(self, text: str) -> None:
        shown = not self.bar.disable and self.bar.format_dict["elapsed"] > _DELAY
        self.bar.set_description(f"{self.blank.label}: {text}", refresh=shown)


def _resolved(recipe: Recipe, prediction: Prediction) -> Recipe:
    """The recipe with the rate that a prediction took for a rate by name."""
    return recipe.with_learning_rate(prediction.learning_rate) if recipe.names_rate else recipe

"""``compare``: where several ways to train take the same initializations, and whether the difference is significant."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import torch

from whichmin.checkpoint import network_of
from whichmin.errors import InputError, WhichminError
from whichmin.jobs.perform import Attempt, Terms
from whichmin.jobs.progress import performed, progress_bar
from whichmin.jobs.store import Store
from whichmin.recipe.describe import Unknown
from whichmin.recipe.recipe import Recipe
from whichmin.studies.answer import Answer, Predicting, Procedure, Training, Trial, question_of
from whichmin.studies.comparison import Comparison, Failure, filled, notices
from whichmin.studies.initializations import (
    Initialization,
    ModelFactory,
    check_seeds,
    check_steps,
    check_test,
    initializations,
)
from whichmin.studies.recipes import Recipes, check_recipes
from whichmin.studies.remarks import told_once
from whichmin.studies.subject import Subject, not_kept
from whichmin.tangent.context import own_context
from whichmin.task import Task, Until

if TYPE_CHECKING:
    from whichmin._bars import tqdm


@own_context()
def compare(
    model_factory: ModelFactory | Mapping[str, ModelFactory],
    task: Task,
    recipes: Recipes,
    seeds: int | Sequence[int] = 10,
    *,
    train: bool = False,
    until: Until = "auto",
    steps: int | None = None,
    tol: float = 1e-2,
    level: float = 0.05,
    executor: Executor | None = None,
    progress: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> Comparison:
    """Whether the optimizer, the batch size, a schedule or the network changes the minimizer: the same seeds, each way.

    With d_s = f_A,s − f_B,s the difference of two recipes' test outputs at initialization s, and ⟨·,·⟩ the mean
    over test points and outputs, two questions are answered of each pair. Do they reach different minimizers from the
    same initialization? Student's t, one-sided, of √⟨d_s, d_s⟩ minus what the two predictions may be off by. Do they
    differ beyond the seed? T = mean over s ≠ s' of ⟨d_s, d_s'⟩ has the mean square of E d as its expectation, and its
    p is the share of sign patterns ε for which the T of ε_s d_s is no smaller: exact, by enumeration, up to 15 seeds.
    Both p are corrected for the number of pairs (Holm). :class:`Comparison` says what the answers mean, and what not.

    Args:
        model_factory: called with the seeds 0, 1, …; a network of its own for each, or a checkpoint of its training,
            from which every recipe goes on. torch's global generator is seeded alike during the call. Several networks
            are compared as a dict of such factories by name, such as of different scales or widths; each is trained by
            every recipe, and pairs have a seed in common then, not an initialization.
        task: the data, with test inputs.
        recipes: two or more by name, a dict or (name, recipe) pairs; each an optimizer factory or a
            :class:`whichmin.Recipe` with batches and a scheduler. One will do for several networks.
        seeds: how many initializations, or a list of their numbers. The second p cannot fall below 2^−(seeds − 1): a
            level of 0.05 needs 6 for two recipes, and 9 for five.
        train: whether to train each for real as well; the effect is then also that of the trained networks.
        until: training loss to stop at, as for ``train``; None: no such aim.
        steps: at most so many; None: any number, and 100,000 where networks are trained.
        tol: of the predictions, as for ``predict``.
        level: of each question's tests together, and 1 − level the coverage of the confidence intervals over seeds.
        executor: any ``concurrent.futures.Executor``; each job is sent a network, the task and a recipe, which have to
            be picklable where it has other processes, and computes with one thread. None for this process.
        progress: show a bar on standard error if it takes longer than two seconds.
        out: a folder in whose ``runs`` each finished recipe and seed is kept, and read from when it is there already.
            It is read for the same data, settings, network as drawn (its code, and its outputs and gradient on the
            data), and optimizer and scheduler as built (and what a few steps do); ``reused`` counts those. Those that
            are code of your own, such as an optimizer class or the function of a ``LambdaLR``, may have changed
            unseen: what they train is not kept, and ``notes`` say so.

    Returns:
        A :class:`Comparison`: outputs (seeds, n_test, C) by recipe, distances, effects, flips. A recipe that fails at a
        seed, such as one that diverges, is among its ``failures`` and nan in its outputs.

    Cost: a prediction per recipe and seed. Adaptive optimizers in mini-batches cost about a training run each.

    Raises:
        InputError: fewer than two to compare or two seeds, a name that comes twice, a task without test inputs, a level
            outside (0, 1).
        ModelError: not a factory; one that returns one object twice or ignores its seed.
        OptimizerError: a recipe whose factory fails.
        OutputError: ``out`` cannot be written to.
        WhichminError: the first failure, if there is nothing but failures.
    """
    numbers = check_seeds(seeds)
    check_test(task)
    check_steps(steps)
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise InputError(f"level is {level!r}; expected a number between 0 and 1, such as 0.05.")
    until = task.aim(until)
    if until is None and train and steps is None:
        raise InputError("until and steps are both None, so training would have no end: pass one of them.")
    networks = model_factory if isinstance(model_factory, Mapping) else {"": model_factory}
    started = time.perf_counter()
    procedures = [Predicting(until, steps, tol), *([Training(until, steps)] if train else [])]
    terms = Terms(None if out is None else Store.open(out), retry=True, executor=executor)
    with progress_bar(None, "run", progress) as bar:
        work = _Work(task, procedures, recipes, numbers, networks, terms.store, bar)
        work.take(dict(performed(work.trials(), terms, bar)))
    if work.errors and not any(work.answers.values()):
        raise work.errors[0]
    asked = {"until": until, "steps": steps, "tol": tol}
    networks_compared = tuple(networks) if len(networks) > 1 else ()
    return _package(work, level, time.perf_counter() - started, asked, networks_compared)


def _drawn(networks: Mapping[str, ModelFactory], seeds: Sequence[int]) -> Iterator[dict[str, Initialization]]:
    """Every network at each seed."""
    streams = [initializations(factory, seeds) for factory in networks.values()]
    for drawn in zip(*streams, strict=True):
        yield dict(zip(networks, drawn, strict=True))


def _name(recipe: str, network: str, recipes: int) -> str:
    """What a network that is trained in one of some ways is called."""
    if not network:
        return recipe
    return network if recipes == 1 else f"{recipe}, {network}"


class _Work:
    """What is asked of each network, and the answers by kind, recipe and seed."""

    def __init__(
        self,
        task: Task,
        procedures: Sequence[Procedure],
        recipes: Recipes,
        seeds: Sequence[int],
        networks: Mapping[str, ModelFactory],
        store: Store | None,
        bar: tqdm,
    ) -> None:
        self.task, self.procedures, self.recipes, self.seeds = task, procedures, recipes, seeds
        self.networks, self.store, self.bar = networks, store, bar
        self.asked: list[tuple[str, str, int]] = []
        self.unknown: dict[Unknown, dict[str, None]] = {}
        self.answers: dict[str, dict[tuple[str, int], Answer]] = {procedure.kind: {} for procedure in procedures}
        self.failures: list[Failure] = []
        self.errors: list[BaseException] = []
        self.reused = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What is compared."""
        return tuple(dict.fromkeys(name for _, name, _ in self.asked))

    def trials(self) -> Iterator[Trial]:
        """The jobs, of one network after the other, each drawn and described once."""
        for seed, drawn in zip(self.seeds, _drawn(self.networks, self.seeds), strict=True):
            for network, start in drawn.items():
                model = network_of(start)
                checked = check_recipes(self.recipes, self.task, model, least=1 if len(self.networks) > 1 else 2)
                self.bar.total = len(self.seeds) * len(self.networks) * len(checked) * len(self.procedures)
                subject = None if self.store is None else Subject.of(model, self.task)
                for recipe_name, recipe in checked.items():
                    name = _name(recipe_name, network, len(checked))
                    for procedure in self.procedures:
                        self.asked.append((procedure.kind, name, seed))
                        yield self._trial(procedure, start, recipe.at_initialization(seed), subject)

    def _trial(
        self, procedure: Procedure, start: Initialization, recipe: Recipe, subject: Subject | Unknown | None
    ) -> Trial:
        _, name, seed = self.asked[-1]
        question = None if subject is None else question_of(subject, procedure, start, recipe)
        if isinstance(question, Unknown):
            self.unknown.setdefault(question, {})[name] = None
            question = None
        return Trial(procedure, start, self.task, recipe, question, {"recipe": name, "initialization": seed})

    def take(self, attempts: Mapping[int, Attempt[Answer]]) -> None:
        """What came of the jobs, by their numbers."""
        for number, (kind, name, seed) in enumerate(self.asked):
            attempt = attempts[number]
            if attempt.failure is not None:
                self.failures.append(Failure(name, seed, kind, str(attempt.failure)))
                self.errors.append(attempt.error or WhichminError(str(attempt.failure)))
                continue
            assert attempt.answer is not None
            self.answers[kind][name, seed] = attempt.answer
            self.reused += attempt.is_old


def _package(
    work: _Work,
    level: float,
    seconds: float,
    asked: dict[str, Any],
    networks: tuple[str, ...],
) -> Comparison:
    names, seeds = work.names, work.seeds
    some = next(answer for answers in work.answers.values() for answer in answers.values())

    def outputs(kind: str) -> dict[str, torch.Tensor]:
        answers = work.answers[kind]
        found = {name: [answers.get((name, seed)) for seed in seeds] for name in names}
        return {name: filled([a and a.test for a in row], some.test) for name, row in found.items()}

    def numbers(of: str) -> dict[str, torch.Tensor]:
        answers = work.answers["predicted"]
        rows = {name: [answers.get((name, seed)) for seed in seeds] for name in names}
        return {
            name: torch.tensor([math.nan if a is None else getattr(a, of) for a in row], dtype=torch.float64)
            for name, row in rows.items()
        }

    return Comparison(
        work.task,
        outputs("predicted"),
        numbers("error"),
        outputs("trained") if "trained" in work.answers else None,
        numbers("steps"),
        level,
        seconds,
        tuple(work.failures),
        tuple(notices(level, len(seeds), len(names)) + _remarks(work) + _not_kept(work)),
        asked,
        networks,
        work.reused,
    )


def _remarks(work: _Work) -> list[str]:
    """What answers remarked, once where that is the same of several recipes."""
    remarks: dict[str, list[tuple[str, str]]] = {}
    for answers in work.answers.values():
        for (name, seed), answer in answers.items():
            remarks.setdefault(name, []).extend((f"{name}, seed {seed}", note) for note in answer.notes)
    return told_once(remarks, "seed")


def _not_kept(work: _Work) -> list[str]:
    return [f"{', '.join(names)}: {not_kept(unknown)}" for unknown, names in work.unknown.items()]

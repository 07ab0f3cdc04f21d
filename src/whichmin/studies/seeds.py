"""``seeds``: the minimizers of many initializations, without training."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import torch

from whichmin.checkpoint import network_of
from whichmin.decision import Decision
from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.errors import WhichminError
from whichmin.jobs.perform import Terms, in_order
from whichmin.jobs.progress import performed, progress_bar
from whichmin.jobs.store import Store
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.recipe.describe import Unknown
from whichmin.recipe.recipe import Recipe
from whichmin.studies.answer import Answer, Predicting, Trial, question_of
from whichmin.studies.initializations import ModelFactory, check_seeds, check_steps, check_test, initializations
from whichmin.studies.remarks import told_once
from whichmin.studies.seed_spread import SeedSpread
from whichmin.studies.subject import Subject, not_kept
from whichmin.tangent.context import own_context
from whichmin.task import Task


@own_context()
def seeds(
    model_factory: ModelFactory,
    task: Task,
    optimizer: OptimizerFactory | Recipe,
    seeds: int | Sequence[int] = 100,
    *,
    until: float | None = None,
    steps: float | None = None,
    relinearize: Relinearize = "auto",
    tol: float = 2e-2,
    batch_size: int | None = None,
    seed: int = 0,
    scheduler: SchedulerFactory | None = None,
    executor: Executor | None = None,
    progress: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> SeedSpread:
    """How far the minimizer depends on the initialization: many seeds, predicted without training.

    With f_s(x') the predicted network of seed s, the standard deviation over S seeds at x' is
    √(1/(S−1) Σ_s (f_s(x') − f̄(x'))²), and the flip probability the share of seeds that do not decide as the majority.

    Args:
        model_factory: called with the seeds 0, 1, …; a network of its own for each, or a checkpoint of its training.
            torch's global generator is seeded alike during the call.
        task: the data, with test inputs.
        optimizer: a factory or a recipe, as for :func:`whichmin.predict`; ``lr="best"`` is settled for each seed.
        seeds: how many initializations, 2 or more, or a list of their numbers.
        until: as for ``predict``.
        steps: as for ``predict``; a single number.
        relinearize: as for ``predict``.
        tol: as for ``predict``; the default costs about half of ``predict``'s own and is mostly below what seeds
            differ by. ``SeedSpread.error`` tells what came of it.
        batch_size: as for ``predict``.
        seed: of the order of the batches, the same for all initializations: what differs is theirs alone.
        scheduler: as for ``predict``.
        executor: as for :func:`whichmin.compare`.
        progress: show a bar on standard error if it takes longer than two seconds.
        out: a folder in whose ``runs`` each finished prediction is kept, and read from when it is there already, as for
            :func:`whichmin.compare`.

    Returns:
        A :class:`SeedSpread`: outputs (seeds, n_test, C).

    Cost: as many predictions; each about a kernel and an eigendecomposition, O((N·C)³), and a linearization.

    Raises:
        InputError: fewer than two seeds, a task without test inputs, and whatever ``predict`` refuses; the message
            names the seed.
        ModelError: not a factory; one that returns one object twice or ignores its seed.
        OutputError: ``out`` cannot be written to.
    """
    numbers = check_seeds(seeds)
    check_test(task)
    check_steps(steps)
    recipe = Recipe.of(optimizer, batch_size, seed, scheduler)
    started = time.perf_counter()
    store = None if out is None else Store.open(out)
    terms = Terms(store, retry=True, executor=executor)
    unknown: dict[Unknown, None] = {}

    def trials() -> Iterator[Trial]:
        procedure = Predicting(until, steps, tol, relinearize)
        for number, start in zip(numbers, initializations(model_factory, numbers), strict=True):
            subject = None if store is None else Subject.of(network_of(start), task)
            question = None if subject is None else question_of(subject, procedure, start, recipe)
            if isinstance(question, Unknown):
                unknown[question] = question = None
            yield Trial(procedure, start, task, recipe, question, {"initialization": number})

    found: list[Answer] = []
    with progress_bar(len(numbers), "seed", progress) as bar:
        for number, attempt in in_order(performed(trials(), terms, bar)):
            if attempt.answer is None:
                raise _named(attempt.error or WhichminError(str(attempt.failure)), numbers[number])
            found.append(attempt.answer)
    test = torch.stack([answer.test for answer in found])
    remarks = [(f"seed {seed}", note) for seed, answer in zip(numbers, found, strict=True) for note in answer.notes]
    return SeedSpread(
        task,
        test,
        torch.tensor([answer.error for answer in found], dtype=torch.float64),
        torch.from_numpy(Decision.of(task).labels(test)),
        time.perf_counter() - started,
        (*told_once({"": remarks}, "seed"), *map(not_kept, unknown)),
    )


def _named(error: BaseException, seed: int) -> BaseException:
    """An error that says at which seed it happened."""
    error.args = (f"seed {seed}: {error}", *error.args[1:])
    return error

"""``seeds``: the minimizers of many initializations, without training."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from whichmin._bars import tqdm
from whichmin.checkpoint import network_of
from whichmin.decision import Decision
from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.dynamics.predict import predict
from whichmin.errors import WhichminError
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.recipe.recipe import Recipe
from whichmin.studies.initializations import ModelFactory, check_seeds, check_test, few_threads, initializations
from whichmin.studies.seed_spread import SeedSpread
from whichmin.tangent.context import own_context
from whichmin.task import Task

_DELAY = 2.0


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
    progress: bool = False,
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
        progress: show a bar on standard error if it takes longer than two seconds.

    Returns:
        A :class:`SeedSpread`: outputs (seeds, n_test, C).

    Cost: as many predictions; each about a kernel and an eigendecomposition, O((N·C)³), and a linearization.

    Raises:
        InputError: fewer than two seeds, a task without test inputs, and whatever ``predict`` refuses; the message
            names the seed.
        ModelError: not a factory; one that returns one object twice or ignores its seed.
    """
    numbers = check_seeds(seeds)
    check_test(task)
    recipe = Recipe.of(optimizer, batch_size, seed, scheduler)
    started = time.perf_counter()
    tests, errors, notes = [], [], []
    models = zip(numbers, initializations(model_factory, numbers), strict=True)
    bar = tqdm(models, total=len(numbers), unit="seed", delay=_DELAY, leave=False, disable=not progress)
    for number, model in bar:
        try:
            with few_threads(network_of(model), task):
                prediction = predict(model, task, recipe, steps=steps, until=until, relinearize=relinearize, tol=tol)
        except WhichminError as error:
            error.args = (f"seed {number}: {error}", *error.args[1:])
            raise
        assert prediction.test is not None
        tests.append(prediction.test)
        errors.append(prediction.error)
        notes += [f"seed {number}: {note}" for note in prediction.notes]
    test = torch.stack(tests)
    return SeedSpread(
        task,
        test,
        torch.tensor(errors, dtype=torch.float64),
        torch.from_numpy(Decision.of(task).labels(test)),
        time.perf_counter() - started,
        tuple(notes),
    )

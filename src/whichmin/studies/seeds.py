"""``seeds``: the minimizers of many initializations, without training."""

from __future__ import annotations

import time

import torch
from tqdm import tqdm

from whichmin.decision import Decision
from whichmin.dynamics.paths.predictor import Relinearize
from whichmin.dynamics.predict import predict
from whichmin.errors import WhichminError
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.studies.initializations import ModelFactory, check_seeds, check_test, few_threads, initializations
from whichmin.studies.seed_spread import SeedSpread
from whichmin.task import Task

_DELAY = 2.0


def seeds(
    model_factory: ModelFactory,
    task: Task,
    optimizer: OptimizerFactory,
    n: int = 100,
    *,
    until: float | None = None,
    steps: float = float("inf"),
    relinearize: Relinearize = "auto",
    tol: float = 2e-2,
    batch_size: int | None = None,
    batch_seed: int = 0,
    scheduler: SchedulerFactory | None = None,
    progress: bool = False,
) -> SeedSpread:
    """How far the minimizer depends on the initialization: n seeds, predicted without training.

    f_s(x') is the predicted network of seed s; the spread at x' is √(1/(n−1) Σ_s (f_s(x') − f̄(x'))²), and its flip
    probability the share of seeds that do not decide as the majority does.

    Args:
        model_factory: called with the seeds 0 … n − 1; a network of its own for each. torch's global generator is
            seeded alike during the call.
        task: the data, with test inputs.
        optimizer: a factory, as for :func:`whichmin.predict`; ``lr="best"`` is settled for each seed.
        n: how many initializations, 2 or more.
        until: as for ``predict``.
        steps: as for ``predict``; a single number.
        relinearize: as for ``predict``.
        tol: as for ``predict``; the default costs about half of ``predict``'s own and is mostly below what seeds
            differ by. ``SeedSpread.error`` tells what came of it.
        batch_size: as for ``predict``.
        batch_seed: of the order of the batches, the same for all seeds: the spread is the initialization's alone.
        scheduler: as for ``predict``.
        progress: show a bar on standard error if it takes longer than two seconds.

    Returns:
        A :class:`SeedSpread`: outputs (n, n_test, C).

    Cost: n predictions; about n times (a kernel and an eigendecomposition, O((N·C)³), a linearization).

    Raises:
        InputError: n below 2, a task without test inputs, and whatever ``predict`` refuses; the message names the seed.
        ModelError: not a factory; one that returns one object twice or ignores its seed.
    """
    count = check_seeds(n, "n")
    check_test(task)
    started = time.perf_counter()
    tests, errors, notes = [], [], []
    bar = tqdm(
        initializations(model_factory, count),
        total=count,
        unit="seed",
        delay=_DELAY,
        leave=False,
        disable=not progress,
    )
    for seed, model in enumerate(bar):
        try:
            with few_threads(model, task):
                found = predict(
                    model,
                    task,
                    optimizer,
                    steps=steps,
                    until=until,
                    relinearize=relinearize,
                    tol=tol,
                    batch_size=batch_size,
                    seed=batch_seed,
                    scheduler=scheduler,
                )
        except WhichminError as error:
            error.args = (f"seed {seed}: {error}", *error.args[1:])
            raise
        assert found.test is not None
        tests.append(found.test)
        errors.append(found.error)
        notes += [f"seed {seed}: {note}" for note in found.notes]
    test = torch.stack(tests)
    return SeedSpread(
        test,
        task.y_test,
        torch.tensor(errors, dtype=torch.float64),
        torch.from_numpy(Decision.of(task).labels(test)),
        time.perf_counter() - started,
        tuple(notes),
    )

"""``seeds``: the minimizers of many initializations, without training."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from whichmin.dynamics.paths.job import Relinearize
from whichmin.dynamics.predict import predict
from whichmin.errors import WhichminError
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.studies.initializations import ModelFactory, check_seeds, check_test, few_threads, initializations
from whichmin.task import Task

if TYPE_CHECKING:
    import pandas as pd

_DELAY = 2.0


@dataclass(frozen=True, eq=False)
class SeedSpread:
    """The minimizers of n initializations, seeds 0 … n − 1.

    Attributes:
        test: predicted test outputs, (n, n_test, C).
        y_test: test targets, (n_test, C), or None.
        error: estimated root mean square error of each prediction, (n,), float64, in the units of the outputs.
        labels: the class that each network decides for, (n, n_test), int64: for one output the side of the middle of
            the two target values (of 0 where there are not two), for several the largest output.
        seconds: what it took.
        notes: what the predictions remarked, each with its seed.
    """

    test: Tensor
    y_test: Tensor | None
    error: Tensor
    labels: Tensor
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> Tensor:
        """Mean output over seeds, (n_test, C): the prediction of the ensemble."""
        return self.test.mean(dim=0)

    @property
    def spread(self) -> Tensor:
        """Standard deviation over seeds, (n_test, C), with n − 1 in the denominator."""
        return self.test.std(dim=0)

    @property
    def majority(self) -> Tensor:
        """The label that most seeds decide for, (n_test,), int64; of several the least."""
        votes = torch.nn.functional.one_hot(self.labels).sum(dim=0)
        return torch.from_numpy(votes.numpy().argmax(axis=-1))

    @property
    def flip_probability(self) -> Tensor:
        """Share of seeds whose label is not the majority's, (n_test,), float64."""
        return (self.labels != self.majority).double().mean(dim=0)

    @property
    def test_error(self) -> Tensor | None:
        """Mean square test error of each seed, (n,), float64; None without test targets."""
        if self.y_test is None:
            return None
        return (self.test.double() - self.y_test.double()).square().flatten(1).mean(dim=1)

    def to_frame(self) -> pd.DataFrame:
        """One row per test point and output: ``point``, ``output``, ``mean``, ``spread``, ``majority``, flips."""
        import pandas as pd

        n, outputs = self.mean.shape
        columns = {
            "point": torch.arange(n).repeat_interleave(outputs),
            "output": torch.arange(outputs).repeat(n),
            "mean": self.mean.double().reshape(-1),
            "spread": self.spread.double().reshape(-1),
            "majority": self.majority.repeat_interleave(outputs),
            "flip_probability": self.flip_probability.repeat_interleave(outputs),
        }
        if self.y_test is not None:
            columns["target"] = self.y_test.double().reshape(-1)
        return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a result folder (see ``whichmin.storage``)."""
        from whichmin.storage import save_folder

        arrays = {"test": self.test, "error": self.error, "labels": self.labels}
        if self.y_test is not None:
            arrays["y_test"] = self.y_test
        save_folder(path, {"kind": "seeds", "seconds": self.seconds, "notes": list(self.notes)}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SeedSpread:
        """Read a folder that :meth:`save` wrote."""
        from whichmin.storage import load_folder

        config, arrays, _ = load_folder(path, "seeds")
        return cls(
            arrays["test"],
            arrays.get("y_test"),
            arrays["error"],
            arrays["labels"],
            config["seconds"],
            tuple(config["notes"]),
        )


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
        torch.from_numpy(decide(task, test)),
        time.perf_counter() - started,
        tuple(notes),
    )


def decide(task: Task, outputs: Tensor) -> np.ndarray:
    """The class that each of (S, n, C) outputs decides for, (S, n), int64."""
    from whichmin.report.flips import Decision

    rule = Decision.of(task)
    return np.stack([rule(one) for one in outputs.double().cpu().numpy()])

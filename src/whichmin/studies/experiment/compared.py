"""What the entries of several choices say beside each other: a comparison of what is predicted and trained anyway."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from whichmin.studies.comparison import Comparison, Failure, filled, notices
from whichmin.studies.experiment.choices import choices_of
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry

#: Of the tests of all pairs together.
LEVEL = 0.05


def compared(entries: Sequence[Entry], experiment: Experiment) -> Comparison | None:
    """The comparison of an experiment's choices, made of its entries; nothing is computed again.

    Args:
        entries: of :func:`whichmin.studies.experiment.run`.
        experiment: what was asked.

    Returns:
        What :func:`whichmin.compare` answers; None of one choice or one seed, and without test inputs.
    """
    choices, seeds = choices_of(experiment), experiment.initializations
    task = next((found for entry in entries if (found := entry.known_task) is not None), None)
    if len(choices) < 2 or len(seeds) < 2 or task is None or task.X_test is None:
        return None
    rows = {c.name: entries[i * len(seeds) : (i + 1) * len(seeds)] for i, c in enumerate(choices)}
    kind = "trained" if experiment.train else "predicted"
    failures = [
        Failure(name, seed, kind, str(entry.failure))
        for name, row in rows.items()
        for seed, entry in zip(seeds, row, strict=True)
        if entry.failure is not None
    ]
    networks = tuple(dict.fromkeys(choice.network for choice in choices if choice.network))
    return Comparison(
        task,
        {name: _outputs([_predicted(entry) for entry in row], entries) for name, row in rows.items()},
        {name: _numbers([e.prediction and e.prediction.error for e in row]) for name, row in rows.items()},
        {name: _outputs([e.run and e.run.test for e in row], entries) for name, row in rows.items()}
        if experiment.train
        else None,
        {name: _numbers([_steps(entry) for entry in row]) for name, row in rows.items()},
        LEVEL,
        0.0,
        tuple(failures),
        tuple(notices(LEVEL, len(seeds), len(choices))),
        {"until": experiment.until, "steps": experiment.steps, "tol": experiment.tol},
        networks,
        sum(entry.reused for entry in entries) * (2 if experiment.train else 1),
    )


def _predicted(entry: Entry) -> Tensor | None:
    return None if entry.prediction is None else entry.prediction.test


def _steps(entry: Entry) -> float | None:
    steps = None if entry.prediction is None else entry.prediction.steps
    return float(steps) if isinstance(steps, int | float) else None


def _outputs(outputs: list[Tensor | None], entries: Sequence[Entry]) -> Tensor:
    like = next(test for entry in entries if (test := _predicted(entry)) is not None)
    return filled(outputs, like)


def _numbers(values: list[float | None]) -> Tensor:
    return torch.tensor([math.nan if value is None else value for value in values], dtype=torch.float64)

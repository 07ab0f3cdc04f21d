"""How far a sweep is, from what its store holds."""

from __future__ import annotations

import os
from dataclasses import dataclass

from whichmin.jobs.store import Store
from whichmin.studies.sweep import GridLike, Plan, check_size, read_grids


@dataclass(frozen=True)
class SweepStatus:
    """How far a sweep is.

    Attributes:
        done: runs that are finished.
        running: runs that a living process is at.
        left: runs that are neither of these, nor failed.
        failures: runs that failed, with the reason, a sentence each.
        seconds_left: of computing, by the mean of the runs that are done; None where none is.
    """

    done: int
    running: int
    left: int
    failures: tuple[str, ...]
    seconds_left: float | None

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Done, running, failed, left."""
        return self.done, self.running, len(self.failures), self.left


def sweep_status(
    grid: GridLike, *, store: str | os.PathLike[str], train: bool | None = None, yes: bool = False
) -> SweepStatus:
    """What is done, running, failed and left of a sweep; nothing is done or written.

    Args:
        grid: as for :func:`whichmin.sweep`.
        store: as there.
        train: as there.
        yes: as there.

    Raises:
        ConfigError, DataError, ResultError: as there.
    """
    grids = read_grids(grid, train)
    check_size(grids, yes)
    plan, kept = Plan.of(grids), Store.existing(store)
    labels = plan.labels()
    seconds: list[float] = []
    failures: list[str] = []
    running = 0
    for number, run in enumerate(plan.runs):
        measured = kept.read(run.question, run.read) if kept.has(run.question) else None
        if measured is not None:
            seconds.append(measured.numbers["seconds"])
        elif kept.is_claimed(run.question):
            running += 1
        elif (failure := kept.failure(run.question)) is not None:
            failures.append(f"{labels[number]}: {failure}")
    left = len(plan.runs) - len(seconds) - running - len(failures)
    mean = sum(seconds) / len(seconds) if seconds else None
    return SweepStatus(len(seconds), running, left, tuple(failures), None if mean is None else mean * (left + running))

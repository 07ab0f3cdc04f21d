"""How far a sweep is, from what its store holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from whichmin.errors import ConfigError
from whichmin.jobs.store import Standing, Store
from whichmin.studies.sweep import GridLike, Plan, check_size, read_grids, request_of
from whichmin.studies.sweeping.request import requests_in


@dataclass(frozen=True)
class SweepStatus:
    """How far a sweep is.

    Attributes:
        done: runs that are finished.
        running: runs that a living process is at.
        left: runs that are neither of these, nor failed.
        failures: runs that failed, with the reason, a sentence each.
        seconds_left: of computing, by the mean of the runs that are done; None where none is.
        parts: of each sweep that was asked of the store, by its grids; sweeps may share runs.
    """

    done: int
    running: int
    left: int
    failures: tuple[str, ...]
    seconds_left: float | None
    parts: Mapping[str, SweepStatus] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Done, running, failed, left."""
        return self.done, self.running, len(self.failures), self.left


def sweep_status(
    grid: GridLike | None = None, *, store: str | os.PathLike[str], train: bool | None = None, yes: bool = False
) -> SweepStatus:
    """What is done, running, failed and left of a sweep; nothing is done or written.

    Args:
        grid: as for :func:`whichmin.sweep`; None for all that was asked of the store, as it says itself.
        store: as there.
        train: as there, of a grid.
        yes: as there, of a grid.

    Raises:
        ConfigError: a store of which nothing was asked; the grid as there.
        DataError, ResultError: as there.
    """
    kept = Store.existing(store)
    if grid is None:
        requests = requests_in(kept)
        if not requests:
            raise ConfigError(
                f"{store} does not say what was asked of it: no sweep was started there, or by a version that did not "
                "note it. Name the file of the grid as well."
            )
    else:
        grids = read_grids(grid, train)
        check_size(grids, yes)
        requests = [request_of(grids, Plan.of(grids))]
    labels = {name: label for request in requests for name, label in request.runs.items()}
    standings = {name: kept.standing(name) for name in labels}
    parts = {request.label: _counted({name: standings[name] for name in request.runs}, labels) for request in requests}
    return replace(_counted(standings, labels), parts=parts)


def _counted(standings: Mapping[str, Standing], labels: Mapping[str, str]) -> SweepStatus:
    seconds = [standing.config["numbers"]["seconds"] for standing in standings.values() if standing.config is not None]
    failures = [f"{labels[name]}: {found.failure}" for name, found in standings.items() if found.failure is not None]
    running = sum(standing.is_running for standing in standings.values())
    left = len(standings) - len(seconds) - running - len(failures)
    mean = sum(seconds) / len(seconds) if seconds else None
    return SweepStatus(len(seconds), running, left, tuple(failures), None if mean is None else mean * (left + running))

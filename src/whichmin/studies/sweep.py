"""``sweep``: a grid of predictions and trainings, each done once, here or on any executor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from whichmin.errors import ConfigError
from whichmin.jobs.executors import check_count, workplace
from whichmin.jobs.perform import Terms
from whichmin.jobs.progress import performed, progress_bar
from whichmin.jobs.store import Failure, Store
from whichmin.studies.experiment.config import read_config
from whichmin.studies.remarks import told_once
from whichmin.studies.sweeping.data import Fingerprints
from whichmin.studies.sweeping.grid import Cell, Grid
from whichmin.studies.sweeping.request import Request
from whichmin.studies.sweeping.run import Kind, Measured, Run
from whichmin.studies.swept import Done, Sweep, label_of, varied_keys

#: Cells that are not begun without being asked for by ``yes``.
MANY = 10_000
GridLike = Mapping[str, Any] | Sequence[Mapping[str, Any]] | str | os.PathLike[str]
T = TypeVar("T")


def sweep(
    grid: GridLike,
    *,
    store: str | os.PathLike[str],
    executor: Executor | Any | None = None,
    train: bool | None = None,
    retry: bool = False,
    workers: int | None = None,
    threads: int = 1,
    yes: bool = False,
    progress: bool = False,
) -> Sweep:
    """Every combination of data, networks, optimizers and remedies: predicted, and trained where that is asked.

    A sweep that was interrupted goes on where it was when it is started again, and several in one store, also on
    several machines, do nothing twice. Results are the same to the last digit however that went: runs are computed with
    ``threads`` threads each, and the ways that predictions take do not depend on the speed of the machine.

    Args:
        grid: keys as in a configuration file of the command line, of which lists are axes: ``{"scale": [0.5, 1.0],
            "width": [128, 512], "optimizer": ["sgd", "adam:lr=1e-3"], "seeds": 4}``. ``seeds`` are as many
            initializations, or a list of their numbers; ``width`` and ``depth`` make the hidden layers, or ``hidden``,
            as in ``[[64, 64], [128]]``; ``mitigation`` names remedies of :func:`whichmin.mitigate`, for whose choice
            ``validation``, a share of the training points, is held out in every cell. Also several such grids, one
            after the other, or the path of a file with one.
        store: a folder in whose ``runs`` each finished run is kept, named by the hash of its resolved configuration
            with the versions of whichmin and torch and a fingerprint of the data. Failures are kept in ``failures``,
            what was asked in ``sweeps``.
        executor: any ``concurrent.futures.Executor``: Dask's ``client.get_executor()``, also submitit's. None for
            processes of this machine.
        train: whether to train as well; None for what the grid says, and no if it says nothing.
        retry: whether what failed before is tried again.
        workers: how many processes, as many as have room on the cores by default; 0 to compute in this process. With an
            ``executor`` it has workers of its own.
        threads: how many threads a run computes with.
        yes: whether a grid of more than 10,000 cells is meant.
        progress: show a bar with the time left on standard error if it takes longer than two seconds.

    Returns:
        A :class:`Sweep`: ``to_frame()`` has a row for each cell.

    Cost: a prediction for each cell, and a training where that is asked for; beside, a lock and some files for each.

    Raises:
        ConfigError: a grid with nothing in it, or that cannot be read; more than 10,000 cells without ``yes``.
        DataError: data that cannot be had.
        InputError: an executor, or numbers of workers or threads, that cannot be used.
        OutputError: ``store`` cannot be written to, such as on a full disk; what is finished is kept.
        ResultError: a store of another layout.
        WhichminError: the executor does not work any more.
    """
    grids = read_grids(grid, train)
    check_size(grids, yes)
    check_count(threads, "threads", "threads of each run")
    check_count(0 if workers is None else workers, "workers", "processes", least=0)
    plan = Plan.of(grids)
    kept = Store.open(store)
    request_of(grids, plan).write(kept)
    with workplace(executor, workers, threads, len(plan.runs)) as there:
        found, reused = _performed(plan, Terms(kept, retry, there, threads), progress)
    return _package(plan, found, kept, reused)


@dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
        cells: of all grids, in order.
        keys: of all grids.
        runs: each once.
        numbers: of each cell, by kind, the number of its run.
    """

    cells: tuple[Cell, ...]
    keys: tuple[str, ...]
    runs: tuple[Run, ...]
    numbers: tuple[Mapping[Kind, int], ...]

    @classmethod
    def of(cls, grids: Sequence[Grid]) -> Plan:
        """The runs of some grids; cells that ask for the same share theirs.

        Raises:
            ConfigError: values that cannot be used, or code that cannot be had.
            DataError: data that cannot be had.
        """
        fingerprints = Fingerprints()
        cells = tuple(cell for grid in grids for cell in grid.cells())
        keys = tuple(dict.fromkeys(key for grid in grids for key in grid.axes if key != "seeds"))
        known: dict[str, int] = {}
        runs: list[Run] = []
        numbers: list[dict[Kind, int]] = []
        for cell in cells:
            kinds: tuple[Kind, ...] = ("predicted", "trained") if cell.experiment.train else ("predicted",)
            of_cell: dict[Kind, int] = {}
            for kind in kinds:
                run = Run.of(kind, cell, fingerprints)
                of_cell[kind] = known.setdefault(run.question.name, len(runs))
                runs += [run] if of_cell[kind] == len(runs) else []
            numbers.append(of_cell)
        return cls(cells, (*keys, "seeds"), tuple(runs), tuple(numbers))

    def labels(self) -> dict[int, str]:
        """What each run is about."""
        said: dict[int, str] = {}
        varied = varied_keys(self.cells, self.keys)
        for row, of_cell in enumerate(self.numbers):
            for kind, number in of_cell.items():
                said.setdefault(number, f"{label_of(self.cells[row], varied)}, {kind}")
        return said


def request_of(grids: Sequence[Grid], plan: Plan) -> Request:
    """What is asked of a store, as it notes it."""
    labels = plan.labels()
    return Request.of(grids, {run.question.name: labels[number] for number, run in enumerate(plan.runs)})


def read_grids(grid: GridLike, train: bool | None) -> list[Grid]:
    """One or several grids, of mappings or a file.

    Raises:
        ConfigError: they cannot be read, or have nothing in them.
    """
    if isinstance(grid, str | os.PathLike):
        return [Grid.of(read_config(grid), str(Path(grid)), train)]
    if isinstance(grid, Mapping):
        return [Grid.of(grid, train=train)]
    if not isinstance(grid, Sequence) or not grid:
        raise ConfigError(
            f"the grid is {grid!r}; expected keys and values, of which lists are axes, such as "
            '{"scale": [0.5, 1.0], "seeds": 4}, a list of such grids, or the path of a file.'
        )
    return [Grid.of(one, f"grid {i}", train) for i, one in enumerate(grid)]


def check_size(grids: Sequence[Grid], yes: bool) -> None:
    """Refuse a grid that is larger than anyone means, before anything is made of it.

    Raises:
        ConfigError: says how large it is.
    """
    size = sum(grid.size for grid in grids)
    if size > MANY and not yes:
        lengths = " × ".join(f"{len(v)} {k}" for k, v in grids[0].axes.items() if len(v) > 1)
        raise ConfigError(
            f"the grid has {size:,} cells ({lengths}), more than {MANY:,}: pass --yes (in Python yes=True) if that is "
            "meant."
        )


def _performed(plan: Plan, terms: Terms, progress: bool) -> tuple[dict[int, Measured | Failure], int]:
    """What came of each run, and how many were finished before."""
    found: dict[int, Measured | Failure] = {}
    reused = 0
    with progress_bar(len(plan.runs), "run", progress) as bar:
        for number, attempt in performed(plan.runs, terms, bar):
            came = attempt.answer if attempt.failure is None else attempt.failure
            assert came is not None
            found[number] = came
            reused += attempt.is_old and attempt.failure is None
    return found, reused


def _package(plan: Plan, found: Mapping[int, Measured | Failure], store: Store, reused: int) -> Sweep:
    runs: list[dict[str, Done]] = []
    for of_cell in plan.numbers:
        done = {kind: _done(plan.runs[number], found[number]) for kind, number in of_cell.items()}
        predicted, trained = (_test(found, of_cell.get(kind)) for kind in ("predicted", "trained"))
        if predicted is not None and trained is not None:
            mse = float((predicted.double() - trained.double()).square().mean())
            done["trained"] = replace(done["trained"], mse=mse)
        runs.append(done)
    return Sweep(plan.cells, plan.keys, tuple(runs), str(store.out), _notes(plan, found), reused)


def _notes(plan: Plan, found: Mapping[int, Measured | Failure]) -> tuple[str, ...]:
    """What runs remarked."""
    remarks: list[tuple[str, str]] = []
    for number, label in plan.labels().items():
        came = found[number]
        remarks += [(label, note) for note in ([] if isinstance(came, Failure) else came.numbers["notes"])]
    return tuple(told_once({"": remarks}, "run"))


def _done(run: Run, came: Measured | Failure) -> Done:
    if isinstance(came, Failure):
        return Done(run.question, None, came)
    return Done(run.question, came.numbers)


def _test(found: Mapping[int, Measured | Failure], number: int | None) -> Any:
    came = None if number is None else found[number]
    return None if came is None or isinstance(came, Failure) else came.arrays.get("test")

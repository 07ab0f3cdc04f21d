"""``whichmin sweep``: a grid of predictions and trainings, each done once."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from whichmin.cli.options import Asking, Train, parsed
from whichmin.cli.tables import aligned, print_json
from whichmin.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from whichmin.studies.sweep_status import SweepStatus
    from whichmin.studies.swept import Sweep

#: Rows of the table, and reasons of failures, that are printed; a file has them all.
ROWS, REASONS = 40, 5
_SHOWN = (
    ("test_loss_predicted", "test error, predicted"),
    ("test_loss_trained", "trained"),
    ("accuracy_predicted", "accuracy, predicted"),
    ("accuracy_trained", "trained"),
    ("mse_to_trained", "distance"),
)


def sweep(
    config: Annotated[
        Path | None,
        Parameter(help="A .toml or .json file of the other commands' options; a list is an axis, seeds = 4 four."),
    ] = None,
    *,
    axes: Asking = Asking(),  # noqa: B008
    store: Annotated[Path, Parameter(help="Folder of finished runs.")] = Path("whichmin-out"),
    csv: Annotated[Path | None, Parameter(help="File for the table.", show_default=False)] = None,
    train: Train = None,
    status: Annotated[
        bool,
        Parameter(
            help="Say what is done, running, failed and left, and do nothing; without a file, of all that was asked of "
            "the store.",
            negative="",
        ),
    ] = False,
    retry: Annotated[bool, Parameter(help="Try again what failed before.", negative="")] = False,
    workers: Annotated[
        int | None,
        Parameter(help="Processes; 0 for none beside this one. [default: as the cores allow]", show_default=False),
    ] = None,
    threads: Annotated[int, Parameter(help="Threads of each run.")] = 1,
    dask: Annotated[
        str | None,
        Parameter(help="A Dask scheduler, tcp://host:8786, or local for a cluster here.", show_default=False),
    ] = None,
    slurm: Annotated[bool, Parameter(help="Run as Slurm jobs, by submitit.", negative="")] = False,
    slurm_set: Annotated[
        tuple[str, ...],
        Parameter(
            help="Settings of the jobs as submitit calls them, such as timeout_min=60 or slurm_partition=gpu.",
            show_default=False,
            negative="",
        ),
    ] = (),
    yes: Annotated[bool, Parameter(help="Begin a grid of more than 10,000 cells.", negative="")] = False,
    json: Annotated[
        bool,
        Parameter(help="One JSON object on standard output instead of the table.", negative="", show_default=False),
    ] = False,
) -> int:
    """Every combination of data, networks, optimizers and remedies, predicted or trained, each once.

    The keys of the file are those of the other commands' --config, with width, depth, mitigation and validation beside
    them; options are axes too, over those of the file: --optimizer sgd,adam --scale 0.5,1 is a grid of four. The same
    command again goes on where it was interrupted; several at once, also on several machines, share the work.
    Results are in the store, never in a scheduler; it notes what was asked of it, for --status.
    """
    from whichmin.studies.sweep import check_size, read_grids, sweep
    from whichmin.studies.sweep_status import sweep_status

    said = parsed(axes)
    if status and config is None and not said:
        return _print_status(sweep_status(store=store), json)
    grid = _grid(config, said)
    check_size(read_grids(grid, train), yes)
    if status:
        return _print_status(sweep_status(grid, store=store, train=train, yes=yes), json)
    options = {"train": train, "retry": retry, "workers": workers, "threads": threads, "yes": yes}
    try:
        with contextlib.redirect_stdout(sys.stderr), _executor(dask, slurm, slurm_set, workers, store) as executor:
            swept = sweep(grid, store=store, executor=executor, progress=True, **options)
            frame = swept.to_frame()
            written = {} if csv is None else {"csv": _written(csv, frame)}
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"finished runs are kept in {store}; the same command again goes on from there."
        ) from None
    if json:
        rows = [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]
        said = {"rows": rows, "failures": list(swept.failures), "notes": list(swept.notes), "reused": swept.reused}
        print_json(said, written)
    else:
        _print(swept, frame)
        print(f"\nruns: {store.resolve()}" + "".join(f"\n{name}: {path}" for name, path in written.items()))
    return int(bool(swept.failures))


def _grid(config: Path | None, axes: dict[str, Any]) -> Path | dict[str, Any]:
    """The file, or its keys with those of the command line over them.

    Raises:
        ConfigError: there is neither.
    """
    from whichmin.studies.experiment.config import read_config

    if config is not None and not axes:
        return config
    if not axes:
        raise ConfigError("name a file of the grid, or its axes by options, such as --optimizer sgd,adam --seeds 4.")
    file = {} if config is None else read_config(config)
    return {name.replace("-", "_"): value for name, value in file.items()} | axes


@contextlib.contextmanager
def _executor(
    dask: str | None, slurm: bool, settings: tuple[str, ...], workers: int | None, store: Path
) -> Iterator[Any]:
    """What was asked for: an executor, or None for processes of this machine."""
    if dask is not None and slurm:
        raise ConfigError("got --dask and --slurm: name one place to run in.")
    if settings and not slurm:
        raise ConfigError("--slurm-set says how Slurm jobs are made: pass --slurm as well, or leave it out.")
    from whichmin.jobs.clusters import dask_executor, slurm_executor

    if slurm:
        yield slurm_executor(store / "slurm", _settings(settings))
    elif dask is not None:
        with dask_executor(dask, workers) as executor:
            yield executor
    else:
        yield None


def _settings(texts: tuple[str, ...]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--slurm-set is {text!r}; expected name=value, such as timeout_min=60.")
        settings[name] = int(value) if value.isdigit() else value
    return settings


def _written(csv: Path, frame: pd.DataFrame) -> Path:
    from whichmin.storage import write_text

    write_text(csv, frame.to_csv(index=False, lineterminator="\n"))
    return csv.resolve()


def _plain(value: Any) -> Any:
    """A cell of a table as JSON has it; missing ones are none."""
    import pandas as pd

    return None if value is pd.NA else value


def _print(swept: Sweep, frame: pd.DataFrame) -> None:
    """Means over initializations, and what failed."""
    from whichmin.studies.sweeping.grid import COLUMNS

    keys = [COLUMNS.get(key, key) for key in swept.keys if key != "seeds"]
    varied = [key for key in keys if len(set(map(str, frame[key]))) > 1]
    shown = [(name, text) for name, text in _SHOWN if name in frame and bool(frame[name].notna().any())]
    groups: Any = frame.groupby([frame[key].astype(str) for key in varied], sort=False) if varied else [(("",), frame)]
    rows = [[", ".join(varied) or "cell", "runs", *(text for _, text in shown)]]
    for label, group in groups:
        cells = [_written_spread(group[name]) for name, _ in shown]
        rows.append([", ".join(map(str, label)), str(len(group)), *cells])
    print(*aligned(rows[: ROWS + 1]), sep="\n")
    if len(rows) > ROWS + 1:
        print(f"… {len(rows) - 1} rows in all: --csv FILE writes them")
    print("\n" + textwrap.fill(" ".join(swept._finding()), 100))
    if swept.reused:
        from whichmin.report.comparison import reused_sentence

        print(reused_sentence(swept.reused, len(swept.distinct)))
    _print_reasons(swept.failures)
    for note in swept.notes[:REASONS]:
        print(textwrap.fill(f"note: {note}", 100, subsequent_indent="      "))
    if len(swept.notes) > REASONS:
        print(f"note: {len(swept.notes) - REASONS} more of these are in the store.")


def _written_spread(column: Any) -> str:
    """Mean and standard deviation of what is known, a dash where nothing is."""
    import numpy as np

    from whichmin.report.numbers import MISSING, number

    known = np.asarray(column.dropna(), float)
    if not len(known):
        return MISSING
    std = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    return f"{number(float(known.mean()))} ± {number(std, 2)}"


def _print_status(status: SweepStatus, json: bool) -> int:
    if json:
        parts = [{"grid": label} | _counts(part) for label, part in status.parts.items()]
        print_json(_counts(status) | {"failures": status.failures, "sweeps": parts})
        return 0
    print(*aligned([["done", "running", "failed", "left"], list(map(str, status.counts))]), sep="\n")
    if len(status.parts) > 1:
        for label, part in status.parts.items():
            said = ", ".join(f"{count} {name}" for name, count in _counts(part).items())
            print("\n" + textwrap.fill(f"{label}: {said}", 100, subsequent_indent="  "))
    if status.seconds_left is not None:
        print(f"\nabout {status.seconds_left:.3g} s of computing are left, going by the runs that are done")
    _print_reasons(status.failures)
    return 0


def _counts(status: SweepStatus) -> dict[str, int]:
    return dict(zip(("done", "running", "failed", "left"), status.counts, strict=True))


def _print_reasons(failures: tuple[str, ...]) -> None:
    for reason in failures[:REASONS]:
        print(textwrap.fill(f"failed: {reason}", 100, subsequent_indent="        "))
    if len(failures) > REASONS:
        print(f"failed: {len(failures) - REASONS} more; they are tried again with --retry.")

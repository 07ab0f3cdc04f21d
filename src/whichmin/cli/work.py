"""What the commands have in common once the question is known: run it, write the report, print the answer."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whichmin.cli.asked import Asked
from whichmin.cli.comparison import comparison_json, print_comparison
from whichmin.cli.format import format_distances, format_table, headline, notes, to_json
from whichmin.cli.options import Output
from whichmin.cli.tables import print_json, written_to
from whichmin.studies.experiment.choices import choices_of
from whichmin.studies.experiment.compared import compared
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.experiment.runner import iterate
from whichmin.studies.experiment.summary import optimizers, table

if TYPE_CHECKING:
    import pandas as pd

    from whichmin.studies.comparison import Comparison


def answer(asked: Asked, output: Output) -> int:
    """Run an experiment and print its answer; of several choices also their comparison.

    Args:
        asked: what is asked.
        output: where the answer goes.

    Returns:
        The exit code: 0, or 1 where a choice or a seed failed and others did not.

    Raises:
        WhichminError: see :func:`whichmin.studies.experiment.iterate`.
        KeyboardInterrupt: Ctrl-C, with what is kept and how to go on.
    """
    experiment = asked.experiment
    entries = _entries(experiment, output.out)
    frame = table(entries)
    with contextlib.redirect_stdout(sys.stderr):
        comparison = compared(entries, experiment)
        written = _written(asked, entries, frame, comparison, output.out)
    if output.json:
        _print_json(asked, entries, frame, comparison, written)
    else:
        _print(asked, entries, frame, comparison, written)
    return int(any(entry.failure is not None for entry in entries))


def _written(
    asked: Asked, entries: list[Entry], frame: pd.DataFrame, comparison: Comparison | None, out: Path
) -> dict[str, Path]:
    from whichmin.report import write_report

    def write(report: Path) -> None:
        write_report(report, entries, title=headline(asked.experiment), config=_asked(asked.experiment))

    written = written_to(out, asked.command, write, frame.rename_axis("entry").reset_index())
    if comparison is None:
        return written
    beside = written_to(out, f"{asked.command}-comparison", comparison.report, comparison.to_frame())
    return written | {"comparison_report": beside["report"], "comparison_csv": beside["csv"]}


def _print_json(
    asked: Asked,
    entries: list[Entry],
    frame: pd.DataFrame,
    comparison: Comparison | None,
    written: dict[str, Path],
) -> None:
    from whichmin.report.entry_view import entry_views
    from whichmin.report.optimizer_distances import optimizer_distances

    numbers = to_json(frame, entries, optimizer_distances(entry_views(entries)))
    beside = {} if comparison is None else {"comparison": comparison_json(comparison)}
    print_json({"config": asked.to_dict(), **numbers, **beside, "notes": notes(entries)}, written)


def _print(
    asked: Asked,
    entries: list[Entry],
    frame: pd.DataFrame,
    comparison: Comparison | None,
    written: dict[str, Path],
) -> None:
    from whichmin.report.entry_view import entry_views, loss_label
    from whichmin.report.optimizer_distances import optimizer_distances

    views = entry_views(entries)
    parts = [headline(asked.experiment)]
    parts.append(format_table(frame.rename(index=_marked(entries)), optimizers(entries), loss_label(views)))
    distances = optimizer_distances(views) if comparison is None else None
    print(*parts, *([format_distances(distances)] if distances else []), sep="\n\n")
    for note in notes(entries):
        print(textwrap.fill(f"note: {note}", 100, subsequent_indent="      "))
    if comparison is not None:
        print("\n" + textwrap.fill(f"A comparison of {len(comparison.names)}: {'; '.join(comparison.names)}.", 100))
        print()
        print_comparison(comparison)
    print(f"\nreport: {written['report']}")
    if comparison is not None:
        print(f"comparison: {written['comparison_report']}")


def _asked(experiment: Experiment) -> dict[str, Any]:
    """The configuration with optimizers and learning rates as a reader wants them."""
    named_optimizers = experiment.optimizer
    said: dict[str, Any] = {}
    for name, value in experiment.to_dict().items():
        said[name] = [named.label for named in named_optimizers] if name == "optimizer" else value
        if name == "optimizer":
            said["lr"] = ["its own" if named.lr is None else named.lr for named in named_optimizers]
    return said


def _marked(entries: list[Entry]) -> dict[str, str]:
    return {entry.label: f"{entry.label} (failed)" for entry in entries if entry.failure is not None}


def _entries(experiment: Experiment, out: Path) -> list[Entry]:
    """Every choice and seed; what a model of the caller's prints goes to standard error."""
    entries: list[Entry] = []
    seeds = len(experiment.initializations)
    total = seeds * len(choices_of(experiment))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            entries.extend(iterate(experiment, out=out, progress=True))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(entries)} of {total} {'seeds' if total == seeds else 'runs'} finished, "
            f"kept in {out / 'runs'}; the same command again goes on from there."
        ) from None
    return entries

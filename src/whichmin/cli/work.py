"""What the commands have in common once the question is known: run it, write the report, print the answer."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from pathlib import Path
from typing import Any

from whichmin.cli.format import format_distances, format_table, headline, notes, to_json
from whichmin.cli.options import Output
from whichmin.cli.tables import print_json, written_to
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.experiment.runner import iterate
from whichmin.studies.experiment.summary import optimizers, table


def answer(experiment: Experiment, output: Output) -> int:
    """Run an experiment and print its answer.

    Args:
        experiment: what is asked.
        output: where the answer goes.

    Returns:
        The exit code: 0, or 1 where an optimizer or a seed failed and others did not.

    Raises:
        WhichminError: see :func:`whichmin.studies.experiment.iterate`.
        KeyboardInterrupt: Ctrl-C, with what is kept and how to go on.
    """
    entries = _entries(experiment, output.out)
    frame = table(entries)
    failed = int(any(entry.failure is not None for entry in entries))
    with contextlib.redirect_stdout(sys.stderr):
        from whichmin.report import write_report
        from whichmin.report.entry_view import entry_views, loss_label
        from whichmin.report.optimizer_distances import optimizer_distances

        def write(report: Path) -> None:
            write_report(report, entries, title=headline(experiment), config=_asked(experiment))

        written = written_to(output.out, write, frame.rename_axis("entry").reset_index())
    views = entry_views(entries)
    distances = optimizer_distances(views)
    if output.json:
        numbers = to_json(frame, entries, distances)
        print_json({"config": experiment.to_dict(), **numbers, "notes": notes(entries)}, written)
        return failed
    parts = [headline(experiment)]
    parts.append(format_table(frame.rename(index=_marked(entries)), optimizers(entries), loss_label(views)))
    print(*parts, *([format_distances(distances)] if distances else []), sep="\n\n")
    for note in notes(entries):
        print(textwrap.fill(f"note: {note}", 100, subsequent_indent="      "))
    print(f"\nreport: {written['report']}")
    return failed


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
    """Every optimizer and seed; what a model of the caller's prints goes to standard error."""
    entries: list[Entry] = []
    total = experiment.seeds * len(experiment.optimizer)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            entries.extend(iterate(experiment, out=out, progress=True))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(entries)} of {total} {'seeds' if total == experiment.seeds else 'runs'} finished, "
            f"kept in {out / 'runs'}; the same command again goes on from there."
        ) from None
    return entries

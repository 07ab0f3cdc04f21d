"""What the commands have in common once the question is known: run it, write the report, print the answer."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from whichmin.cli.asked import Asked
from whichmin.cli.comparison import comparison_json, print_comparison
from whichmin.cli.format import format_distances, format_table, headline, notes, to_json
from whichmin.cli.options import Output
from whichmin.cli.record import Record
from whichmin.cli.tables import print_json, print_notes, written_to
from whichmin.studies.experiment.choices import choices_of
from whichmin.studies.experiment.compared import compared
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.experiment.runner import iterate
from whichmin.studies.experiment.summary import optimizers, table, way_of

if TYPE_CHECKING:
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
    with contextlib.redirect_stdout(sys.stderr):
        comparison = compared(entries, experiment)
        task = next(task for entry in entries if (task := entry.known_task) is not None)
        record = Record.of_asked(asked, task)
        written = _written(record, asked, entries, comparison, output.out)
    if output.json:
        _print_json(asked, entries, record, comparison, written)
    else:
        _print(asked, entries, record, comparison, written)
    return int(any(entry.failure is not None for entry in entries))


def _written(
    record: Record, asked: Asked, entries: list[Entry], comparison: Comparison | None, out: Path
) -> dict[str, Path]:
    from whichmin.report.pages.comparison import comparison_page
    from whichmin.report.pages.entries import entries_page

    said = record.page(out)
    page = entries_page(entries, title=headline(asked.experiment), config=said)
    frame = table(entries).rename_axis("entry").reset_index()
    written = written_to(out, asked.command, page, frame) | record.write(out)
    if comparison is None:
        return written
    beside = written_to(
        out, f"{asked.command}-comparison", comparison_page(comparison, asked=said), comparison.to_frame()
    )
    return written | {"comparison_report": beside["report"], "comparison_csv": beside["csv"]}


def _print_json(
    asked: Asked, entries: list[Entry], record: Record, comparison: Comparison | None, written: dict[str, Path]
) -> None:
    from whichmin.report.entry_view import entry_views
    from whichmin.report.optimizer_distances import optimizer_distances

    numbers = to_json(table(entries), entries, optimizer_distances(entry_views(entries)))
    beside = {} if comparison is None else {"comparison": comparison_json(comparison)}
    said = {"notes": notes(entries), "differences": list(record.differences)}
    said |= {"reused": sum(entry.reused for entry in entries)}
    print_json({"config": asked.to_dict(), **numbers, **beside, **said}, written)


def _print(
    asked: Asked, entries: list[Entry], record: Record, comparison: Comparison | None, written: dict[str, Path]
) -> None:
    from whichmin.report.comparison import reused_sentence
    from whichmin.report.entry_view import entry_views, loss_label
    from whichmin.report.optimizer_distances import optimizer_distances

    views = entry_views(entries)
    frame = table(entries).rename(index=_marked(entries))
    way = way_of(entry.relinearized for entry in entries)
    parts = [headline(asked.experiment), format_table(frame, optimizers(entries), loss_label(views), way)]
    distances = optimizer_distances(views) if comparison is None else None
    print(*parts, *([format_distances(distances)] if distances else []), sep="\n\n")
    said = reused_sentence(sum(entry.reused for entry in entries), len(entries))
    print(*([said] if said else []), sep="\n", end="\n" if said else "")
    print_notes(notes(entries))
    if comparison is not None:
        print("\n" + textwrap.fill(f"A comparison of {len(comparison.names)}: {'; '.join(comparison.names)}.", 100))
        print()
        print_comparison(comparison)
    print_notes(record.differences)
    print(f"\nreport: {written['report']}")
    if comparison is not None:
        print(f"comparison: {written['comparison_report']}")


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

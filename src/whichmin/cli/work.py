"""What the commands have in common once the question is known: run it, write the report, print the answer."""

from __future__ import annotations

import contextlib
import json
import sys
import textwrap
from pathlib import Path

from whichmin._version import __version__
from whichmin.cli.format import format_table, headline, notes, to_json
from whichmin.cli.options import Output
from whichmin.experiment.config import Experiment
from whichmin.experiment.runner import iterate
from whichmin.experiment.summary import table
from whichmin.report.entry import Entry


def answer(experiment: Experiment, output: Output) -> int:
    """Run an experiment and print its answer.

    Args:
        experiment: what is asked.
        output: where the answer goes.

    Returns:
        The exit code 0.

    Raises:
        WhichminError: see :func:`whichmin.experiment.iterate`.
        KeyboardInterrupt: Ctrl-C, with what is kept and how to go on.
    """
    entries = _entries(experiment, output.out)
    report = (output.out / "report.html").resolve()
    frame = table(entries)
    with contextlib.redirect_stdout(sys.stderr):
        from whichmin.report import write_report

        write_report(report, entries, title=headline(experiment), config=experiment.to_dict())
    if output.json:
        said = {"whichmin": __version__, "config": experiment.to_dict(), **to_json(frame), "notes": notes(entries)}
        print(json.dumps(said | {"report": str(report)}, allow_nan=False))
        return 0
    print(headline(experiment), format_table(frame), sep="\n\n")
    for note in notes(entries):
        print(textwrap.fill(f"note: {note}", 100, subsequent_indent="      "))
    print(f"\nreport: {report}")
    return 0


def _entries(experiment: Experiment, out: Path) -> list[Entry]:
    """Every seed; what a model of the caller's prints goes to standard error."""
    entries: list[Entry] = []
    try:
        with contextlib.redirect_stdout(sys.stderr):
            entries.extend(iterate(experiment, out=out, progress=True))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{len(entries)} of {experiment.seeds} seeds finished, kept in {out / 'runs'}; "
            "the same command again goes on from there."
        ) from None
    return entries

"""A page of entries: seeds and optimizers, predicted, trained and explained."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from whichmin.decomposition.explanation import MEANINGS
from whichmin.errors import InputError
from whichmin.report.drawing import Section
from whichmin.report.entries_finding import headline, lazy_sentences
from whichmin.report.entry_view import EntryView, by_optimizer, entry_views, term_names, way_of_all
from whichmin.report.figures import sections_of
from whichmin.report.flips import flips
from whichmin.report.optimizer_distances import optimizer_distances
from whichmin.report.page import render
from whichmin.report.quantities import FEW, laziness_rows, summary
from whichmin.report.settings import asked_of
from whichmin.report.tables import cells_of
from whichmin.storage import write_text
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.remarks import without_numbers

if TYPE_CHECKING:
    import pandas as pd

#: Of a note that is about more entries than this the first is named.
NAMED = 3
TITLE = "Which minimizer does this network converge to?"


def write_report(
    path: str | os.PathLike[str],
    entries: Sequence[Entry],
    *,
    title: str | None = None,
    config: Mapping[str, Any] | None = None,
    table: pd.DataFrame | None = None,
) -> None:
    """Write a report as one HTML file that needs nothing else: figures and styles are inside, nothing is loaded.

    Parts that the entries do not have, such as a run, test targets or an explanation, are left out.

    Args:
        path: the file; folders above it are made, a file of that name is replaced.
        entries: one per seed or choice, in the order to be shown.
        title: the heading.
        config: what was asked; nested mappings are flattened.
        table: a table of the caller's own, shown above the one that is computed from the entries.

    Raises:
        InputError: there are no entries.
        OutputError: the file cannot be written.
    """
    if all(entry.failure is not None for entry in entries):
        raise InputError("a report of no entries: pass at least one Entry with a prediction, a run or an explanation.")
    write_text(path, entries_page(entries, title=title, config=config, table=table))


def entries_page(
    entries: Sequence[Entry],
    *,
    title: str | None = None,
    config: Mapping[str, Any] | None = None,
    table: pd.DataFrame | None = None,
) -> str:
    """The page as text; arguments as for :func:`write_report`."""
    views = entry_views(entries)
    sections = {section.id: section for section in sections_of("entries", views)}
    groups, distances, contested = by_optimizer(views), optimizer_distances(views), flips(views)
    return render(
        "entries.html.j2",
        {
            "title": title or TITLE,
            "finding": headline(views, contested, distances),
            "asked": asked_of(views, config or {}),
            "labels": [view.label for view in views],
            "few": len(views) <= FEW and not groups,
            "optimizers": [(name, len(part)) for name, part in groups.items()],
            "distances": distances,
            "groups": summary(views),
            "classes": any(view.accuracy(kind) is not None for view in views for kind in view.outputs),
            "own": None if table is None else cells_of(table),
            "compared": sections.pop("apart", None),
            "figures": list(sections.values()),
            "terms": _term_sections(views),
            "meanings": _meanings(views),
            "flips": contested,
            "lazy": lazy_sentences(views),
            "certificates": laziness_rows(views),
            "failed": [(entry.label, str(entry.failure)) for entry in entries if entry.failure is not None],
            "notes": _notes(views),
        },
    )


def _term_sections(entries: Sequence[EntryView]) -> list[tuple[str | None, Section]]:
    """The figures of the terms of each optimizer; its name is None where there is only one."""
    parts = list(by_optimizer(entries).items()) or [(None, list(entries))]
    return [
        (name, section)
        for place, (name, part) in enumerate(parts)
        for section in sections_of("optimizer", part, f"-{place}" if place else "")
    ]


def _meanings(entries: Sequence[EntryView]) -> list[tuple[str, str]]:
    return [(name, MEANINGS.get(name, "a term of the caller’s own")) for name in term_names(entries)]


def _notes(entries: Sequence[EntryView]) -> list[tuple[str, str]]:
    """Notes with the entries that they are about; of those that differ by their numbers alone the first."""
    alike: dict[str, dict[str, str]] = {}
    for view in entries:
        for note in _remarks(view):
            alike.setdefault(without_numbers(note), {}).setdefault(view.label, note)
    return [(next(iter(notes.values())), _about(list(notes), len(entries))) for notes in alike.values()]


def _remarks(view: EntryView) -> list[str]:
    notes = []
    for kind, p in (("one linearization", view.linearized), (way_of_all([view]), view.relinearized)):
        notes += [f"Prediction, {kind}: {note}" for note in (p.notes if p is not None else ())]
    if view.run is not None:
        notes += [f"Training: {note}" for note in view.run.notes]
        if view.run.until is not None and not view.run.converged:
            notes.append(f"Training stopped short of its aim: {view.run.reason}")
    return notes


def _about(labels: Sequence[str], entries: int) -> str:
    """Whose a note is."""
    if len(labels) == entries > 1:
        return "all"
    return "; ".join(labels) if len(labels) <= NAMED else f"{labels[0]}, and the like of {len(labels) - 1} more"

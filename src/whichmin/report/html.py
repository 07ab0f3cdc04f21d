"""One self-contained HTML file: gather what there is, render the template, put the file in place whole."""

from __future__ import annotations

import numbers
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whichmin.errors import InputError, OutputError
from whichmin.report.apart import apart, by_optimizer
from whichmin.report.figures.of_entries import figures, term_figures
from whichmin.report.finding import headline, lazy_sentences
from whichmin.report.flips import flips
from whichmin.report.numbers import number
from whichmin.report.page import template
from whichmin.report.summary import FEW, laziness_rows, summary
from whichmin.report.view import View, last_steps, term_names, views
from whichmin.studies.experiment.entry import Entry

if TYPE_CHECKING:
    import pandas as pd

#: Names under which a configuration may already say what the entries tell.
_ALIASES = {
    "training points": {"n", "n_train", "train"},
    "test points": {"n_test", "test"},
    "optimizer": {"optim"},
    "learning rate": {"lr", "learning_rate"},
    "train until": {"until"},
    "steps predicted": {"steps"},
}
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
    write_page(path, render(entries, title=title, config=config, table=table))


def render(
    entries: Sequence[Entry],
    *,
    title: str | None = None,
    config: Mapping[str, Any] | None = None,
    table: pd.DataFrame | None = None,
) -> str:
    """The page as text; arguments as for :func:`write_report`."""
    shown = views(entries)
    groups, distances = by_optimizer(shown), apart(shown)
    contested = flips(shown)
    return template("report.html.j2").render(
        title=title or TITLE,
        finding=headline(shown, contested, distances),
        asked=_asked(shown, config or {}),
        labels=[view.label for view in shown],
        few=len(shown) <= FEW and not groups,
        optimizers=[(name, len(part)) for name, part in groups.items()],
        apart=distances,
        groups=summary(shown),
        own=None if table is None else _own_table(table),
        figures=figures(shown),
        terms=term_figures(shown),
        meanings=_meanings(shown),
        flips=contested,
        lazy=lazy_sentences(shown),
        certificates=laziness_rows(shown),
        failed=[(entry.label, str(entry.failure)) for entry in entries if entry.failure is not None],
        notes=_notes(shown),
        versions=_versions(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def write_page(path: str | os.PathLike[str], page: str) -> None:
    """Put a page in place under a temporary name first, so that it is there whole or not at all.

    Args:
        path: the file; folders above it are made, a file of that name is replaced.
        page: the text, written as UTF-8.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder: pass the name of the file to write, such as {path / 'report.html'}.")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(page)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}. Choose a place you may write to.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _asked(shown: Sequence[View], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The configuration, and after it what the entries tell and the configuration does not."""
    asked = dict(_flat(config))
    given = {word for name in asked for word in name.lower().split(".")}
    return list(asked.items()) + [(k, v) for k, v in _facts(shown) if not given & ({k} | _ALIASES.get(k, set()))]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _said(value)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(v) for v in value) or "none"
    return "none" if value is None else str(value)


def _facts(shown: Sequence[View]) -> Iterator[tuple[str, str]]:
    tasks = [v.task for v in shown if v.task is not None]
    runs = [v.run for v in shown if v.run is not None]
    predictions = [p for v in shown if (p := v.prediction) is not None]
    if tasks:
        yield "training points", _range(t.n for t in tasks)
        yield "test points", _range(t.n_test for t in tasks)
        yield "outputs", _range(t.outputs for t in tasks)
    if runs:
        yield "optimizer", ", ".join(dict.fromkeys(r.optimizer for r in runs))
    rates = [x.learning_rate for x in runs or predictions]
    if rates:
        yield "learning rate", _range(rates)
    aims = [r.until for r in runs if r.until is not None]
    if aims:
        yield "train until", _range(aims)
    if predictions:
        yield "steps predicted", _range(last_steps(p) for p in predictions)
        if any(p.flow for p in predictions):
            yield "dynamics", "gradient flow"


def _range(values: Iterable[float]) -> str:
    """One text for values that are mostly alike: ``3``, or ``3 to 5``."""
    kept = list(values)
    low, high = (
        f"{v:,.0f}" if float(v).is_integer() else _said(float(v)).replace("inf", "∞") for v in (min(kept), max(kept))
    )
    return low if low == high else f"{low} to {high}"


def _own_table(table: pd.DataFrame) -> dict[str, Any]:
    """Header and cells of a data frame: (text, whether it is a number)."""
    from pandas import RangeIndex

    frame = table if isinstance(table.index, RangeIndex) else table.reset_index()

    def cell(value: Any) -> tuple[str, bool]:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return ("" if value is None else _said(value)), False
        return number(int(value) if isinstance(value, numbers.Integral) else float(value)), True

    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return {"columns": [str(c) for c in frame.columns], "rows": rows}


def _meanings(shown: Sequence[View]) -> list[tuple[str, str]]:
    from whichmin.decomposition.explanation import MEANINGS

    return [(name, MEANINGS.get(name, "a term of the caller’s own")) for name in term_names(shown)]


def _notes(shown: Sequence[View]) -> list[tuple[str, str]]:
    """Each note once, with the entries it is about."""
    told: dict[str, list[str]] = {}
    for view in shown:
        for kind, p in (("linearized", view.linearized), ("along the path", view.relinearized)):
            for note in p.notes if p is not None else ():
                told.setdefault(f"Prediction, {kind}: {note}", []).append(view.label)
        if view.run is not None and view.run.until is not None and not view.run.converged:
            told.setdefault(f"Training stopped short of its aim: {view.run.reason}", []).append(view.label)
    return [(note, "all" if len(about) == len(shown) > 1 else ", ".join(about)) for note, about in told.items()]


def _versions() -> list[tuple[str, str]]:
    import torch

    from whichmin._version import __version__

    return [("whichmin", __version__), ("torch", torch.__version__), ("python", platform.python_version())]

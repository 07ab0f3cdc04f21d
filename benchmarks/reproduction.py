"""The papers' figures in small, with the numbers that their verdicts and drawings need.

    WHICHMIN_DATA=folder python benchmarks/reproduction.py --out whichmin-reproduction [--full FIGURE …]

is ``whichmin reproduce --all --quick`` and stores results/reproduction.json, of which the documentation makes its page;
with ``--full`` it is ``whichmin reproduce FIGURE …`` in the papers' own settings, and results/reproduction-full.json;
with ``--device cuda`` the networks that take hours on a CPU are trained too.
Measurements that lie in ``--out`` already, also by that command, are not made again. Some ten minutes on two cores;
hours in full.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _environment import store

from whichmin.papers import drawing
from whichmin.papers.claims import Verdict
from whichmin.papers.figure import PAPERS, PaperFigure, Size
from whichmin.papers.registry import figures
from whichmin.papers.reproduce import reproduce
from whichmin.papers.reproduced import Reproduced

#: The arrays that a figure's drawing shows, and how its points are spread along the axis; other arrays are not stored.
DRAWN = {
    drawing.curves: {"curve_steps": np.geomspace, "curve_losses": np.geomspace},
    drawing.trajectories: {"path": np.linspace},
    drawing.initialization: {"search_scales": np.linspace, "search_losses": np.linspace},
}
#: Points of such an array that are stored.
POINTS = 101
#: Digits of a number that are stored.
DIGITS = 5


def packed(found: Iterable[Reproduced]) -> dict[str, Any]:
    """Figures as plain values: of each its verdicts, and what is drawn of its tables, column by column."""
    return {
        one.figure.path: {
            "seconds": _plain(one.seconds),
            "failures": list(one.failures),
            "verdicts": {kind: [_verdict(v) for v in verdicts] for kind, verdicts in one.verdicts.items()},
            "tables": {kind: _columns(t, DRAWN.get(one.figure.draw, {})) for kind, t in one.tables.items()},
        }
        for one in found
    }


def unpacked(stored: Mapping[str, Any]) -> list[Reproduced]:
    """The figures that :func:`packed` stored.

    Raises:
        ValueError: a claim that has changed since.
    """
    found = []
    for path, of in stored.items():
        figure = figures()[path]
        tables = {kind: pd.DataFrame(_read(columns)) for kind, columns in of["tables"].items()}
        verdicts = {kind: [_judged(figure, v) for v in verdicts] for kind, verdicts in of["verdicts"].items()}
        found.append(Reproduced(figure, tables, verdicts, tuple(of["failures"]), of["seconds"]))
    return found


def _verdict(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim
    numbers = {f.name: _plain(getattr(verdict, f.name)) for f in fields(verdict) if f.name != "claim"}
    return {"says": claim.says, "quantity": claim.quantity, "expected": claim.expected} | numbers


def _judged(figure: PaperFigure, stored: Mapping[str, Any]) -> Verdict:
    said = [stored[name] for name in ("says", "quantity", "expected")]
    for claim in figure.claims:
        if [claim.says, claim.quantity, claim.expected] == said:
            numbers = {f.name: _number(stored[f.name]) for f in fields(Verdict) if f.name != "claim"}
            return Verdict(claim, **numbers)
    raise ValueError(f"{figure.path} has no claim {' '.join(said)!r} any more: run benchmarks/reproduction.py again.")


def _columns(table: pd.DataFrame, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as lists; one that is the same in every row as a single value."""
    columns = {str(n): [_plain(v) for v in table[n]] for n in table if not _has_arrays(table[n])}
    for name in (name for name in arrays if name in table):
        columns[name] = [_plain(_thinned(array, arrays[name])) for array in table[name]]
    return {
        n: v[0] if len(v) > 1 and not isinstance(v[0], list) and all(w == v[0] for w in v) else v
        for n, v in columns.items()
    }


def _read(columns: Mapping[str, Any]) -> dict[str, list[Any]]:
    rows = max((len(values) for values in columns.values() if isinstance(values, list)), default=1)
    lists = {n: values if isinstance(values, list) else [values] * rows for n, values in columns.items()}
    return {n: [_number(v) for v in values] for n, values in lists.items()}


def _has_arrays(column: pd.Series) -> bool:
    return any(getattr(value, "ndim", 0) > 0 for value in column)


def _thinned(array: Any, spread: Callable[..., np.ndarray]) -> Any:
    """At most so many points of an array; what is none, where a row has none, as it is."""
    if not isinstance(array, np.ndarray) or len(array) <= POINTS:
        return array
    return array[np.unique(spread(1, len(array), POINTS).round().astype(int)) - 1]


def _plain(value: Any) -> Any:
    """A value as JSON has it; a number that is not finite by its name."""
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)


def _number(value: Any) -> Any:
    """What :func:`_plain` was given."""
    if isinstance(value, list):
        return np.asarray([_number(v) for v in value], float)
    return float(value) if value in ("nan", "inf", "-inf") else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("whichmin-reproduction"), help="where measurements are kept")
    parser.add_argument("--workers", type=int, help="processes; 0 for none")
    parser.add_argument("--device", default="cpu", help="where networks are trained that take hours on a CPU")
    parser.add_argument("--full", nargs="+", metavar="FIGURE", help="figures in the papers' own settings")
    options = parser.parse_args()
    names, quick = options.full or tuple(PAPERS), options.full is None
    size = Size(quick=quick, device=options.device)
    found = reproduce(names, options.out, size, workers=options.workers, progress=True)
    name = "reproduction" if quick else "reproduction-full"
    print(
        store(name, packed(found), {"quick": quick, "workers": options.workers, "threads": 1, "device": options.device})
    )


if __name__ == "__main__":
    main()

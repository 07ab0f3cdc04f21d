"""``reproduction.html``: every claim with its verdict, disagreements first, and every figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from whichmin.papers.claims import Verdict
from whichmin.papers.figure import PAPERS, Size
from whichmin.papers.reproduced import KINDS, Reproduced
from whichmin.report.numbers import MISSING, number
from whichmin.report.page import render
from whichmin.report.svg import inline_svg

if TYPE_CHECKING:
    import pandas as pd

#: Verdicts in the order in which they are shown.
ORDER = ("disagrees", "undecided", "agrees")


def reproduction_page(found: Sequence[Reproduced], size: Size) -> str:
    """The page as text."""
    rows = sorted(_rows(found), key=lambda row: ORDER.index(row["answer"]))
    figures = [_figure(one) for one in found]
    asked = [("size", "quick" if size.quick else "as in the papers"), ("ways", ", ".join(size.kinds))]
    asked += [] if size.data is None else [("data", size.data)]
    asked += [] if size.device == "cpu" else [("device", size.device)]
    return render(
        "reproduction.html.j2",
        {
            "title": "The papers, reproduced",
            "finding": finding(found),
            "asked": asked,
            "claims": rows,
            "figures": figures,
        },
    )


def finding(found: Sequence[Reproduced]) -> list[str]:
    """How many claims hold, in a sentence, and which do not."""
    rows = _rows(found)
    counts = {answer: sum(row["answer"] == answer for row in rows) for answer in ORDER}
    said = [
        f"Of {_count(len(rows), 'verdict')} on {_count(len(found), 'figure')} the papers' claim holds in "
        f"{counts['agrees']}, does not in {counts['disagrees']}, and is undecided in {counts['undecided']}."
    ]
    failed = sum(len(one.failures) for one in found)
    return said + ([f"{_count(failed, 'measurement')} failed."] if failed else [])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def claims_frame(found: Sequence[Reproduced]) -> pd.DataFrame:
    """A row for each claim and way.

    Columns: ``figure``, ``kind``, ``says``, ``quantity``, ``expected``, ``mean``, ``spread``, ``count``, ``slack``,
    ``unfitted``, ``answer``.
    """
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "figure": one.figure.path,
                "kind": kind,
                "says": verdict.claim.says,
                "quantity": verdict.claim.quantity,
                "expected": verdict.claim.expected,
                "mean": verdict.mean,
                "spread": verdict.spread,
                "count": verdict.count,
                "slack": verdict.slack,
                "unfitted": verdict.unfitted,
                "answer": verdict.answer,
            }
            for one in found
            for kind, verdicts in one.verdicts.items()
            for verdict in verdicts
        ]
    )


def measured(verdict: Verdict) -> str:
    """What was measured, with its spread."""
    if not verdict.count:
        return "nothing"
    spread = "" if verdict.claim.exact or not verdict.spread > 0 else f" ± {number(verdict.spread)}"
    return f"{number(verdict.mean)}{spread}"


def _rows(found: Sequence[Reproduced]) -> list[dict[str, Any]]:
    return [
        _row(verdict, kind) | {"path": one.figure.path, "id": _id(one)}
        for one in found
        for kind, verdicts in one.verdicts.items()
        for verdict in verdicts
    ]


def _row(verdict: Verdict, kind: str) -> dict[str, Any]:
    return {
        "answer": verdict.answer,
        "kind": KINDS[kind].lower(),
        "says": verdict.claim.says,
        "quantity": verdict.claim.quantity,
        "expected": verdict.claim.expected,
        "measured": measured(verdict),
        "count": verdict.count,
        "unfitted": verdict.unfitted,
        "slack": MISSING if math.isnan(verdict.slack) else number(verdict.slack),
    }


def _figure(one: Reproduced) -> dict[str, Any]:
    figure, drawn = one.figure, None
    if one.tables:
        drawn = Markup(inline_svg(one.plot(), f"fig-{_id(one)}", figure.title))
    return {
        "id": _id(one),
        "path": figure.path,
        "content": figure.content,
        "title": figure.title,
        "about": figure.about,
        "paper": PAPERS[figure.paper],
        "svg": drawn,
        "rows": [_row(v, kind) for kind, verdicts in one.verdicts.items() for v in verdicts],
        "chosen": figure.chosen,
        "failures": one.told_failures,
        "seconds": number(one.seconds),
        "csv": f"{figure.path}.csv",
    }


def _id(one: Reproduced) -> str:
    return one.figure.path.replace("/", "-")

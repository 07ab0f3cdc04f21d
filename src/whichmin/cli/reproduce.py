"""``whichmin reproduce``: the papers' figures, with a verdict on each of their claims."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from whichmin.cli.tables import print_json
from whichmin.errors import ConfigError

if TYPE_CHECKING:
    from whichmin.papers.reproduced import Reproduced


def reproduce(
    *names: Annotated[
        str,
        Parameter(help="Figures, such as which-minimizer/fig2 or initialization; or a paper for all of its figures."),
    ],
    all: Annotated[bool, Parameter(help="Every figure.", negative="")] = False,
    list: Annotated[bool, Parameter(help="Say which figures there are.", negative="")] = False,
    quick: Annotated[bool, Parameter(help="Small widths and few seeds: minutes, not hours.", negative="")] = False,
    predicted: Annotated[
        bool, Parameter(help="Predict only. [default: both]", negative="", show_default=False)
    ] = False,
    trained: Annotated[bool, Parameter(help="Train only. [default: both]", negative="", show_default=False)] = False,
    data: Annotated[str | None, Parameter(help="Data in place of the figure's own, such as digits.")] = None,
    workers: Annotated[
        int | None, Parameter(help="Processes; 0 for none. [default: one for each core]", show_default=False)
    ] = None,
    device: Annotated[
        str, Parameter(help="Where networks are trained that take hours on a CPU: cuda, cuda:1.")
    ] = "cpu",
    retry: Annotated[bool, Parameter(help="Try again what failed before.", negative="")] = False,
    out: Annotated[Path, Parameter(help="Folder of reproduction.html, the figures and the measurements.")] = Path(
        "whichmin-reproduction"
    ),
    json: Annotated[bool, Parameter(help="One JSON object instead of the table.", negative="")] = False,
) -> int:
    """Figures of the papers made again, and whether what was measured agrees with what they claim.

    Each gives a PNG, an SVG and a CSV; reproduction.html collects them with the verdict on every claim, disagreements
    first. Finished measurements are kept in --out: the same command again goes on where it was interrupted.

    Exit code 1 if a measurement failed; a claim that does not hold is a result.
    """
    if list:
        return _list(json)
    if all == bool(names):
        raise ConfigError(
            "say which figures: names such as which-minimizer/fig2, or --all; --list says which there are."
        )
    from whichmin.papers.figure import PAPERS, Kind, Size
    from whichmin.papers.reproduce import reproduce as make

    if predicted and trained:
        raise ConfigError("got --predicted and --trained: leave both out to see them side by side.")
    kinds: tuple[Kind, ...] = ("predicted",) if predicted else ("trained",) if trained else ("predicted", "trained")
    size = Size(quick, kinds, data, device)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found = make(tuple(PAPERS) if all else names, out, size, workers=workers, retry=retry, progress=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"finished measurements are kept in {out / 'runs'}; the same command again goes on from there."
        ) from None
    page = (out / "reproduction.html").resolve()
    if json:
        from whichmin.papers.page import claims_frame

        print_json({"claims": claims_frame(found).to_dict("records")}, {"report": page})
    else:
        _print(found)
        print(f"\nreport: {page}")
    return int(any(one.failures for one in found))


def _list(json: bool) -> int:
    from whichmin.papers.registry import figures

    known = figures()
    if json:
        print_json({"figures": {path: {"content": f.content, "title": f.title} for path, f in known.items()}})
        return 0
    for path, figure in known.items():
        print(f"{path}  ({figure.content}): {figure.title}")
    return 0


def _print(found: list[Reproduced]) -> None:
    from whichmin.papers.page import ORDER, finding, measured

    verdicts = [(v, kind, one) for one in found for kind, of in one.verdicts.items() for v in of]
    for answer in ORDER:
        for verdict, kind, one in verdicts:
            if verdict.answer == answer:
                print(f"{answer}: {one.figure.path}, {kind}: {verdict.claim.says}")
                said = f"{verdict.claim.quantity}: {measured(verdict)}; expected {verdict.claim.expected}."
                said += f" {verdict.unfitted} networks were left unfitted and do not count." if verdict.unfitted else ""
                print(textwrap.indent(textwrap.fill(said, 96), "    "))
    print("\n" + " ".join(finding(found)))
    failures = Counter(text for one in found for text in one.told_failures)
    for text in failures:
        print(textwrap.fill(f"failed: {text}", 100, subsequent_indent="      "))

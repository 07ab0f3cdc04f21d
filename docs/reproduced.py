"""What the page of the papers' reproduction shows, made from ``benchmarks/results/reproduction.json`` and ``-full``."""

from __future__ import annotations

import sys
from functools import cache
from html import escape

from figures import ROOT, stored
from IPython.display import HTML, Markdown

from whichmin.papers.figure import PAPERS
from whichmin.papers.page import ORDER, finding, measured
from whichmin.papers.reproduced import KINDS, Reproduced
from whichmin.report.page import fill
from whichmin.report.svg import inline_svg

sys.path.insert(0, str(ROOT / "benchmarks"))
from reproduction import unpacked

STYLE = """
.whichmin { max-width: none; }
.whichmin table { font-size: .82rem; margin: .5rem 0 1rem; }
.whichmin th, .whichmin td { vertical-align: top; min-width: 5rem; }
.whichmin tbody tr { border-top: 1px solid var(--rule); }
.whichmin .scroll svg.plot { width: auto; }
.whichmin .agrees { color: var(--green); font-weight: 700; }
.whichmin .disagrees { color: var(--red); font-weight: 700; }
.whichmin .undecided { color: var(--muted); font-weight: 700; }
.whichmin .of { color: var(--muted); }
@media (max-width: 40rem) {
  .whichmin .verdicts thead { display: none; }
  .whichmin .verdicts tr, .whichmin .verdicts td { display: block; }
  .whichmin .verdicts tr { padding: .5rem 0; }
}
"""


#: The stored runs: in small, and of some figures in the papers' own settings.
SMALL, FULL = "reproduction", "reproduction-full"


@cache
def figures(run: str = SMALL) -> tuple[Reproduced, ...]:
    """The stored figures with the verdicts of the claims as they are now."""
    return tuple(unpacked(stored(run)["results"]))


def sentences(run: str = SMALL) -> Markdown:
    """How many claims hold."""
    return Markdown(" ".join(finding(figures(run))))


def claims() -> HTML:
    """Every verdict, disagreements first."""
    return _panel(_table(figures(), linked=True))


def figure_sections(run: str = SMALL) -> HTML:
    """Every figure with its verdicts."""
    return _panel("".join(_section(one, run) for one in figures(run)))


def environment(run: str = SMALL) -> Markdown:
    """The machine, the versions and the date; how long it took in all."""
    at = stored(run)["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in at["versions"].items())
    gpu = f" and one {at['accelerator']}" if at.get("accelerator") else ""
    minutes = sum(one.seconds for one in figures(run)) / 60
    return Markdown(
        f"{at['date']}, {versions}, {at['processor']}, {at['cores']} cores{gpu}; {minutes:.0f} minutes of predicting "
        "and training, on one thread each."
    )


def _panel(inside: str) -> HTML:
    return HTML(f'<div class="whichmin"><style>{fill("notebook.css", {})}{STYLE}</style>{inside}</div>')


def _section(one: Reproduced, run: str) -> str:
    figure, name = one.figure, one.figure.path.replace("/", "-") + run.removeprefix(SMALL)
    drawn = inline_svg(one.plot(), f"fig-{name}", figure.title) if one.tables else ""
    chosen = f'<p class="of">Chosen here: {escape(" ".join(figure.chosen))}</p>' if figure.chosen else ""
    failed = "".join(f'<p class="of">Failed: {escape(text)}</p>' for text in one.told_failures)
    return (
        f'<h3 id="{name}">{escape(figure.path)}: {escape(figure.title)}</h3>'
        f'<p>{escape(figure.about)} <span class="of">{escape(PAPERS[figure.paper])}</span></p>'
        f'<div class="scroll">{drawn}</div>{_table([one], linked=False)}{chosen}{failed}'
    )


def _table(found: tuple[Reproduced, ...] | list[Reproduced], linked: bool) -> str:
    """Verdicts as a table, disagreements first."""
    rows = [(v, kind, one.figure.path) for one in found for kind, of_kind in one.verdicts.items() for v in of_kind]
    rows.sort(key=lambda row: ORDER.index(row[0].answer))
    heads = ["verdict", *(["figure"] if linked else []), "the paper", "what counts", "measured"]
    lines = []
    for verdict, kind, path in rows:
        counted = f"{verdict.count}; {verdict.unfitted} unfitted" if verdict.unfitted else f"{verdict.count}"
        cells = [
            f'<span class="{verdict.answer}">{verdict.answer}</span> <span class="of">{KINDS[kind].lower()}</span>'
        ]
        cells += [f'<a href="#{path.replace("/", "-")}">{path}</a>'] if linked else []
        cells += [escape(verdict.claim.says), escape(f"{verdict.claim.quantity}: {verdict.claim.expected}")]
        cells += [f'{measured(verdict)} <span class="of">({counted})</span>']
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table class="verdicts">{table}</table></div>'

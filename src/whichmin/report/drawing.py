"""What a figure of a page is, and the registry of them.

A figure is one file in ``whichmin.report.figures`` that ends in a :func:`register`; the pages draw whatever is
registered for what they show.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from whichmin.report.svg import inline_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The sections that take figures, with their headings in order, by what is shown: all entries of a report, those of one
#: optimizer, a comparison, remedies, a linear study, a width sweep, a trajectory, what is guaranteed before one, seeds,
#: rows left out, an infinitely wide network.
SECTIONS: dict[str, dict[str, str]] = {
    "entries": {
        "apart": "How the optimizers compare",
        "agreement": "Outputs compared",
        "training": "Training and the kernel",
    },
    "optimizer": {"terms": "What put the error there"},
    "comparison": {"pairs": "From the same seed, and beyond the seed"},
    "mitigation": {"remedies": "The remedies", "search": "The search by scale"},
    "study": {"convergence": "Convergence", "bias": "Which minimizer"},
    "sweep": {"bias": "Which minimizer"},
    "flow": {"convergence": "The trajectory"},
    "analysis": {"convergence": "What is guaranteed"},
    "seeds": {"outputs": "Outputs"},
    "leave-out": {"effects": "What leaving out changes"},
    "infinite": {"outputs": "Outputs"},
}


@dataclass(frozen=True)
class PageFigure:
    """A figure and where it stands.

    Attributes:
        name: of its own; the element is called ``fig-`` and the name.
        of: what it shows, a key of ``SECTIONS``.
        section: where it stands, one of the sections there.
        order: figures of a section stand in this order.
        draw: draws it, at about 4.6 inches wide; None where there is nothing to draw.
        title: what a screen reader says.
        caption: what to see in it, in sentences.
    """

    name: str
    of: str
    section: str
    order: int
    draw: Callable[[Any], Figure | None]
    title: Callable[[Any], str]
    caption: Callable[[Any], str]


@dataclass(frozen=True)
class Drawn:
    """A figure for the template.

    Attributes:
        svg: the inline SVG element.
        caption: what to see in it.
    """

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Section:
    """A section that has figures.

    Attributes:
        id: of the element.
        heading: its heading.
        figures: in order.
    """

    id: str
    heading: str
    figures: tuple[Drawn, ...]


_FIGURES: dict[tuple[str, str], PageFigure] = {}


def register(figure: PageFigure) -> None:
    """Put a figure on the pages that show what it is of; one of the same name and subject is replaced.

    Raises:
        ValueError: a section that these pages do not have.
    """
    sections = SECTIONS.get(figure.of, {})
    if figure.section not in sections:
        raise ValueError(
            f"figure {figure.name!r} is for the section {figure.section!r} of {figure.of!r}; expected one of "
            f"{', '.join(f'{of}: {section}' for of, sections in SECTIONS.items() for section in sections)}."
        )
    _FIGURES[figure.of, figure.name] = figure


def draw_sections(of: str, subject: Any, suffix: str = "") -> list[Section]:
    """The sections that have a figure to show, in order.

    Args:
        of: what is shown, a key of ``SECTIONS``.
        subject: the thing itself.
        suffix: of the elements' names, where a page shows several of a kind.
    """
    ordered = sorted((f for f in _FIGURES.values() if f.of == of), key=lambda f: (f.order, f.name))
    drawn: dict[str, list[Drawn]] = {}
    for figure in ordered:
        picture = figure.draw(subject)
        if picture is not None:
            svg = Markup(inline_svg(picture, f"fig-{figure.name}{suffix}", figure.title(subject)))
            drawn.setdefault(figure.section, []).append(Drawn(svg, figure.caption(subject)))
    return [Section(id, heading, tuple(drawn[id])) for id, heading in SECTIONS[of].items() if id in drawn]

"""A matplotlib figure as an inline SVG that takes the page's colours and font and shares no identifier with others."""

from __future__ import annotations

import io
import math
import re
from html import escape

from matplotlib.figure import Figure

from whichmin.report.palette import SMALL_FONT, VARIABLES, style

#: Pixels of the smallest text: on narrower screens a figure is not made smaller, but scrolled.
LEAST_TEXT = 11

_ID = re.compile(r'\sid="([^"]+)"')
_REFERENCE = re.compile(r'(?:xlink:href="#|url\(#)([^")]+)')


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an ``<svg>`` element to be put into HTML.

    Args:
        figure: what to draw; its background is left out.
        name: a prefix that is unique on the page.
        title: what a screen reader says.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return themed(_own_ids(_bare(buffer.getvalue()), name), name, title)


def themed(svg: str, name: str, title: str) -> str:
    """Colours become CSS variables, and the element gets its title."""
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    head = f'<svg class="plot" role="img" aria-labelledby="{name}-title" \\1><title id="{name}-title">'
    return re.sub(r"<svg ([^>]*)>", lambda m: head.replace("\\1", m[1]) + f"{escape(title)}</title>", svg, count=1)


def _bare(svg: str) -> str:
    """Only the drawing: no prolog, namespaces, metadata, fixed size, or styles that would hold for the whole page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    head = re.match(r"<svg[^>]*>", svg)
    assert head is not None
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head[0])
    assert box is not None
    points = float(box[1])
    sizes = f"max-width: {points * 96 / 72:.0f}px; min-width: {math.ceil(points * LEAST_TEXT / SMALL_FONT)}px"
    svg = f'<svg {box[0]} style="{sizes}">' + svg[head.end() :]
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    return re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), svg)


def _own_ids(svg: str, name: str) -> str:
    """Identifiers that something refers to get the prefix; the others go."""
    used = set(_REFERENCE.findall(svg))
    svg = _ID.sub(lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    return _REFERENCE.sub(lambda m: m[0].replace("xlink:href", "href")[: -len(m[1])] + f"{name}-{m[1]}", svg)

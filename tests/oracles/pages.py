"""A page as a reader and a browser see it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

VOID = {"meta", "img", "br", "link", "input", "hr"}


@contextmanager
def without_drawings() -> Iterator[None]:
    """Figures of a report are made, but of a drawing there are its title, names and remarks alone."""

    def texts(figure: Figure, name: str, title: str) -> str:
        said: list[Text] = []
        for ax in figure.axes:
            legend = ax.get_legend()
            said += [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts, *(legend.get_texts() if legend else ())]
        inside = "".join(f"<text>{escape(text.get_text())}</text>" for text in said if text.get_text())
        head = f'<svg class="plot" aria-labelledby="{name}-title"><title id="{name}-title">{escape(title)}</title>'
        return f"{head}{inside}</svg>"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whichmin.report.drawing.inline_svg", texts)
        yield


class Page(HTMLParser):
    """A parsed page: whether tags balance, its identifiers, section names, visible text, tables and pictures."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source, self.open, self.faults = source, [], []
        self.ids, self.sections, self.text, self.values, self.loads, self.tags = [], [], [], [], [], []
        self.references: list[str] = []
        self.feed(source)
        self.close()
        self.faults += self.open

    def handle_starttag(self, tag, attrs):
        self._note(tag, dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, dict(attrs))

    def _note(self, tag, attrs):
        self.tags.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "section":
            self.sections.append(attrs["id"])
        if tag == "data":
            self.values.append(attrs["value"])
        self.loads += [v for k, v in attrs.items() if k in ("src", "href", "xlink:href", "data", "action", "srcset")]
        self.references += re.findall(r"url\(([^)]*)\)", " ".join(v or "" for v in attrs.values()))
        self.references += [attrs[k] for k in ("aria-labelledby",) if k in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        """The visible text."""
        return re.sub(r"\s+", " ", " ".join(self.text))

    @property
    def finding(self) -> str:
        """The answer at the top."""
        return _words(re.search(r'<p class="finding">(.*?)</p>', self.source, flags=re.DOTALL)[1])

    @property
    def figures(self) -> list[str]:
        """The names of the figures, in order."""
        return re.findall(r'<svg class="plot"[^>]*aria-labelledby="fig-([\w-]+)-title"', self.source)

    def section(self, name: str) -> str:
        """The source of a section."""
        return re.search(rf'<section id="{name}">.*?</section>', self.source, flags=re.DOTALL)[0]

    def table(self, label: str) -> list[dict[str, str]]:
        """The rows of the table that a screen reader calls so, by the names of its columns."""
        region = rf'aria-label="{label}">(.*?)</table>'
        source = re.search(region, self.source, flags=re.DOTALL)[1]
        rows = [
            [_words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL)]
            for row in re.findall(r"<tr[^>]*>(.*?)</tr>", source, flags=re.DOTALL)
        ]
        return [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if len(row) == len(rows[0])]

    def assert_stands_alone(self) -> None:
        """Well formed, and nothing is loaded from elsewhere."""
        assert self.faults == []
        assert len(self.ids) == len(set(self.ids))
        for target in self.loads:
            assert target.startswith(("#", "data:image/png;base64,")), target
        for target in self.references:
            assert target.startswith("#") or target in self.ids, target
        inside = {t[1:] for t in self.loads + self.references if t.startswith("#")}
        assert inside <= set(self.ids)
        assert not re.search(r"https?://|@import|<script|<link|<iframe", self.source)


def _words(source: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", source)).replace("\u00a0", " ").strip()

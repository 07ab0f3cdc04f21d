"""A figure of a page is one file."""

from __future__ import annotations

import sys

import pytest
from matplotlib.figure import Figure

from oracles.builders import make_comparison, make_entry
from oracles.pages import Page
from whichmin.report import Entry, drawing, figures
from whichmin.report.drawing import SECTIONS, PageFigure, register
from whichmin.report.entry_view import entry_views
from whichmin.report.figures import sections_of
from whichmin.report.pages.comparison import comparison_page
from whichmin.report.pages.entries import entries_page

TOY = """
from matplotlib.figure import Figure
from whichmin.report.drawing import PageFigure, register

def toy(subject):
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([1, 2], label="a toy")
    return figure

register(PageFigure("toy", {of!r}, {section!r}, 0, toy, lambda _: "A toy", lambda subject: f"Toy of {{len(subject)}}."))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose files count as figures."""
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path)])
    monkeypatch.setattr(drawing, "_FIGURES", dict(drawing._FIGURES))
    yield tmp_path
    sys.modules.pop("whichmin.report.figures.toy", None)


@pytest.mark.usefixtures("undrawn")
def test_a_new_file_is_a_new_figure_of_the_page(folder):
    entries = [Entry(f"seed {seed}", linearized=make_entry(seed).linearized) for seed in range(2)]
    before = Page(entries_page(entries))
    (folder / "toy.py").write_text(TOY.format(of="entries", section="training"))
    after = Page(entries_page(entries))
    after.assert_stands_alone()
    assert set(after.figures) == {*before.figures, "toy"}
    assert after.figures.index("toy") == before.figures.index("curves")
    assert after.sections == before.sections
    assert "Toy of 2." in after.section("training")
    assert "A toy" in after.section("training")


@pytest.mark.usefixtures("undrawn")
def test_it_makes_the_section_that_it_is_for(folder):
    bare = Page(entries_page([make_entry(0)]))
    assert "agreement" in bare.sections
    (folder / "toy.py").write_text(TOY.format(of="entries", section="agreement"))
    only = Page(entries_page([Entry("empty")]))
    assert only.figures == ["toy"], "of the section's figures this one alone has something to draw"
    assert "agreement" not in only.sections or only.section("agreement").count("<svg") == 1


@pytest.mark.usefixtures("undrawn")
def test_a_figure_of_one_optimizer_is_drawn_for_each(folder):
    (folder / "toy.py").write_text(TOY.format(of="optimizer", section="terms"))
    page = Page(entries_page([make_entry(0)]))
    assert page.figures[:3] == ["toy", "waterfall", "terms"]


def test_a_section_that_no_page_has():
    with pytest.raises(ValueError, match=r"figure 'toy' is for the section 'nowhere' of 'entries'; expected one of"):
        register(PageFigure("toy", "entries", "nowhere", 1, lambda _: None, str, str))


def test_figures_stand_in_their_order(monkeypatch):
    monkeypatch.setattr(drawing, "_FIGURES", {})
    for name, section, order in (("c", "training", 1), ("b", "training", 2), ("a", "agreement", 9)):
        register(PageFigure(name, "entries", section, order, lambda _: Figure(), lambda _: "", lambda _, n=name: n))
    register(PageFigure("nothing", "entries", "agreement", 1, lambda _: None, str, str))
    drawn = drawing.draw_sections("entries", [], "-1")
    assert [(s.id, s.heading, [f.caption for f in s.figures]) for s in drawn] == [
        ("agreement", "Outputs compared", ["a"]),
        ("training", "Training and the kernel", ["c", "b"]),
    ]
    assert 'id="fig-a-1-title"' in drawn[0].figures[0].svg


def test_every_section_has_a_figure():
    sections_of("entries", entry_views([Entry("empty")]))
    assert {(f.of, f.section) for f in drawing._FIGURES.values()} == {
        (of, section) for of, sections in SECTIONS.items() for section in sections
    }


def test_the_heading_of_a_comparison_is_that_of_its_section():
    assert f"<h2>{SECTIONS['comparison']['pairs']}</h2>" in comparison_page(make_comparison())

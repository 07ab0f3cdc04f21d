"""Figures as inline SVG."""

from __future__ import annotations

import re
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from oracles.builders import make_entry
from whichmin.report.axes import WIDTH, legend, spread_out
from whichmin.report.entry_view import entry_views
from whichmin.report.figures.terms import terms_figure
from whichmin.report.palette import styled
from whichmin.report.svg import inline_svg


def test_the_users_settings_are_left_alone_and_not_used():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"text.usetex": True, "axes.facecolor": "red", "svg.fonttype": "path"}):
        figure = make_entry().explanation.plot()
        svg = inline_svg(figure, "a", "t")
        assert matplotlib.rcParams["axes.facecolor"] == "red"
    assert "<text" in svg
    assert dict(matplotlib.rcParams) == before


def test_identifiers_are_the_figures_own():
    entries = entry_views([make_entry()])
    one, two = (inline_svg(terms_figure(entries), name, "t <&>") for name in ("a", "b"))
    assert re.sub(r'(["#])a-', r"\1b-", one) == two
    assert 'id="a-title">t &lt;&amp;&gt;</title>' in one
    assert "xmlns" not in one
    assert "<style" not in one


def test_large_sets_are_thinned_without_losing_an_output():
    chosen = spread_out(30_000, 700)
    assert 600 < len(chosen) <= 700
    assert set((chosen % 3).tolist()) == {0, 1, 2}
    assert spread_out(5, 700).tolist() == [0, 1, 2, 3, 4]


def test_no_pyplot():
    if "matplotlib.pyplot" not in sys.modules:
        make_entry().explanation.plot()
        assert "matplotlib.pyplot" not in sys.modules


@styled
def drawn(width, labels=(), columns=1):
    figure = Figure(figsize=(width, 3))
    ax = figure.subplots()
    for label in labels:
        ax.plot([1, 2], label=label)
    ax.set(xlabel="an axis", ylabel="another")
    if labels:
        legend(ax, columns)
    return figure


@pytest.mark.parametrize("width", [WIDTH, 7.2])
def test_no_text_is_smaller_than_eleven_pixels(width):
    svg = inline_svg(drawn(width, ["a line"]), "a", "t")
    least = float(re.search(r"min-width: (\d+)px", svg)[1])
    box = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", svg)]
    assert sizes
    assert min(sizes) * least / box >= 11
    if width == WIDTH:
        assert least <= 390 - 2 * 16, "a figure of one panel is not scrolled on a phone"


def test_a_legend_has_as_many_columns_as_have_room():
    def columns(labels):
        return drawn(WIDTH, labels, 3).axes[0].get_legend()._ncols

    assert columns(["a", "b", "c"]) == 3
    assert columns(["a long label of a line", "another long one", "a third"]) == 2
    assert columns(["a very long label of a line that fills the figure", "b", "c"]) == 1

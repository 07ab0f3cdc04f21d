"""Figures as inline SVG."""

from __future__ import annotations

import re
import sys

import matplotlib

from oracles.builders import make_entry
from whichmin.report.axes import spread_out
from whichmin.report.entry_view import entry_views
from whichmin.report.figures.terms import terms_figure
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

"""The page of a linear network says what is guaranteed and what was measured."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch

from oracles import linear_networks
from oracles.pages import Page
from whichmin import linear
from whichmin.report.linear import analysis_finding, finding, sweep_finding
from whichmin.report.numbers import number
from whichmin.report.pages.linear import linear_page


@pytest.fixture
def study() -> linear.LinearStudy:
    return linear_networks.study()


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(linear_page(linear_networks.study()))


def test_everything_is_there(page):
    page.assert_stands_alone()
    assert page.sections == ["convergence", "bias", "numbers", "fits", "assumptions", "asked"]
    assert page.figures == ["loss", "drift", "invariant", "width"]
    for words in ("n + m − 1 = 5", "widths 20, 40, 80", "exponents 0.4, 0.5", "seeds 2", "width 40"):
        assert words in page.words
    assert "prefers-color-scheme" in page.source


def test_the_table_is_that_of_the_study(study, page):
    rows = page.table("Guaranteed and measured")
    frame = study.to_frame()
    assert [row["quantity"] for row in rows] == frame["quantity"].tolist()
    for i, row in enumerate(rows):
        for name in ("guaranteed", "tight", "measured"):
            assert row[name] == number(float(frame[name][i])), (row["quantity"], name)


def test_the_fits_stand_by_exponent(study, page):
    rows = page.table("Fitted powers of the width")
    assert [row["a"] for row in rows] == ["0.4", "0.5"]
    columns = {
        "solution_distances": "distance at the end",
        "invariant_distances": "distance to the invariant set",
        "levels": "level of imbalance",
    }
    for quantity, column in columns.items():
        for row, fit in zip(rows, study.sweep.fits(quantity), strict=True):
            cell = row[column]
            written = f"{fit.slope:.2f} ± {fit.standard_error:.2f}"
            assert cell.startswith(written.replace("-", "−"))
            assert cell.endswith(f"({number(round(fit.expected, 6), 2)})")


def test_the_finding(study, page):
    run, known = study.flows["random"], study.analysis
    said = page.finding
    assert f"Training ends {number(float(run.solution_distances[-1]))} from the minimum-norm solution" in said
    assert f"at most {number(known.tight_bound)} is guaranteed." in said
    first, second = study.sweep.fits()
    powers = f"h^{first.slope:.2f} at a = 0.4, h^{second.slope:.2f} at a = 0.5".replace("-", "−")
    assert f"Wider networks end nearer: the distance falls like {powers}." in said


def test_the_sentence_of_a_sweep_follows_the_signs_of_its_fits(study):
    sweep, widths = study.sweep, study.sweep.widths.reshape(1, -1, 1)
    noise = 1 + 0.05 * torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]])

    def said(*powers):
        distances = torch.cat([widths**power * noise for power in powers])
        return sweep_finding(dataclasses.replace(sweep, solution_distances=distances))

    def powers(text):
        return [
            (float(p.replace("−", "-")), float(a))
            for p, a in re.findall(r"h\^(\S+)(?: ± \S+)? at a = ([\d.]+\d)", text)
        ]

    assert said(-0.3, -0.5).startswith("Wider networks end nearer: the distance falls like h^−0.3")
    rising, unclear = said(0.4, -0.5).split(". ")[1], said(0.0, -0.5).split(". ")[1]
    assert said(0.4, -0.5).startswith("With the width the distance falls like h^−0.5")
    assert rising.startswith("With the width the distance rises like h^0.4")
    assert rising.endswith("wider networks end further away.")
    assert unclear.startswith("Whether it falls with the width cannot be told from h^")
    for text in (said(-0.3, -0.5), said(0.4, -0.5), said(0.4, 0.5), said(0.0, 0.0)):
        assert len(powers(text)) == 2
        for sentence in text.split(". "):
            signs = {power < 0 for power, _ in powers(sentence)}
            assert ("falls like" in sentence) <= (signs == {True})
            assert ("rises like" in sentence) <= (signs == {False})
    one = dataclasses.replace(sweep, solution_distances=(widths**-0.5).expand(2, 3, 1))
    assert "h^−0.50 of one seed at a = 0.4" in sweep_finding(one)


def test_a_bound_that_tells_nothing_is_not_told_as_one(study):
    known = study.analysis
    size = float(known.least_squares.norm())
    for factor, words in (
        (90, "to end within"),
        (110, "no bound on where it ends"),
        (math.inf, "no bound on where it ends"),
    ):
        (said,) = analysis_finding(dataclasses.replace(known, tight_bound=factor * size))
        assert words in said
    loose = dataclasses.replace(study, analysis=dataclasses.replace(known, tight_bound=200 * size))
    assert "tells nothing of that." in finding(loose)[0]


def test_a_unique_minimizer_has_no_sweep():
    page = Page(linear_page(linear_networks.study_without_sweep()))
    assert page.figures == ["loss", "drift", "invariant"]
    assert "fits" not in page.sections
    assert "Wider" not in page.finding


@pytest.mark.usefixtures("undrawn")
def test_where_no_bound_is_guaranteed(study):
    loose = dataclasses.replace(study, analysis=dataclasses.replace(study.analysis, tight_bound=math.inf))
    assert "; no bound is guaranteed." in Page(linear_page(loose)).finding

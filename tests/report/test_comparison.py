"""The sentences and tables of a comparison say its numbers."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch

from oracles.builders import make_comparison
from oracles.pages import Page
from whichmin.report.comparison import by_size, failure_sentences, finding, interval, verdict
from whichmin.report.numbers import number, percent
from whichmin.report.outputs_finding import seeds_finding
from whichmin.report.pages.comparison import comparison_page
from whichmin.studies.comparison import Failure
from whichmin.studies.effects import Estimate
from whichmin.studies.seed_spread import SeedSpread

APART = {"gd": 0.0, "adam": 1.5, "rmsprop": 0.5, "again": 0.0}


@pytest.mark.parametrize(("trained", "what"), [(True, "trained"), (False, "predicted")])
def test_the_finding(trained, what):
    comparison = make_comparison(trained)
    effect = comparison.pairs["gd", "adam"].best
    paired, systematic = finding(comparison)
    assert paired.startswith(f"From the same initialization the {what} minimizers differ in 3 of 3 pairs: ")
    furthest = max(comparison.pairs.values(), key=lambda pair: pair.best.paired.distance.mean).best
    assert f", the furthest of them, are {interval(furthest.paired.distance, 2)} apart" in paired
    assert ("the predictions may be off by" in paired) is not trained
    assert f"decide {percent(furthest.flips)} of the test points differently" in paired
    assert systematic.startswith("Beyond the seed they differ significantly in 1 of 3 pairs: of the ")
    unknown = sum(pair.best.systematic.significant is None for pair in comparison.pairs.values())
    assert unknown == (2 if trained else 1), "of batches a seed is missing"
    assert systematic.endswith(f" Of {unknown} it cannot be told from so few seeds.")
    biggest = max(comparison.pairs.values(), key=lambda pair: pair.best.systematic.distance.mean).best
    assert f"{interval(biggest.systematic.distance, 2)} is a difference that all initializations share" in systematic
    assert effect.paired.distance.mean == pytest.approx(1.5 if trained else 3.0, abs=0.05)


def test_the_finding_counts_the_pairs_that_are_known():
    comparison = make_comparison(shifts=APART, seeds=9)
    assert finding(comparison)[1].startswith("Beyond the seed they differ significantly in 5 of 6 pairs: of the ")
    lost = {name: torch.full_like(t, math.nan) if name == "again" else t for name, t in comparison.trained.items()}
    gone = {name: torch.full_like(t, math.nan) if name == "again" else t for name, t in comparison.predicted.items()}
    fewer = dataclasses.replace(comparison, trained=lost, predicted=gone)
    assert finding(fewer)[1].startswith("Beyond the seed they differ significantly in 3 of 3 pairs")


def test_the_finding_where_nothing_differs():
    comparison = make_comparison(shifts={"gd": 0.0, "again": 0.0})
    assert finding(comparison)[1].startswith("Beyond the seed no difference is significant: at most ")
    same = dict.fromkeys(comparison.names, comparison.predicted["gd"])
    alike = dataclasses.replace(comparison, predicted=same, trained=same)
    said = "From the same initialization no trained minimizers differ by significantly more than rounding."
    assert finding(alike)[0] == said
    assert finding(dataclasses.replace(alike, trained=None))[0].endswith("than what the predictions may be off by.")


def test_the_finding_of_too_few_seeds():
    assert finding(make_comparison(seeds=3))[1] == (
        "Whether they differ beyond the seed cannot be told from so few seeds."
    )


def test_the_finding_where_nothing_can_be_compared():
    assert "No two of these recipes can be compared" in finding(make_comparison(seeds=1))[0]


def test_what_a_pair_may_be_off_by_is_of_the_seeds_that_both_have():
    comparison = make_comparison()
    errors = comparison.errors["gd"][:-1], comparison.errors["batches"][:-1]
    expected = math.sqrt(sum(float(e.square().mean()) for e in errors))
    pair = comparison.pairs["gd", "batches"]
    assert pair.predicted.paired.error == pytest.approx(expected, rel=1e-12)
    assert pair.predicted.seeds == pair.trained.seeds == 6
    errors = comparison.errors["gd"], comparison.errors["adam"]
    assert comparison.pairs["gd", "adam"].predicted.paired.error == pytest.approx(
        math.sqrt(sum(float(e.square().mean()) for e in errors)), rel=1e-12
    )


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("trained", [True, False])
def test_the_table_of_recipes(trained):
    comparison = make_comparison(trained)
    page = Page(comparison_page(comparison))
    rows = page.table("Ways to train")
    assert [row["recipe"] for row in rows] == ["gd", "adam", "batches"]
    for row in rows:
        name = row["recipe"]
        known = torch.isfinite(comparison.errors[name])
        assert row["error of the prediction"] == number(float(comparison.errors[name][known].mean()))
        assert row["steps, predicted"] == number(round(float(comparison.steps[name][known].mean())))
        for kind in ("predicted", "trained") if trained else ("predicted",):
            outputs = getattr(comparison, kind)[name][known].double()
            errors = (outputs - comparison.task.y_test.double()).square().mean(dim=(1, 2))
            assert row[f"test error, {kind}"] == interval(Estimate.of(errors.numpy(), 0.05))
            right = ((outputs > 0) == (comparison.task.y_test > 0)).double().mean(dim=(1, 2))
            assert row[f"accuracy, {kind}"] == interval(Estimate.of(right.numpy(), 0.05))
    assert ("test error, trained" in rows[0]) is ("accuracy, trained" in rows[0]) is trained


@pytest.mark.usefixtures("undrawn")
def test_amounts_are_not_decided():
    comparison = make_comparison()
    amounts = dataclasses.replace(comparison.task, y=torch.linspace(-1, 1, comparison.task.n))
    comparison = dataclasses.replace(comparison, task=amounts)
    assert "decide" not in finding(comparison)[0]
    assert "flips" not in Page(comparison_page(comparison)).table("Pairs")[0]
    outputs = comparison.predicted["gd"]
    spread = SeedSpread(amounts, outputs, torch.ones(7), (outputs[..., 0] > 0).long(), 1.0)
    assert "decided" not in " ".join(seeds_finding(spread))
    assert "decided" in " ".join(seeds_finding(dataclasses.replace(spread, task=make_comparison().task)))


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("trained", [True, False])
def test_the_table_of_pairs(trained):
    comparison = make_comparison(trained)
    rows = Page(comparison_page(comparison)).table("Pairs")
    assert [row["pair"] for row in rows] == [f"{one} – {other}" for (one, other), _ in by_size(comparison)]
    for row, (_, pair) in zip(rows, by_size(comparison), strict=True):
        best = pair.trained if trained else pair.predicted
        expected = {
            "distance, predicted": interval(pair.predicted.paired.distance),
            "error of the predictions": number(pair.predicted.paired.error),
            "p, same seed": number(best.paired.p_adjusted),
            "different": verdict(best.paired),
            "shared by all seeds": interval(best.systematic.distance),
            "p, beyond the seed": number(best.systematic.p_adjusted),
            "beyond the seed": verdict(best.systematic),
            "standard deviation over seeds": number(best.seed_std),
            "flips": percent(best.flips).replace("\u00a0", " "),
        }
        if trained:
            expected["distance, trained"] = interval(pair.trained.paired.distance)
        assert {name: text for name, text in row.items() if name != "pair"} == expected


def test_pairs_stand_by_their_distance():
    sizes = [pair.best.paired.distance.mean for _, pair in by_size(make_comparison(shifts=APART, seeds=9))]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_many_recipes_have_a_matrix():
    comparison = make_comparison(shifts=APART, seeds=9)
    page = Page(comparison_page(comparison))
    page.assert_stands_alone()
    matrix = page.table("Distances")
    assert "All 6 pairs with their tests" in page.words
    effect = comparison.pairs["gd", "rmsprop"].best
    assert matrix[0]["3"] == number(effect.paired.distance.mean, 2)
    assert page.section("pairs").count('class="number significant"') == 5
    assert "Distances" not in Page(comparison_page(make_comparison())).source.split("<style>")[1].split("</style>")[1]


@pytest.mark.usefixtures("undrawn")
def test_what_failed_and_what_was_asked():
    page = Page(comparison_page(make_comparison()))
    assert page.sections == ["pairs", "recipes", "failed", "notes", "asked"]
    assert "batches, seed 6 could not be predicted: it diverged" in page.words
    for words in ("trained yes", "level 0.05", "until 0.001", "steps none", "seeds 7", "a remark"):
        assert words in page.words
    assert "95 % confidence intervals" in page.words.replace("\u00a0", " ")
    assert "corrected for the number of pairs (Holm), is at most 0.05" in page.words


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("shifts", [None, APART])
def test_the_figure_that_answers_follows_the_sentence(shifts):
    comparison = make_comparison() if shifts is None else make_comparison(shifts=shifts, seeds=9)
    body = comparison_page(comparison).split("</header>")[1]
    assert 0 < body.index("<figure") < body.index("<table")


def test_failures_of_a_recipe_are_told_once():
    failures = tuple(
        Failure(*of, "it diverged") for of in (("a", 0, "trained"), ("a", 2, "trained"), ("b", 1, "trained"))
    )
    comparison = dataclasses.replace(make_comparison(), failures=failures)
    assert failure_sentences(comparison) == [
        "a, seed 0 could not be trained: it diverged Failed as well: seed 2.",
        "b, seed 1 could not be trained: it diverged",
    ]
    assert (
        "seeds 2, 3."
        in failure_sentences(dataclasses.replace(comparison, failures=(*failures, Failure("a", 3, "trained", ""))))[0]
    )


def test_failures_of_a_recipe_are_told_by_kind():
    failures = tuple(Failure("a", 0, kind, "it diverged") for kind in ("predicted", "trained"))
    assert failure_sentences(dataclasses.replace(make_comparison(), failures=failures)) == [
        "a, seed 0 could not be predicted: it diverged",
        "a, seed 0 could not be trained: it diverged",
    ]


def test_intervals():
    assert interval(None) == interval(Estimate(math.nan, math.nan, math.nan)) == "–"
    assert interval(Estimate(1.0, math.nan, math.nan)) == "1.00"
    assert interval(Estimate(1.0, 0.5, 1.5)) == "1.00 [0.500, 1.50]"
    assert interval(Estimate(1.0, 0.5, 1.5), 2) == "1.0 [0.50, 1.5]"


@pytest.mark.parametrize("shifts", [None, APART], ids=["three", "four"])
def test_every_table_scrolls_by_itself_and_shows_that_it_does(shifts):
    """Else a page would be wider than a phone, or its columns would end without a sign that there are more."""
    page = Page(comparison_page(make_comparison(shifts=shifts)))
    tables = page.tags.count("table")
    assert tables == (2 if shifts is None else 3)
    assert len(re.findall(r'<div class="scroll" role="region"[^>]*>\s*<table', page.source)) == tables
    rules = re.findall(r"(?m)^\s*\.scroll \{(.*?)\}", page.source, flags=re.DOTALL)
    assert "overflow-x: auto" in rules[0]
    assert rules[0].count("local") == rules[0].count("scroll,") + rules[0].count("scroll;") == 2
    assert "background: none" in rules[1]

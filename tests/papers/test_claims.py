"""Verdicts on tables that are made up: agree, disagree, undecided, and by how much."""

from __future__ import annotations

import dataclasses
import math

import pandas as pd
import pytest

from whichmin.papers.claims import Claim


def claim(relation, value, margin=0.0, exact=False):
    return Claim("it says so", "x", lambda table: list(table["x"]), relation, value, margin, exact)


def judged(claim, values):
    return claim.judge(pd.DataFrame({"x": values}))


CLEAR = [1.0, 1.1, 0.9, 1.0]
NOISY = [1.0, 3.0, -1.0, 1.2]


@pytest.mark.parametrize(
    ("relation", "value", "margin", "values", "answer", "slack"),
    [
        ("at least", 0.5, 0.0, CLEAR, "agrees", 0.5),
        ("at least", 1.5, 0.0, CLEAR, "disagrees", -0.5),
        ("at least", 0.5, 0.0, NOISY, "undecided", 0.55),
        ("at least", 1.2, 0.5, CLEAR, "agrees", 0.3),
        ("at most", 1.5, 0.0, CLEAR, "agrees", 0.5),
        ("at most", 0.5, 0.0, CLEAR, "disagrees", -0.5),
        ("at most", 0.5, 1.0, CLEAR, "agrees", 0.5),
        ("equal to", 1.2, 0.3, CLEAR, "agrees", 0.1),
        ("equal to", 2.0, 0.3, CLEAR, "disagrees", -0.7),
        ("equal to", 1.3, 0.3, NOISY, "undecided", 0.05),
    ],
)
def test_verdicts(relation, value, margin, values, answer, slack):
    verdict = judged(claim(relation, value, margin), values)
    assert verdict.answer == answer
    assert verdict.slack == pytest.approx(slack)
    assert verdict.count == len(values)
    assert verdict.mean == pytest.approx(sum(values) / len(values))
    assert verdict.spread == pytest.approx(pd.Series(values).std())


@pytest.mark.parametrize("values", [[], [5.0], [math.nan, 5.0], [math.nan]])
def test_fewer_than_two_values_decide_nothing(values):
    verdict = judged(claim("at least", 1.0), values)
    assert verdict.answer == "undecided"
    assert verdict.count == sum(not math.isnan(v) for v in values)


def test_networks_that_training_left_unfitted_do_not_count():
    """They came to no minimizer that a claim could be about; told is how many."""
    table = pd.DataFrame({"x": [1.0, 1.1, 9.0, 0.9, 8.0], "fitted": [True, True, False, None, False]})
    verdict = claim("at most", 1.5).judge(table)
    assert (verdict.answer, verdict.count, verdict.unfitted) == ("agrees", 3, 2)
    assert verdict.mean == pytest.approx(1.0)
    everything = dataclasses.replace(claim("at most", 1.5), of_all=True).judge(table)
    assert (everything.answer, everything.count, everything.unfitted) == ("undecided", 5, 0)
    assert claim("at most", 1.5).judge(table[table["fitted"].eq(False)]).answer == "undecided"


def test_an_exact_value_decides_alone():
    assert judged(claim("at least", 1.0, exact=True), [1.0]).answer == "agrees"
    assert judged(claim("at most", 0.0, 1e-6, exact=True), [1e-3]).answer == "disagrees"


def test_what_is_expected_is_said():
    assert claim("equal to", 4.0, 0.4).expected == "equal to 4 (± 0.4)"
    assert claim("at least", 1.0, 0.05).expected == "at least 1 (granted 0.05)"
    assert claim("at most", 0.5).expected == "at most 0.5"

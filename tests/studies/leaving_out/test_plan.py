"""What a few groups tell of the error of the others."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from whichmin.studies.leaving_out.answers import _predicted
from whichmin.studies.leaving_out.plan import IN_COMMON, UNKNOWN, Pilot, _apart, _in_common, _Ladder, _typical


def vectors(*sizes):
    """Of these root mean squares."""
    return [size * torch.ones(5, dtype=torch.float64) for size in sizes]


def test_a_typical_size_is_the_geometric_mean():
    assert _typical(vectors(1.0, 4.0)) == pytest.approx(2.0)
    assert _typical(vectors(3.0)) == pytest.approx(3.0)
    assert _typical(vectors(0.0, 0.0)) == 0.0


@pytest.mark.parametrize("nothing", [0.0, 1e-17])
def test_a_group_without_which_nothing_changes_does_not_make_the_others_small(nothing):
    assert 0.4 < _typical(vectors(nothing, 1.0, 1.0, 1.0)) < 1.0


@pytest.mark.parametrize("ratio", [4 / 3, 1.5, 2.0])
def test_errors_of_one_direction_and_of_none(ratio):
    """Errors e of n intervals and ρ e of n' = n/ρ: along one vector, and along two that are orthogonal."""
    one = torch.tensor([1.0, 0.0], dtype=torch.float64)
    other = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert _apart(ratio, 1.0) == pytest.approx(float((ratio * one - one).norm()))
    assert _apart(ratio, 0.0) == pytest.approx(float((ratio * one - other).norm()))
    assert _apart(ratio, 0.5) == pytest.approx(math.sqrt(_apart(ratio, 0.0) * _apart(ratio, 1.0)))


def test_what_is_in_common_is_the_cosine():
    v, w = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    first, second = (0,), (1,)
    assert _in_common({}, {first: v}, [first]) == UNKNOWN
    assert _in_common({first: v}, {first: w}, [first]) == pytest.approx(math.sqrt(0.5))
    assert _in_common({first: v, second: v}, {first: v, second: -v}, [first, second]) == IN_COMMON


@pytest.mark.parametrize(
    ("count", "error", "expected"),
    [
        (1, math.inf, 2),  # nothing is known yet
        (2, 1.1, 3),  # one rung at least
        (2, 3.4, 6),  # 2·3.4 = 6.8: 8 would be finer than needed
        (2, 4.0, 8),
        (2, 100.0, 8),  # four times as many at most
        (48, 100.0, 64),  # the last
    ],
)
def test_rungs_that_cannot_be_fine_enough_are_skipped(count, error, expected):
    ladder = _Ladder(None, [], 1.0, None)
    ladder.accepted = 1.0
    assert ladder._next(count, (Pilot(5, 0.0, error, 1.0),)) == expected


def test_an_error_is_no_less_than_the_rounding_of_the_outputs():
    """Paths of single steps agree to the last digit, and training on the rest ends elsewhere by roundings."""
    plan = SimpleNamespace(corrected=lambda group, test: test, error=lambda group, test: 0.0)
    solver = SimpleNamespace(problem=SimpleNamespace(network=SimpleNamespace(eps=1e-7)))
    answer = _predicted(solver, plan, None, np.array([3.0, -4.0]), 8.0, "relinearized", 0.1)
    assert answer.error == pytest.approx(1e-7 * math.sqrt(12.5))

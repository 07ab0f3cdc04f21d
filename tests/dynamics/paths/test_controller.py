"""What each controller asks for next, on outcomes that are made up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from whichmin.dynamics.paths.controller import AIM, AimedError, Attempt, GrowthFactor, IntervalCount, refine
from whichmin.dynamics.paths.outcome import Outcome


def attempt(resolution, error, *, intervals=1, steps=100.0, before=None, **settings) -> Attempt:
    outputs = [torch.zeros(1)]
    outcome = Outcome("relinearized", outputs, outputs, steps, intervals, error, [], {}, **settings)
    return Attempt(resolution, outcome, before)


#: Errors of the outputs up to 1 and of losses up to 1/8 are accepted, at most 40 intervals are planned.
COUNT = IntervalCount(1.0, 0.125, 40)


@pytest.mark.parametrize(
    ("count", "error", "loss_error", "expected"),
    [
        (1, 1.0, 0.125, None),  # both are met, the boundary counts
        (1, 1.0, 0.13, 2),  # outputs are met, losses are not
        (1, 1.1, 0.0, 2),
        (1, 5.2, 0.0, 6),  # as the error falls with the inverse of the number
        (1, 16.0, 0.0, 16),
        (1, 16.1, 0.0, 4),  # far off: first a cheap path, to see how the error falls
        (1, math.inf, 0.0, 4),
        (8, 1.0, 0.125, None),
        (8, 1.5, 0.0, 16),  # 8·1.5/AIM
        (8, 1.2, 0.0, 13),  # 8·1.2/AIM = 12.8
        (8, 1.01, 0.0, 12),  # half as many again at least
        (8, 100.0, 0.0, 32),  # four times as many at most
        (8, math.inf, 0.0, 32),
        (8, 0.1, 0.25, 22),  # the losses ask for more: 8·2/AIM = 21.3
        (8, 1.5, 0.13, 16),
        (20, 100.0, 0.0, 40),  # never more than planned
        (39, 1.01, 0.0, 40),
        (40, 100.0, 1.0, None),
        (41, 100.0, 1.0, None),
    ],
)
def test_the_number_of_intervals(count, error, loss_error, expected):
    assert AIM == 0.75
    assert COUNT.next(attempt(count, error, loss_error=loss_error)) == expected


def test_where_outputs_swing_a_path_is_made_finer_once():
    swung = attempt(4, 13.0, swing=10.0)
    assert COUNT.next(attempt(4, 12.0, swing=10.0)) is None, "for what they swing by it is not"
    assert COUNT.next(swung) == 8
    assert COUNT.next(attempt(30, 13.0, swing=10.0)) == 40
    assert COUNT.next(attempt(8, 13.0, swing=10.0, before=swung)) is None
    assert COUNT.next(attempt(8, 13.0, before=swung)) == 32, "it does not swing there: finer, as ever"


def test_a_path_that_tells_nothing_is_not_made_finer():
    controller = IntervalCount(1.0, 0.125, 40, hopeless=5.0)
    assert controller.next(attempt(4, 6.0, unknowable=5.0)) is None
    assert controller.next(attempt(4, 6.0, unknowable=4.9)) == 16
    assert controller.next(attempt(4, math.inf, unknowable=math.inf)) == 16, "a finer one may know"


@pytest.mark.parametrize("loss_error", [1.0, math.inf])
def test_losses_do_not_matter_where_any_error_of_them_is_accepted(loss_error):
    controller = IntervalCount(1.0, math.inf, 40)
    assert controller.next(attempt(8, 1.0, loss_error=loss_error)) is None
    assert controller.next(attempt(8, 1.5, loss_error=loss_error)) == 16


@pytest.mark.parametrize(
    ("growth", "error", "expected"),
    [
        (0.25, 1.001, 0.0625),
        (0.25, 1.0, None),
        (0.0625, 9.0, 0.015625),
        (0.021, 9.0, 0.00525),
        (0.02, 9.0, None),  # the finest
        (0.015625, math.inf, None),
    ],
)
def test_the_growth_of_intervals(growth, error, expected):
    assert GrowthFactor(1.0).next(attempt(growth, error)) == expected


#: Errors up to 1 are accepted, a path of 10 intervals is not made finer, 12 steps were made before.
AIMED = AimedError(1.0, 10, 12)


@pytest.mark.parametrize(
    ("error", "intervals", "steps", "expected"),
    [
        (1.0, 5, 100, None),
        (1.2, 5, 100, (0.75 / 1.2) ** 1.2),
        (3.0, 5, 100, (0.75 / 3.0) ** 1.2),
        (1.001, 5, 100, 0.6),  # at least so much finer
        (100.0, 5, 100, 0.1),  # at most so much
        (math.inf, 5, 100, 0.1),
        (3.0, 9, 100, (0.75 / 3.0) ** 1.2),
        (3.0, 10, 100, None),  # enough intervals
        (3.0, 2, 15, (0.75 / 3.0) ** 1.2),
        (3.0, 3, 15, None),  # each is a step
        (3.0, 0, 12, None),  # nothing but the first steps
    ],
)
@pytest.mark.parametrize("aim", [1.0, 0.3])
def test_the_error_that_intervals_aim_at(aim, error, intervals, steps, expected):
    found = AIMED.next(attempt(aim, error, intervals=intervals, steps=steps))
    assert found == (None if expected is None else pytest.approx(aim * expected, rel=1e-12))


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (1.3, 0.1),  # it hardly falls: as much finer as there is
        (1.2 * 3 ** (1 / 2), (0.75 / 1.2) ** 2),  # like the square root of what is aimed at
        (3.6, (0.75 / 1.2) ** 1.2),  # in proportion: no faster than it is known to
        (1.1, (0.75 / 1.2) ** 1.2),  # it rose by chance
        (math.inf, (0.75 / 1.2) ** 1.2),
    ],
)
def test_an_error_that_falls_slowly_is_aimed_lower(before, expected):
    last = replace(attempt(1.0, 1.2, intervals=5), before=attempt(3.0, before, intervals=3))
    assert AIMED.next(last) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("first_error", [3.0, 12.0, 30.0])
def test_errors_of_first_order_are_refined_until_they_are_accepted(first_error):
    asked = []

    def follow(count: float, before: Attempt) -> Outcome:
        asked.append((before.resolution, count))
        return attempt(count, first_error / count, intervals=int(count)).outcome

    last = refine(follow, COUNT, attempt(1, first_error))
    assert last.outcome.error <= 1.0 < first_error
    assert last.resolution == last.outcome.intervals == asked[-1][1]
    assert [before for before, _ in asked] == [1, *(count for _, count in asked[:-1])], "each is told of the one before"
    assert last.resolution <= 2 * first_error
    assert len(asked) <= 2 if first_error <= COUNT.DIRECT else len(asked) <= 4


def test_nothing_is_followed_where_the_first_is_good_enough():
    first = attempt(1, 0.5)
    assert refine(lambda *_: pytest.fail("no path is needed"), COUNT, first) is first

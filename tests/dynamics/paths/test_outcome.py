"""Where training ends."""

from __future__ import annotations

import math

import pytest

from whichmin.dynamics.paths.outcome import Goal


@pytest.mark.parametrize(
    ("loss", "steps", "reached"),
    [
        (0.09, 6, True),
        (0.1, 6, False),  # below, not at
        (0.11, 6, False),
        (0.09, 5, False),  # in the middle of an epoch training does not look
        (0.09, 7, False),
        (0.09, 0, True),
        (0.09, math.inf, True),
    ],
)
def test_training_in_epochs_looks_where_one_starts(loss, steps, reached):
    assert Goal((100.0,), until=0.1, eval_every=3).is_reached(loss, steps) is reached


def test_full_batches_are_looked_at_after_every_step_and_flows_at_any_time():
    assert Goal((100.0,), until=0.1).is_reached(0.09, 5)
    assert Goal((100.0,), until=0.1, flow=True).is_reached(0.09, 0.37)
    assert not Goal((100.0,)).is_reached(0.0, 5), "without a training loss to stop at"


def test_the_last_time_is_the_end():
    assert Goal((1.0, 7.0, 30.0)).steps == 30.0


@pytest.mark.parametrize(
    ("first", "end", "epochs"),
    [(0, 12, [4, 8]), (0, 13, [4, 8, 12]), (4, 12, [8]), (5, 40, [28, 32, 36]), (8, 12, []), (0, math.inf, [])],
)
def test_epochs_between_two_steps(first, end, epochs):
    assert Goal((100.0,), until=0.1, eval_every=4).epochs_before(end, first, 3) == epochs
    for goal in (Goal((100.0,), eval_every=4), Goal((100.0,), until=0.1), Goal((9.0,), 0.1, 4, flow=True)):
        assert goal.epochs_before(end, first, 3) == []

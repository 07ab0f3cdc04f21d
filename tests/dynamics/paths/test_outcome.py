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

"""Steps at which something is kept of a training whose length is not known."""

from __future__ import annotations

from whichmin.training.spacing import Spacing


def kept_until(last: int, most: int) -> list[int]:
    """The steps that are kept of so many, with step 0; one more place is for the end."""
    spacing, kept = Spacing(most), [0]
    while spacing.due <= last:
        due = spacing.due
        if spacing.admits(kept):
            kept.append(due)
    return kept


def test_steps_are_ever_more_rare():
    assert kept_until(512, 64) == [0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 512]
    assert kept_until(2**30, 64)[-1] == 2**30
    assert len(kept_until(2**30, 64)) == 55, "64 last for as many steps"


def test_every_other_one_is_dropped_where_there_would_be_too_many():
    assert kept_until(512, 8) == [0, 2, 8, 32, 128, 256, 512]
    for last in (1, 10, 100, 1000, 10**5):
        kept = kept_until(last, 8)
        assert len(kept) < 8, "the end has a place of its own"
        assert kept == sorted(set(kept))
        assert kept[0] == 0


def test_three_are_the_first_one_between_and_the_last():
    assert len(kept_until(1000, 3)) == 2

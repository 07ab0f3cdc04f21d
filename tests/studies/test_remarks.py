"""Remarks of many runs."""

from __future__ import annotations

from whichmin.studies.remarks import told_once


def test_remarks_that_differ_by_their_numbers_are_told_once():
    remarks = [("seed 0", "rank 3 of 9."), ("seed 0", "rank 3 of 9."), ("seed 1", "slow."), ("seed 4", "rank 4 of 9.")]
    assert told_once(remarks, "seed") == ["seed 0: rank 3 of 9. Likewise 1 more seed.", "seed 1: slow."]
    assert told_once([(f"seed {i}", f"rank {i}.") for i in range(7)], "seed") == [
        "seed 0: rank 0. Likewise 6 more seeds."
    ]
    assert told_once([], "seed") == []

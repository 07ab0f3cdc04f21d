"""Remarks of many runs."""

from __future__ import annotations

from whichmin.studies.remarks import told_once


def test_remarks_that_differ_by_their_numbers_are_told_once():
    remarks = [("seed 0", "rank 3 of 9."), ("seed 0", "rank 3 of 9."), ("seed 1", "slow."), ("seed 4", "rank 4 of 9.")]
    assert told_once({"": remarks}, "seed") == ["seed 0: rank 3 of 9. Likewise 1 more seed.", "seed 1: slow."]
    assert told_once({"gd": [(f"seed {i}", f"rank {i}.") for i in range(7)]}, "seed") == [
        "seed 0: rank 0. Likewise 6 more seeds."
    ]
    assert told_once({"": []}, "seed") == []


def test_what_several_recipes_remark_is_told_once():
    remarks = {
        "gd": [("gd, seed 0", "trained."), ("gd, seed 1", "trained."), ("gd, seed 0", "off by 3."), ("gd", "alone.")],
        "adam": [("adam, seed 1", "off by 4."), ("adam, seed 0", "trained."), ("adam, seed 2", "off by 5.")],
        "rmsprop": [("rmsprop, seed 0", "trained."), ("rmsprop, seed 1", "trained."), ("rmsprop, seed 1", "alone.")],
    }
    assert told_once(remarks, "seed") == [
        "gd, seed 0: trained. Likewise 1 more seed; 1 seed of adam; 2 seeds of rmsprop.",
        "gd, seed 0: off by 3.",
        "gd: alone. Likewise 1 seed of rmsprop.",
        "adam, seed 1: off by 4. Likewise 1 more seed.",
    ]

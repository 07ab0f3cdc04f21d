"""Which groups are left out, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import whichmin as wm
from whichmin.errors import InputError
from whichmin.studies.leaving_out.groups import MANY, read_groups, row_classes


def task(n=8, y=None):
    y = torch.tensor([-1.0, 1.0]).repeat(n // 2) if y is None else y
    return wm.Task(torch.randn(n, 3, generator=torch.Generator().manual_seed(0)), y, torch.zeros(1, 3))


def test_each_is_every_row_alone():
    assert read_groups("each", task()) == [(i,) for i in range(8)]


@pytest.mark.parametrize("group", [[3, 1], (3, 1), torch.tensor([3, 1]), np.array([3, 1]), np.array([3, 1], np.uint8)])
def test_a_group_is_ascending_row_numbers(group):
    assert read_groups([group], task()) == [(1, 3)]


def test_a_row_number_alone_is_a_group_of_one():
    assert read_groups([5, [1, 2]], task()) == [(5,), (1, 2)]
    assert read_groups(torch.tensor([[0, 2], [4, 6]])[:, :1], task()) == [(0,), (4,)]


def test_random_halves_follow_their_seed_and_keep_a_row_of_each_class():
    y = torch.tensor([1.0] * 2 + [-1.0] * 8)
    halves = read_groups(30, task(10, y), seed=3)
    assert len(halves) == 30
    assert {len(half) for half in halves} == {5}
    assert all(not {0, 1} <= set(half) for half in halves)
    assert halves == read_groups(30, task(10, y), seed=3) != read_groups(30, task(10, y), seed=4)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "groups is empty"),
        (0, "groups is 0"),
        (-2, "groups is -2"),
        (True, "groups is True"),
        (1.5, "groups is 1.5"),
        ("all", "groups is 'all'"),
        ([[]], "group 0 is empty"),
        ([[1], list(range(8))], "group 1 holds every one of the 8 rows"),
        ([[0, 2, 4, 6]], "group 0 holds every row of class"),
        ([[0], [8]], "group 1 has row 8; expected row numbers from 0 to 7"),
        ([[-1]], "group 0 has row -1"),
        ([[1, 2, 1]], "group 0 has row 1 twice"),
        ([[1.0]], "group 0 holds float64 values"),
        ([torch.zeros(8, dtype=torch.bool)], "group 0 is a mask; expected row numbers: torch.nonzero"),
        ([[[1, 2]]], r"group 0 has shape \(1, 2\)"),
    ],
)
def test_what_is_refused(groups, message):
    with pytest.raises(InputError, match=message):
        read_groups(groups, task())


def test_a_million_groups_ask_for_a_budget():
    groups = [(0,)] * (MANY + 1)
    with pytest.raises(InputError, match="10,001 groups would each be predicted: pass budget="):
        read_groups(groups, task())
    with pytest.raises(InputError, match="1,000,000 groups"):
        read_groups(1_000_000, task())
    assert len(read_groups(groups, task(), budget=1.0)) == MANY + 1


def test_the_class_that_is_gone_is_named():
    y = torch.tensor([0, 1, 2, 2, 1, 0, 1, 0])
    classes = wm.Task(
        torch.randn(8, 3), y, torch.zeros(1, 3), loss=torch.nn.CrossEntropyLoss(), classes=("a", "b", "c")
    )
    with pytest.raises(InputError, match="group 1 holds every row of class 'c'"):
        read_groups([[0, 2], [2, 3]], classes)


def test_halves_that_cannot_keep_each_class_are_an_error():
    with pytest.raises(InputError, match="random halves keep a row of each class"):
        read_groups(1, task(2, torch.tensor([-1.0, 1.0])))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (torch.tensor([5.0, 2.0, 5.0]), [1, 0, 1]),
        (torch.eye(3)[[2, 0, 1]], [2, 0, 1]),
        (torch.tensor([0.3, 1.0, 2.5]), None),
    ],
)
def test_classes_of_rows(y, expected):
    found = row_classes(wm.Task(torch.randn(3, 2), y))
    assert (None if found is None else found.tolist()) == expected

"""Validation points: given or held out, and apart from what is trained on."""

from __future__ import annotations

import pytest
import torch

import whichmin as wm
from oracles.remedies import N_TEST, N_VALIDATION, N, data, task, validation
from whichmin.errors import DataError, InputError
from whichmin.mitigation.validation import split


def test_points_of_a_task_and_of_a_pair_are_the_same():
    X, y = validation()
    pair, of_task = split(task(), (X, y), 0), split(task(), wm.Task(X, y), 0)
    for parts in (pair, of_task):
        assert parts.held_out is None
        assert parts.n == N_VALIDATION
        assert torch.equal(parts.validation.X_test, X)
        assert torch.equal(parts.validation.y_test[:, 0], y)
        assert torch.equal(parts.task.X_test, task().X_test)


def test_both_sets_stand_below_each_other():
    parts = split(task(), validation(), 0)
    outputs = torch.arange(N_VALIDATION + N_TEST)[:, None]
    of_validation, of_test = parts.parts(outputs)
    assert torch.equal(parts.both.X_test, torch.cat([validation()[0], task().X_test]))
    assert of_validation.tolist() == outputs[:N_VALIDATION].tolist()
    assert of_test.tolist() == outputs[N_VALIDATION:].tolist()


def test_without_test_points_validation_points_are_all():
    parts = split(wm.Task(task().X, task().y), validation(), 0)
    assert len(parts.both.X_test) == N_VALIDATION
    assert parts.parts(torch.zeros(N_VALIDATION, 1))[1] is None


def test_a_share_is_held_out_by_the_seed():
    whole = task()
    one, again, other = (split(whole, 0.3, seed) for seed in (0, 0, 1))
    assert torch.equal(one.held_out, again.held_out)
    assert not torch.equal(one.held_out, other.held_out)
    kept = sorted(set(range(N)) - set(one.held_out.tolist()))
    assert torch.equal(one.task.X, whole.X[kept])
    assert torch.equal(one.task.y, whole.y[kept])
    assert torch.equal(one.validation.X_test, whole.X[one.held_out])
    assert torch.equal(one.validation.y_test, whole.y[one.held_out])
    assert one.n == 3


def test_rows_that_come_twice_are_on_one_side():
    X, y = data(16, 1)
    twice = wm.Task(torch.cat([X, X[:3]]), torch.cat([y, y[:3]]))
    for seed in range(10):
        parts = split(twice, 0.5, seed)
        rows = {tuple(row) for row in parts.task.X.tolist()}
        assert not rows & {tuple(row) for row in parts.validation.X_test.tolist()}
        assert parts.task.n + parts.n == 19
    with pytest.raises(DataError, match="come more than once"):
        split(wm.Task(torch.cat([X[:1]] * 6), torch.cat([y[:1]] * 6)), 0.5, 0)


def test_inputs_by_name_are_held_out_alike():
    X, y = data(N, 1)
    parts = split(wm.Task({"a": X, "b": X[:, :2]}, y), 0.3, 0)
    assert torch.equal(parts.validation.X_test["b"], X[parts.held_out][:, :2])
    given = split(wm.Task({"a": X, "b": X[:, :2]}, y), ({"a": X + 1, "b": X[:, :2]}, y), 0)
    assert torch.equal(given.both.X_test["a"], X + 1)


def test_rows_that_are_trained_on_are_named():
    X, y = validation()
    X = X.clone()
    X[3], X[7] = task().X[5], task().X[0]
    where = "2 of 40 validation rows are training rows: 3, 7 of the validation set are rows 5, 0 of X"
    with pytest.raises(DataError, match=where):
        split(task(), (X, y), 0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 0.1, 0.9, 2, float("nan")])
def test_a_share_leaves_rows_to_both_sides(share):
    with pytest.raises(InputError, match=r"expected a share between 0 and 1|cannot convert|holds out"):
        split(task(), share, 0)


@pytest.mark.parametrize("value", [None, "some", True, torch.zeros(3, 5), (1, 2, 3)])
def test_anything_else_is_refused(value):
    with pytest.raises(InputError, match="expected a Task, a pair"):
        split(task(), value, 0)


def test_points_that_do_not_go_with_the_task():
    X, y = validation()
    with pytest.raises(DataError, match="the validation set cannot be used"):
        split(task(), (X[:, :3], y), 0)
    with pytest.raises(DataError, match="the validation set cannot be used"):
        split(task(), (X, y[:-1]), 0)
    with pytest.raises(DataError, match="single row"):
        split(task(), (X[:1], y[:1]), 0)

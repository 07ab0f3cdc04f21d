"""What a result of leave_out tells: influences, rows for and against, labels, losses."""

from __future__ import annotations

import pytest
import torch

import whichmin as wm
from whichmin.errors import ResultError
from whichmin.studies.left_out import GroupFailure, LeftOut


def result(full, test, groups, *, n=4, y=None, y_test=None, **changed):
    full, test = torch.as_tensor(full), torch.as_tensor(test)
    y = torch.tensor([-1.0, 1.0]).repeat(n // 2) if y is None else y
    settings = {k: changed.pop(k) for k in ("loss", "classes") if k in changed}
    task = wm.Task(torch.arange(3.0 * n).reshape(n, 3), y, torch.zeros(len(full), 3), y_test, **settings)
    fields = {
        "task": task,
        "members": torch.tensor([row for group in groups for row in group]),
        "sizes": torch.tensor([len(group) for group in groups]),
        "full": full,
        "full_error": 0.0,
        "test": test,
        "error": torch.zeros(len(groups), dtype=torch.float64),
        "steps": torch.ones(len(groups), dtype=torch.float64),
        "method": ("linearized",) * len(groups),
        "batches": "kept",
        "seconds": 0.0,
    }
    return LeftOut(**fields | changed)


EACH = [[0], [1], [2], [3]]


def of_one_output(y_test=None, **changed):
    full = [[0.5], [-0.5]]
    test = [[[0.4], [-0.5]], [[0.7], [0.1]], [[0.5], [-0.8]], [[-0.2], [-0.4]]]
    return result(full, test, EACH, y_test=y_test, **changed)


def test_influences_are_towards_the_true_class():
    found = of_one_output(torch.tensor([1.0, -1.0]))
    expected = torch.tensor([[0.1, -0.2, 0.0, 0.7], [0.0, 0.6, -0.3, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(found.influences(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.influences(0)[1], -expected[1], rtol=0, atol=1e-6)
    assert found.is_each
    torch.testing.assert_close(found.by_row(), found.influences())
    assert found.supporting(0).tolist() == [3, 0]
    assert found.opposing(0).tolist() == [1]
    assert found.supporting(1, 1).tolist() == [1]
    assert found.opposing(1).tolist() == [2]


def test_without_test_targets_they_are_towards_the_decided_class():
    found = of_one_output()
    torch.testing.assert_close(found.influences(), of_one_output(torch.tensor([1.0, -1.0])).influences())
    assert found.accuracy is None
    assert bool(found.test_loss.isnan().all())
    with pytest.raises(ResultError, match="pass a Task with y_test"):
        found.most_harmful()


def test_of_several_classes_they_are_margins_of_the_true_one():
    full = [[1.0, 0.2, 0.0]]
    test = [[[1.0, 0.5, 0.0]], [[1.0, 0.0, 0.9]]]
    found = result(
        full, test, [[0], [1, 2]], n=4, y=torch.tensor([0, 1, 2, 0]), y_test=torch.tensor([1]),
        loss=torch.nn.CrossEntropyLoss(),
    )  # fmt: skip
    torch.testing.assert_close(found.influences(), torch.tensor([[-0.3, 0.2]], dtype=torch.float64), rtol=0, atol=1e-6)


def test_of_amounts_they_are_outputs():
    y = torch.tensor([0.1, 0.7, 0.2, 0.9])
    found = result([[0.5]], [[[0.2]]], [[0]], y=y)
    torch.testing.assert_close(found.influences(), torch.tensor([[0.3]], dtype=torch.float64), rtol=0, atol=1e-6)
    many = result([[0.5, 1.0]], [[[0.2, 1.5]]], [[0]], y=torch.randn(4, 2))
    with pytest.raises(ResultError, match="2 outputs and no classes: name one"):
        many.influences()
    torch.testing.assert_close(many.influences(1), torch.tensor([[-0.5]], dtype=torch.float64))


def test_rows_of_larger_groups_are_told_by_means():
    """Additive effects come out exactly where every row is out in half of the groups, each with each other one."""
    effects = torch.tensor([0.1, -0.2, 0.4, 0.05], dtype=torch.float64)
    groups = [[0, 1], [2, 3], [0, 2], [1, 3], [0, 3], [1, 2]]
    full = torch.tensor([[1.0]], dtype=torch.float64)
    test = torch.stack([full - effects[group].sum() for group in groups])
    rows = result(full, test, groups).by_row()[0]
    centred = effects - effects.mean()
    torch.testing.assert_close(rows - rows.mean(), centred * (rows - rows.mean())[0] / centred[0])
    assert rows.argsort().tolist() == effects.argsort().tolist()


def test_rows_that_no_group_leaves_out_are_not_numbers():
    found = result([[1.0]], [[[0.5]], [[0.7]]], [[0, 1], [1, 2]])
    rows = found.by_row()[0]
    assert rows.isnan().tolist() == [False, True, False, True]
    assert found.supporting(0).tolist() == [0]
    alone = result([[1.0]], [[[0.5]]], [[2]]).by_row()[0]
    assert alone.isnan().tolist() == [True, True, False, True]


def test_losses_labels_and_the_most_harmful():
    found = of_one_output(torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(found.full_loss, 0.25, rtol=1e-6, atol=0)
    expected = [(0.36 + 0.25) / 2, (0.09 + 1.21) / 2, (0.25 + 0.04) / 2, (1.44 + 0.36) / 2]
    torch.testing.assert_close(found.test_loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)
    assert found.flips.tolist() == [[False, False], [False, True], [False, False], [True, False]]
    assert found.accuracy.tolist() == [1.0, 0.5, 1.0, 0.5]
    assert found.most_harmful().tolist() == [2]
    torch.testing.assert_close(found.effect[0], torch.tensor((0.01 / 2) ** 0.5, dtype=torch.float64), rtol=1e-5, atol=0)
    frame = found.to_frame()
    assert frame["flips"].tolist() == [0, 1, 0, 1]
    assert frame["rows"].tolist() == ["0", "1", "2", "3"]


def test_groups_without_a_prediction_are_not_numbers():
    test = [[[float("nan")], [float("nan")]], [[0.7], [0.1]], [[0.5], [-0.8]], [[-0.2], [-0.4]]]
    found = result([[0.5], [-0.5]], test, EACH, y_test=torch.tensor([1.0, -1.0]), failures=(GroupFailure(0, "why."),))
    assert found.test_loss.isnan().tolist() == [True, False, False, False]
    assert found.accuracy.isnan().tolist() == [True, False, False, False]
    assert not found.flips[0].any()
    assert found.most_harmful().tolist() == [2]
    assert found.supporting(0).tolist() == [3]
    assert [group.tolist() for group in found.groups] == EACH


def test_a_table_spells_out_the_first_rows_of_a_group():
    found = result([[1.0]], [[[0.5]]], [list(range(8))], n=10)
    assert found.to_frame()["rows"].tolist() == ["0, 1, 2, 3, 4, 5, …"]
    assert not found.is_each

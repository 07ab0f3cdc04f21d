"""Which class outputs decide for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whichmin import Task
from whichmin.decision import Decision

X = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("y", "rule"),
    [
        ([-1.0, 1.0, 1.0, -1.0], Decision(0.0, True)),
        ([0.0, 1.0, 1.0, 1.0], Decision(0.5, True)),
        ([3.0, 7.0, 7.0, 7.0], Decision(5.0, True)),
        ([0.1, 0.2, 0.3, 5.0], Decision(0.0, False)),
        ([2.0, 2.0, 2.0, 2.0], Decision(0.0, False)),
        ([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], Decision(0.0, True)),
        ([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], Decision(0.0, False)),
        ([[1.0, 0.2], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], Decision(0.0, False)),
    ],
)
def test_the_rule_is_that_of_the_training_targets(y, rule):
    assert Decision.of(Task(X, torch.tensor(y))) == rule


def test_one_output_decides_by_its_side_of_the_threshold():
    outputs = torch.tensor([[[0.4], [0.6]], [[0.5], [-3.0]]])
    labels = Decision(0.5, True).labels(outputs)
    assert labels.dtype == np.int64
    assert labels.tolist() == [[0, 1], [0, 0]]


def test_several_outputs_decide_by_the_largest():
    outputs = torch.tensor([[0.1, 0.5, 0.2], [0.9, 0.5, 0.2], [0.1, 0.2, 0.2]], dtype=torch.bfloat16)
    assert Decision(0.3, True).labels(outputs).tolist() == [1, 0, 1]
    assert Decision(0.3, True).labels(outputs.double().numpy()).tolist() == [1, 0, 1]


def test_each_position_decides_for_itself():
    y = torch.tensor([[0, 2], [1, 0], [2, 2], [1, -100]])
    task = Task(X, y, loss=torch.nn.CrossEntropyLoss())
    rule = Decision.of(task)
    assert rule == Decision(0.0, True, 2)
    outputs = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 1.0, 4.0]]] * 4).flatten(1)
    assert rule.labels(outputs).tolist() == [0, 2] * 4
    assert rule.right(task, outputs, y).tolist() == [True, True, False, False, False, True, False]
    margins = [2.0, 3.0, -2.0, -4.0, -3.0, 3.0, -2.0]
    assert rule.margins(task, outputs, y).tolist() == margins
    assert rule.margins(task, torch.stack([outputs, -outputs]), y).shape == (2, 7)


def test_the_margin_is_to_the_largest_of_the_others():
    y = torch.eye(3)[[0, 1, 2, 1]]
    task = Task(X, y)
    outputs = torch.tensor([[0.5, 0.25, -1.0], [0.5, 0.25, -1.0], [1.0, 2.0, 4.0], [1.0, 1.0, 0.0]])
    margins = Decision.of(task).margins(task, outputs, y)
    assert margins.tolist() == [0.25, -0.25, 2.0, 0.0]
    assert ((margins > 0) <= Decision.of(task).right(task, outputs, y)).all()

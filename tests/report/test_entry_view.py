"""Entries made ready to be shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from oracles.builders import make_classes, make_entry, make_task
from whichmin import Task
from whichmin.report import Entry
from whichmin.report.entry_view import entry_views, labelled, last_steps, loss_label, mse, present, scale_of, term_names


def test_terms_of_different_entries_are_merged_in_order():
    full, part = make_entry(0), make_entry(1)
    fewer = {k: v for k, v in part.explanation.terms.items() if k != "unconverged"}
    merged = [Entry("b", explanation=dataclasses.replace(part.explanation, terms=fewer)), full]
    assert term_names(entry_views(merged)) == list(full.explanation.terms)
    errors = entry_views(merged)[0].partial_errors(term_names(entry_views(merged)))
    assert errors is not None
    assert errors[1] == errors[2]


def test_an_explanation_brings_the_other_parts():
    whole = make_entry()
    (view,) = entry_views([Entry("a", explanation=whole.explanation)])
    assert view.run is whole.run
    assert view.linearized is whole.explanation.prediction
    assert view.relinearized is None
    assert view.task is whole.run.task
    assert set(view.outputs) == {"trained", "linearized"}


def test_each_kind_of_outputs_is_its_own():
    whole = make_entry()
    (view,) = entry_views([whole])
    tests = {"trained": whole.run, "linearized": whole.linearized, "relinearized": whole.relinearized}
    for kind, part in tests.items():
        np.testing.assert_array_equal(view.outputs[kind], part.test.double().numpy())
        expected = float((part.test.double() - whole.run.task.y_test.double()).square().mean())
        assert view.test_error(kind) == pytest.approx(expected)
    assert view.prediction is whole.relinearized


def test_of_class_numbers():
    whole = make_entry(task=make_classes())
    (view,) = entry_views([whole])
    y = whole.run.task.y_test
    for kind, part in {"trained": whole.run, "linearized": whole.linearized}.items():
        assert view.test_error(kind) == pytest.approx(float(cross_entropy(part.test.double(), y)))
        assert view.accuracy(kind) == pytest.approx(float((part.test.argmax(1) == y).double().mean()))
    names = term_names([view])
    frame = whole.explanation.test_error()
    np.testing.assert_allclose(view.partial_errors(names), frame["loss"])
    np.testing.assert_allclose(view.partial_accuracies(names), frame["accuracy"])
    assert (loss_label([view]), labelled("test error", [view])) == ("cross-entropy", "test error (cross-entropy)")
    assert scale_of([view]) == "predicted training outputs’"


def test_of_amounts_there_is_no_accuracy():
    base = make_task()
    task = Task(base.X, base.X[:, 0], base.X_test, base.X_test[:, 0])
    (view,) = entry_views([make_entry(task=task)])
    assert view.accuracy("trained") is view.partial_accuracies(term_names([view])) is None
    assert view.test_error("trained") > 0
    assert scale_of([view]) == "targets’"


def test_of_several_step_counts_the_last_is_shown():
    whole = make_entry()
    several = dataclasses.replace(
        whole.linearized,
        test=torch.stack([0 * whole.linearized.test, whole.linearized.test]),
        steps=torch.tensor([3.0, 40.0]),
    )
    (view,) = entry_views([dataclasses.replace(whole, linearized=several)])
    np.testing.assert_array_equal(view.outputs["linearized"], whole.linearized.test.double().numpy())
    assert last_steps(several) == 40
    assert last_steps(whole.linearized) == float("inf")


@pytest.mark.parametrize("outputs", [1, 3])
def test_partial_errors_are_those_of_partial_sums(outputs):
    whole = make_entry(outputs=outputs)
    (view,) = entry_views([whole])
    np.testing.assert_allclose(view.partial_errors(term_names([view])), whole.explanation.test_error()["loss"])


def test_what_does_not_belong_together_has_no_difference():
    one, other = np.ones((3, 1)), np.ones((4, 1))
    assert mse(one, other) is None
    assert mse(one, None) is None
    assert mse(one, 3 * one) == 4.0
    assert present([1.0, None, float("nan"), 2.0]) == [1.0, 2.0]

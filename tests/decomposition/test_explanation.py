"""What an explanation tells, and what becomes of it on disk."""

from __future__ import annotations

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import distance, mlp_problem, problem, sgd
from whichmin.errors import ResultError


@pytest.fixture(scope="module")
def found():
    model, task = problem("over", 3)
    return wm.explain(model, task, sgd(0.1), steps=25)


def test_shares_are_mean_squares(found):
    shares = found.shares()
    assert list(shares) == list(found.terms)
    for name, term in found.terms.items():
        assert shares[name] == pytest.approx(float((term**2).mean()), rel=1e-14)


def test_the_waterfall_of_the_test_error(found):
    frame, target, partial = found.test_error(), found.task.y_test, 0.0
    assert frame.term.tolist() == list(found.terms)
    before = 0.0
    for row, term in enumerate(found.terms.values()):
        partial = partial + term
        mse = float((partial - target).square().mean())
        assert frame.loss[row] == pytest.approx(mse, rel=1e-12)
        assert frame.change[row] == pytest.approx(mse - before, rel=1e-10)
        before = mse
    assert frame.loss.iloc[-1] == pytest.approx(float((found.run.test - target).square().mean()), rel=1e-9)


def test_without_test_targets_there_is_no_test_error():
    model, task = problem("over")
    bare = wm.explain(model, wm.Task(task.X, task.y, task.X_test), sgd(0.1), steps=5)
    with pytest.raises(ResultError, match="no test error without test targets"):
        bare.test_error()
    assert "target" not in bare.to_frame()


def test_the_table(found):
    frame = found.to_frame()
    assert frame.columns.tolist() == ["point", "output", *found.terms, "total", "target"]
    n, C = found.total.shape
    assert len(frame) == n * C
    for row in (0, 7, n * C - 1):
        point, output = frame.point[row], frame.output[row]
        assert (point, output) == (row // C, row % C)
        assert frame.total[row] == float(found.total[point, output])
        assert frame.target[row] == float(found.task.y_test[point, output])
        assert frame.curvature[row] == float(found.terms["curvature"][point, output])


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("test_targets", [True, False])
def test_saved_and_loaded_is_the_same(tmp_path, trained, test_targets):
    model, task = mlp_problem((4, 20), 6)
    task = task if test_targets else wm.Task(task.X, task.y, task.X_test)
    found = wm.explain(model, task, sgd(0.1), until=None, steps=60, train=trained)
    found.save(tmp_path / "explanation")
    loaded = wm.Explanation.load(tmp_path / "explanation")
    assert list(loaded.terms) == list(found.terms)
    assert all(torch.equal(t, loaded.terms[k]) for k, t in found.terms.items())
    assert torch.equal(loaded.total, found.total)
    assert torch.equal(loaded.task.X_test, task.X_test)
    assert (loaded.task.y_test is None) == (not test_targets)
    assert torch.equal(loaded.prediction.test, found.prediction.test)
    assert (loaded.run is None) == (found.run is None) == (not trained)
    assert (loaded.relinearized is None) == (found.relinearized is None) == trained
    part = "run" if trained else "relinearized"
    assert torch.equal(getattr(loaded, part).test, getattr(found, part).test)
    if test_targets:
        assert loaded.test_error().equals(found.test_error())


def test_it_can_be_saved_over_another(tmp_path):
    model, task = problem("over")
    for steps in (5, 9):
        wm.explain(model, task, sgd(0.1), steps=steps).save(tmp_path / "explanation")
    assert wm.Explanation.load(tmp_path / "explanation").run.steps == 9
    assert [p.name for p in tmp_path.iterdir()] == ["explanation"]


def test_it_is_drawn_and_reported(found, tmp_path):
    import matplotlib.pyplot as plt

    figure = found.plot()
    assert figure.axes
    plt.close(figure)
    found.report(tmp_path / "report.html", title="three outputs")
    text = (tmp_path / "report.html").read_text()
    assert "three outputs" in text
    assert text.lstrip().lower().startswith("<!doctype html>")


def test_the_total_is_the_sum(found):
    assert distance(found.total, sum(found.terms.values())) < 1e-14
    assert found.total.dtype == torch.float64

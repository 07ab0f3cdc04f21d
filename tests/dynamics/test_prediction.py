"""What a prediction holds and what becomes of it on disk."""

from __future__ import annotations

import math

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import BEST, distance, problem, sgd
from whichmin.errors import ResultError

CASES = pytest.mark.parametrize(
    "arguments",
    [
        {"relinearize": "never"},
        {"relinearize": 5, "steps": 30},
        {"relinearize": 5, "steps": [0, 3, 30]},
        {"relinearize": "never", "steps": 2.5, "flow": True},
    ],
)


@CASES
def test_parameters_load_into_the_model(arguments):
    model, task = problem("over", 3)
    prediction = wm.predict(model, task, sgd(0.1), **({"relinearize": "path"} | arguments))
    found = prediction.model()
    with torch.no_grad():
        expected = found(task.X_test)
    assert not any(a is b for a, b in zip(found.parameters(), prediction.model().parameters(), strict=True))
    model.load_state_dict(prediction.parameters())
    assert torch.equal(model(task.X_test), expected)
    if prediction.method == "relinearized":  # the network is there; the linearized prediction is another function
        assert distance(prediction.test.reshape(-1, task.n_test, 3)[-1], expected) < 1e-13


def test_parameters_are_copies():
    model, task = problem("over")
    prediction = wm.predict(model, task, BEST, steps=5, relinearize="path")
    prediction.parameters()["layers.0.weight"].zero_()
    for p in prediction.model().parameters():
        p.data.zero_()
    assert float(prediction.parameters()["layers.0.weight"].abs().max()) > 0


@CASES
@pytest.mark.parametrize("with_test", [True, False])
def test_saved_and_loaded_is_the_same(arguments, with_test, tmp_path):
    model, task = problem("over", 3)
    task = task if with_test else wm.Task(task.X, task.y)
    saved = wm.predict(model, task, sgd(0.1), **({"relinearize": "path"} | arguments))
    saved.save(tmp_path / "a" / "result")
    loaded = wm.Prediction.load(tmp_path / "a" / "result")
    for name in ("train", "eigenvalues"):
        assert torch.equal(getattr(loaded, name), getattr(saved, name))
    assert torch.equal(loaded.test, saved.test) if with_test else loaded.test is None
    assert torch.equal(torch.as_tensor(loaded.steps), torch.as_tensor(saved.steps))
    assert torch.equal(loaded.curve.steps, saved.curve.steps)
    assert torch.equal(loaded.curve.losses, saved.curve.losses)
    assert list(loaded.terms) == list(saved.terms)
    assert all(torch.equal(t, loaded.terms[k]) for k, t in saved.terms.items())
    for name in ("learning_rate", "flow", "method", "intervals", "error", "target_std", "max_lr", "seconds", "notes"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert loaded.certificate == saved.certificate
    assert loaded.best_lr == saved.best_lr
    model.load_state_dict(loaded.parameters())
    assert torch.equal(model(task.X), saved.model()(task.X))
    with pytest.raises(ResultError, match=r"load_state_dict\(prediction.parameters\(\)\)"):
        loaded.model()


def test_the_table_has_a_row_per_point_and_output():
    model, task = problem("over", 3)
    prediction = wm.predict(model, task, sgd(0.1), steps=[3, 30], relinearize=5)
    frame = prediction.to_frame()
    assert frame.columns[:3].tolist() == ["point", "output", "predicted"]
    assert frame.columns[3:].tolist() == list(prediction.terms)
    assert len(frame) == task.n_test * 3
    for row in (0, 4, 14):
        point, output = frame.point[row], frame.output[row]
        assert frame.predicted[row] == float(prediction.test[-1, point, output])
        assert frame.drift[row] == float(prediction.terms["drift"][point, output])
    assert abs(frame[list(prediction.terms)].sum(axis=1) - frame.predicted).max() < 1e-11
    with pytest.raises(ResultError, match="no test points"):
        wm.predict(model, wm.Task(task.X, task.y), BEST, relinearize="path").to_frame()


def test_relative_error_is_in_units_of_the_spread():
    model, task = problem("over")
    a = wm.predict(model, task, sgd(0.1), steps=30, relinearize=5)
    assert a.target_std == pytest.approx(float(task.y.std(correction=0)))
    assert a.relative_error == a.error / a.target_std
    assert 0 < a.error < math.inf


def test_the_spread_of_several_outputs_and_of_constant_targets():
    model, task = problem("over", 3)
    spread = wm.predict(model, task, sgd(0.1), steps=1, relinearize="path").target_std
    assert spread == pytest.approx(float(task.y.var(dim=0, correction=0).mean().sqrt()))
    constant = wm.Task(task.X, torch.full_like(task.y, -4.0))
    assert wm.predict(model, constant, sgd(0.1), steps=1, relinearize="path").target_std == 4.0
    zero = wm.Task(task.X, torch.zeros_like(task.y))
    assert wm.predict(model, zero, sgd(0.1), steps=1, relinearize="path").target_std == 1.0

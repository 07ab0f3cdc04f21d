"""``explain``: the terms, where they come from, and what it refuses."""

from __future__ import annotations

import math
import re
from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import BEST, Dense, distance, flat, mlp_problem, problem, sgd
from whichmin.decomposition.explanation import MEANINGS
from whichmin.errors import DivergenceError, InputError, ResultError

OUTPUTS = pytest.mark.parametrize("outputs", [1, 3])


@OUTPUTS
def test_the_terms_of_a_run_by_hand(outputs):
    model, task = problem("over", outputs)
    run = wm.train(model, task, sgd(0.1), until=None, steps=25)
    found = wm.explain(run)
    dense = Dense.of(model, task)
    K, K_test = dense.J @ dense.J.T, dense.J_test @ dense.J.T
    straight = dense.f0_test + dense.J_test @ (flat(run.final, model) - dense.theta)
    linear = dense.outputs(dense.descend(0.1, 25))[1]
    expected = {
        "interpolant": K_test @ torch.linalg.solve(K, dense.y),
        "initialization": dense.f0_test - K_test @ torch.linalg.solve(K, dense.f0),
        "drift": straight - linear,
        "curvature": run.test.reshape(-1) - straight,
    }
    expected["unconverged"] = linear - expected["interpolant"] - expected["initialization"]
    assert set(found.terms) == set(expected)
    for name, term in found.terms.items():
        assert term.shape == (task.n_test, outputs)
        assert distance(term, expected[name]) < 1e-10, name
        assert float(term.abs().max()) > 1e-4, name


@OUTPUTS
@pytest.mark.parametrize("kind", ["over", "under"])
@pytest.mark.parametrize("steps", [0, 1, 400])
def test_the_terms_add_up_to_the_trained_network(outputs, kind, steps):
    model, task = problem(kind, outputs)
    run = wm.train(model, task, sgd(0.05), steps=steps)
    found = wm.explain(run)
    scale = max(1.0, *(float(t.abs().max()) for t in found.terms.values()))
    assert distance(found.total, run.test) < 1e-12 * scale
    assert list(found.terms) == [n for n in MEANINGS if n in found.terms], "in the order of MEANINGS"
    if steps == 0:
        assert float(found.terms["drift"].abs().max()) < 1e-13 * scale
        assert float(found.terms["curvature"].abs().max()) < 1e-13 * scale


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_run_beyond_the_limit_of_stability_is_explained(momentum):
    """Where a prediction is refused: the network was trained all the same, and its terms add up."""
    model, task = problem("over")
    limit = wm.predict(model, task, partial(torch.optim.SGD, lr=1e-3, momentum=momentum), steps=0).limit
    optimizer = partial(torch.optim.SGD, lr=1.2 * limit, momentum=momentum)
    with pytest.raises(DivergenceError):
        wm.predict(model, task, optimizer, steps=8, relinearize="path")
    run = wm.train(model, task, optimizer, until=None, steps=8)
    found = wm.explain(run)
    assert distance(found.total, run.test) < 1e-11
    assert all(math.isfinite(float(term.abs().max())) for term in found.terms.values())


def test_a_model_is_trained_first():
    model, task = problem("over")
    a = wm.explain(model, task, sgd(0.1), until=1e-1)
    b = wm.explain(wm.train(model, task, sgd(0.1), until=1e-1))
    assert a.run.steps == b.run.steps > 0
    assert a.relinearized is None
    for name in a.terms:
        assert torch.equal(a.terms[name], b.terms[name])


@OUTPUTS
def test_a_relinearized_path_takes_the_place_of_training(outputs):
    model, task = mlp_problem((4, 40), 8, outputs)
    found = wm.explain(model, task, sgd(0.1), until=5e-2, train=False, tol=1e-2)
    trained = wm.explain(model, task, sgd(0.1), until=5e-2)
    assert found.run is None
    assert found.relinearized.method == "relinearized"
    assert distance(found.total, found.relinearized.test) < 1e-12
    assert distance(found.total, trained.total) < 0.2
    for name in ("interpolant", "initialization"):
        assert distance(found.terms[name], trained.terms[name]) < 1e-11
    for name, term in trained.terms.items():
        assert distance(found.terms[name], term) < 0.2
    assert list(found.terms) == ["interpolant", "initialization", "unconverged", "curvature", "drift"]


def test_a_lazy_network_needs_no_path():
    model, task = problem("over")
    for layer in model.layers[:-1]:
        layer.requires_grad_(False)
    found = wm.explain(model, task, sgd(0.1), until=1e-1, train=False)
    trained = wm.explain(model, task, sgd(0.1), until=1e-1)
    assert found.relinearized.method == "linearized"
    assert distance(found.total, found.relinearized.test) < 1e-12
    assert distance(found.total, trained.total) < 1e-10
    for name in ("drift", "curvature"):
        assert float(trained.terms[name].abs().max()) < 1e-10


@pytest.mark.parametrize("trained", [True, False])
def test_progress_is_shown_on_the_linearized_network_too(capsys, trained):
    model, task = problem("over")
    adamw = wm.Recipe(partial(torch.optim.AdamW, lr=1e-3), batch_size=4)
    wm.explain(model, task, adamw, steps=30, train=trained, progress=True)
    shown = capsys.readouterr().err
    assert ("training:" if trained else "predicting by real training:") in shown
    assert re.search(r"explaining by steps on the linearized network:.* 0/30 ", shown)
    run = wm.train(model, task, adamw, steps=30, checkpoints=[10])
    wm.explain(run, from_step=10, progress=True)
    shown = capsys.readouterr().err
    assert len(re.findall(r"explaining by steps on the linearized network: +0%\S* +\S* 0/30 ", shown)) == 3, shown
    wm.explain(run)
    assert capsys.readouterr().err == ""


def test_the_best_rate():
    model, task = problem("over")
    for train in (True, False):
        found = wm.explain(model, task, BEST, steps=30, until=None, train=train)
        assert found.prediction.learning_rate == found.prediction.best_lr
        assert found.prediction.steps == 30


def test_the_linearized_prediction_comes_along():
    model, task = problem("over")
    run = wm.train(model, task, sgd(0.1), steps=25)
    lazy = wm.predict(model, task, sgd(0.1), steps=25, relinearize="never")
    found = wm.explain(run)
    assert torch.equal(found.prediction.test, lazy.test)
    assert found.task is task
    assert found.run is run


def test_training_points_have_no_initialization_term():
    model, task = problem("over", 3)
    found = wm.explain(model, wm.Task(task.X, task.y, task.X), sgd(0.1), steps=25)
    assert float(found.terms["initialization"].abs().max()) < 1e-10
    assert distance(found.terms["interpolant"], task.y) < 1e-10


def test_the_model_is_not_changed():
    model, task = problem("over")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    wm.explain(model, task, sgd(0.1), steps=9)
    wm.explain(model, task, sgd(0.1), steps=9, train=False)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_arguments():
    model, task = problem("over")
    run = wm.train(model, task, sgd(0.1), steps=3)
    with pytest.raises(InputError, match=r"a run brings its own task and optimizer"):
        wm.explain(run, task)
    with pytest.raises(InputError, match=r"a run brings its own task and optimizer"):
        wm.explain(run, optimizer=sgd(0.1))
    for arguments in ((model,), (model, task), (model, None, sgd(0.1))):
        with pytest.raises(InputError, match=r"explain\(model, task, optimizer\)"):
            wm.explain(*arguments)
    with pytest.raises(InputError, match="until is -1"):
        wm.explain(model, task, sgd(0.1), until=-1)
    with pytest.raises(InputError, match="tol is 0"):
        wm.explain(model, task, sgd(0.1), train=False, tol=0)


def test_without_test_points():
    model, task = problem("over")
    bare = wm.Task(task.X, task.y)
    for train in (True, False):
        with pytest.raises(InputError, match="about test outputs: pass a Task with X_test"):
            wm.explain(model, bare, sgd(0.1), train=train)
    with pytest.raises(InputError, match="about test outputs"):
        wm.explain(wm.train(model, bare, sgd(0.1), steps=3))


def test_a_loaded_run(tmp_path):
    model, task = problem("over")
    wm.train(model, task, sgd(0.1), steps=3).save(tmp_path / "run")
    with pytest.raises(ResultError, match="a loaded run holds no"):
        wm.explain(wm.Run.load(tmp_path / "run"))


def test_single_precision():
    model, task = problem("over", 3, dtype=torch.float32)
    run = wm.train(model, task, sgd(0.1), steps=100)
    found = wm.explain(run)
    assert found.total.dtype == torch.float64
    assert distance(found.total, run.test) < 1e-12 * max(float(t.abs().max()) for t in found.terms.values()) + 1e-12
    assert math.isfinite(sum(found.shares().values()))

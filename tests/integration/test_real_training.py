"""Predictions against networks that are really trained, on digits and on random data, at growing widths."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import pytest
import torch

import whichmin as wm
from oracles.linear_rules import mlp_problem, rms, sgd


def digits(seed, *, width=300, alpha=0.7, n=60):
    """Threes against eights: (model, task, the rates max_lr and best_lr)."""
    task = wm.data.load("digits", classes=(3, 8), n_train=n, n_test=60, seed=seed)
    model = wm.networks.MLP([64, width, 1], scale=alpha, seed=seed)
    found = wm.spectrum(wm.tangent_kernel(model, task.X))
    return model, task, found


def test_one_linearization_is_as_good_as_the_network_is_wide():
    widths, errors = (64, 512, 4096), []
    for width in widths:
        squares = []
        for seed in range(6):
            model, task = mlp_problem((10, width), 8, activation="relu", bias=False, seed=seed, n_test=30)
            lr = 0.4 * wm.spectrum(wm.tangent_kernel(model, task.X)).max_lr
            run = wm.train(model, task, sgd(lr), until=None, steps=60)
            lazy = wm.predict(model, task, sgd(lr), steps=60, relinearize="never")
            squares.append(rms(lazy.test, run.test) ** 2)
        errors.append(math.sqrt(sum(squares) / len(squares)))
    slope = math.log(errors[-1] / errors[0]) / math.log(widths[-1] / widths[0])
    assert -0.8 < slope < -0.35, errors
    assert all(b < a for a, b in pairwise(errors)), errors


def test_one_linearization_of_a_wide_network_is_the_trained_one():
    model, task, found = digits(0, width=4096, alpha=1.0, n=20)
    run = wm.train(model, task, sgd(0.4 * found.max_lr), until=1e-3)
    assert run.converged
    lazy = wm.predict(model, task, sgd(0.4 * found.max_lr), until=1e-3, relinearize="never")
    assert rms(lazy.test, run.test) < 0.05
    assert rms(lazy.test, model(task.X_test).detach()) > 0.5
    assert lazy.steps == pytest.approx(run.steps, rel=0.3)
    assert lazy.certificate.test_deviation < 0.01


@cache
def trained_and_predicted(seed):
    """Digits trained, predicted from one linearization, and along a path."""
    model, task, found = digits(seed)
    optimizer = sgd(0.4 * found.max_lr)
    run = wm.train(model, task, optimizer, until=1e-3)
    lazy = wm.predict(model, task, optimizer, until=1e-3, relinearize="never")
    return run, lazy, wm.predict(model, task, optimizer, until=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_followed_path_beats_one_linearization_where_features_are_learned(seed):
    run, lazy, followed = trained_and_predicted(seed)
    assert run.converged
    assert followed.method == "relinearized"
    assert rms(followed.test, run.test) ** 2 < 0.1 * rms(lazy.test, run.test) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_estimated_error_is_within_a_factor_of_four(seed):
    run, _, followed = trained_and_predicted(seed)
    assert 0.25 < followed.error / rms(followed.test, run.test) < 4


@pytest.mark.slow
def test_explaining_a_path_is_explaining_the_run():
    model, task, found = digits(1)
    lr = 0.4 * found.max_lr
    real = wm.explain(model, task, sgd(lr), until=1e-2)
    path = wm.explain(model, task, sgd(lr), until=1e-2, train=False)
    assert float(real.terms["drift"].square().mean()) > 1e-3
    for name, term in real.terms.items():
        assert rms(path.terms[name], term) < 0.05, name
    assert rms(real.total, real.run.test.double()) < 1e-6
    real_error, path_error = (e.test_error().loss.iloc[-1] for e in (real, path))
    assert path_error == pytest.approx(real_error, abs=0.02)


def test_the_kernel_of_the_loaded_digits_has_a_rate_that_trains():
    model, task, found = digits(0, width=64, alpha=1.0, n=30)
    run = wm.train(model, task, sgd(found.max_lr / 2), until=0.2, steps=2000)
    assert run.converged
    with pytest.raises(wm.errors.TrainingError):
        wm.train(model, task, sgd(1e5 * found.max_lr), until=0.2, steps=2000)


def test_a_network_in_single_and_double_precision():
    model, task, found = digits(0, width=64, n=30)
    a = wm.predict(model, task, sgd(found.max_lr / 3), steps=100, relinearize=8)
    b = wm.predict(model.double(), task.to(torch.float64), sgd(found.max_lr / 3), steps=100, relinearize=8)
    assert a.test.dtype == torch.float32
    assert rms(a.test, b.test) < 1e-4

"""Followed paths of AdaGrad, RMSprop, Adam and AdamW against networks that are really trained, in float64."""

from __future__ import annotations

import math
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance, flat, mlp_problem, rms
from whichmin.dynamics.paths.adaptive_predictor import _edge_matters
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.rules.adagrad import AdaGrad
from whichmin.dynamics.rules.adam import Adam
from whichmin.dynamics.rules.registry import rule_of
from whichmin.dynamics.rules.rmsprop import RMSprop
from whichmin.losses import MeanSquaredError

OPTIMIZERS = {
    "adagrad": partial(torch.optim.Adagrad, lr=0.02),
    "rmsprop": partial(torch.optim.RMSprop, lr=1e-4),
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "adamw": partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.3),
}
STEPS = 300
EVERY = pytest.mark.parametrize("name", OPTIMIZERS)


@cache
def trained(name: str, width: int, seed: int) -> wm.Run:
    model, task = mlp_problem((4, width), 10, seed=seed, n_test=40)
    return wm.train(model, task, OPTIMIZERS[name], until=None, steps=STEPS)


@cache
def followed(name: str, width: int, seed: int, **arguments) -> wm.Prediction:
    model, task = mlp_problem((4, width), 10, seed=seed, n_test=40)
    return wm.predict(model, task, OPTIMIZERS[name], **({"steps": STEPS, "relinearize": "path"} | arguments))


@pytest.mark.parametrize(("name", "width", "seed"), [*((name, 60, 0) for name in OPTIMIZERS), ("adam", 400, 1)])
def test_the_path_is_as_near_as_asked_for(name, width, seed):
    run = trained(name, width, seed)
    truths = []
    for tol in (2e-2, 3e-3):
        found = followed(name, width, seed, tol=tol)
        truths.append(rms(found.test, run.test) / found.target_std)
        assert found.method == "relinearized"
        assert found.steps == STEPS
        assert found.relative_error <= tol
        assert 0.2 < found.relative_error / truths[-1] < 5, "the estimate is right within a factor"
        assert truths[-1] < 3 * tol
        assert found.intervals < STEPS / 4
        assert float(found.curve.losses[-1]) == pytest.approx(float(run.losses[-1]), rel=20 * tol)
    assert truths[1] < truths[0]
    lazy = followed(name, width, seed, relinearize="never")
    turned = 0.7 if name == "rmsprop" else 0.3  # whose network hardly turns in so few steps
    assert truths[1] < turned * rms(lazy.test, run.test) / lazy.target_std


@EVERY
@pytest.mark.parametrize(("steps", "tol"), [(25, 1e-2), (40, 2e-3)])
def test_the_estimate_of_a_short_run_is_honest(name, steps, tol):
    """One that a single interval would cover."""
    model, task = mlp_problem((4, 60), 10, n_test=40)
    factory = partial(
        OPTIMIZERS[name].func, **(OPTIMIZERS[name].keywords | {"lr": 1e-2 if name != "rmsprop" else 1e-3})
    )
    run = wm.train(model, task, factory, until=None, steps=steps)
    found = wm.predict(model, task, factory, steps=steps, tol=tol, relinearize="path")
    assert rms(found.test, run.test) < 5 * found.error
    assert rms(found.test, run.test) < 5 * tol * found.target_std


def test_the_curve_is_that_of_training_step_by_step():
    """Within intervals too: each loss is nearer to that of its own step than to those of its neighbours."""
    model, task = mlp_problem((4, 60), 10)
    optimizer = partial(torch.optim.Adam, lr=3e-3)
    losses = wm.train(model, task, optimizer, until=None, steps=50).losses
    curve = wm.predict(model, task, optimizer, steps=50, tol=1e-3, relinearize="path").curve
    steps = curve.steps.long()
    falls = losses[steps[1:] - 1] - losses[steps[1:]]
    assert float(((curve.losses - losses[steps])[1:].abs() / falls).max()) < 0.1
    assert len(steps) > 30


@pytest.mark.parametrize("stop", [5, 29])
def test_it_stops_at_the_first_step_below_until(stop):
    """Also among those made for real, and in the middle of what would be an interval."""
    model, task = mlp_problem((4, 60), 10)
    optimizer = partial(torch.optim.Adam, lr=3e-3)
    losses = wm.train(model, task, optimizer, until=None, steps=50).losses
    until = float(losses[stop - 1] + losses[stop]) / 2
    assert wm.predict(model, task, optimizer, until=until, tol=1e-3, relinearize="path").steps == stop


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_a_path_that_takes_too_many_intervals_is_given_up(monkeypatch, tol):
    monkeypatch.setattr("whichmin.dynamics.paths.adaptive_predictor.MOST_INTERVALS", 3)
    found = followed("adam", 60, 0, tol=tol)
    loss = float(found.curve.losses[-1])
    assert found.notes[-1] == f"the path was given up after 3 intervals, at a training MSE of {loss:.3g}."
    assert found.error == math.inf
    assert found.steps < STEPS


@EVERY
def test_parameters_are_those_of_training(name):
    run, found = trained(name, 60, 0), followed(name, 60, 0, tol=3e-3)
    model, _ = mlp_problem((4, 60), 10, n_test=40)
    start, end, guess = (flat(s, model) for s in (model.state_dict(), run.final, found.parameters()))
    assert float((guess - end).norm()) < 0.08 * float((end - start).norm())


@EVERY
def test_more_intervals_are_nearer(name):
    run = trained(name, 60, 0)
    found = [followed(name, 60, 0, relinearize=n) for n in (6, 40)]
    assert found[0].intervals < found[1].intervals
    assert rms(found[1].test, run.test) < 0.3 * rms(found[0].test, run.test)


@EVERY
def test_until_comes_near_to_where_training_stops(name):
    run = trained(name, 60, 0)
    until = float(run.losses[220]) * 1.0001
    first = next(k for k, v in enumerate(run.losses.tolist()) if v < until)
    model, task = mlp_problem((4, 60), 10, n_test=40)
    stopped = wm.train(model, task, OPTIMIZERS[name], until=until)
    assert stopped.steps == first
    found = followed(name, 60, 0, steps=math.inf, until=until, tol=2e-3)
    assert found.steps == pytest.approx(first, rel=0.03)
    assert rms(found.test, stopped.test) < 6e-3 * found.target_std
    assert float((found.train - task.y).square().mean()) < until
    assert found.notes == ()


@EVERY
@pytest.mark.parametrize("steps", [0, 1, 12])
def test_the_first_steps_are_made_for_real(name, steps):
    model, task = mlp_problem((4, 60), 10, outputs=3, n_test=40)
    run = wm.train(model, task, OPTIMIZERS[name], until=None, steps=steps)
    found = wm.predict(model, task, OPTIMIZERS[name], steps=steps, tol=1e-9, relinearize="path")
    assert found.steps == steps
    assert distance(found.test, run.test) < 1e-10
    assert distance(found.train, run.train) < 1e-10


@EVERY
def test_intervals_of_a_step_are_training_itself(name):
    run = wm.train(*mlp_problem((4, 60), 10, n_test=40), OPTIMIZERS[name], until=None, steps=25)
    found = followed(name, 60, 0, steps=25, relinearize=200)
    assert found.intervals == 25 - 12 + 1
    assert distance(found.test, run.test) < 1e-10
    assert found.error < 1e-2 * rms(run.test, 0 * run.test)


@pytest.mark.parametrize("name", ["adagrad", "adamw"])
def test_several_outputs(name):
    model, task = mlp_problem((4, 60), 10, outputs=3, n_test=40)
    run = wm.train(model, task, OPTIMIZERS[name], until=None, steps=100)
    found = wm.predict(model, task, OPTIMIZERS[name], steps=100, tol=5e-3, relinearize="path")
    assert rms(found.test, run.test) < 1e-2 * found.target_std


@pytest.mark.parametrize(("name", "relinearize"), [*((name, "auto") for name in OPTIMIZERS), ("adamw", 8)])
def test_the_terms_add_up(name, relinearize):
    model, task = mlp_problem((4, 60), 10, n_test=40)
    found = wm.predict(model, task, OPTIMIZERS[name], steps=100, relinearize=relinearize)
    assert distance(torch.stack(list(found.terms.values())).sum(0), found.test) < 1e-10
    assert {"interpolant", "initialization", "unconverged"} < set(found.terms)


STEPWISE = {
    "amsgrad": partial(torch.optim.Adam, lr=1e-3, amsgrad=True),
    "centered": partial(torch.optim.RMSprop, lr=1e-4, centered=True),
    "momentum": partial(torch.optim.RMSprop, lr=1e-4, momentum=0.9),
    "coupled": partial(torch.optim.Adam, lr=1e-3, weight_decay=0.1),
    "lr_decay": partial(torch.optim.Adagrad, lr=0.02, lr_decay=0.01),
    "decayed adagrad": partial(torch.optim.Adagrad, lr=0.02, weight_decay=0.1),
    "nadam": partial(torch.optim.NAdam, lr=1e-3),
    "adafactor": partial(torch.optim.Adafactor, lr=1e-3),
}


@pytest.mark.parametrize("name", STEPWISE)
def test_other_settings_have_no_rule(name):
    assert rule_of(STEPWISE[name]([torch.nn.Parameter(torch.ones(2))])) is None


@pytest.mark.parametrize("name", ["amsgrad", "decayed adagrad", "adafactor"])
def test_other_settings_go_step_by_step(name):
    model, task = mlp_problem((4, 60), 10, n_test=40)
    run = wm.train(model, task, STEPWISE[name], until=None, steps=80)
    lazy = wm.predict(model, task, STEPWISE[name], steps=80, relinearize="never")
    found = [wm.predict(model, task, STEPWISE[name], steps=80, relinearize=n) for n in (4, 24)]
    truths = [rms(p.test, run.test) for p in (lazy, *found)]
    assert truths[2] < 0.5 * truths[1]
    assert truths[2] < 0.2 * truths[0]
    for prediction, truth in zip(found, truths[1:], strict=True):
        assert 1 / 6 < prediction.error / truth < 8


def test_auto_meets_the_tolerance_or_says_that_it_does_not():
    model, task = mlp_problem((4, 60), 10, n_test=40)
    run = wm.train(model, task, STEPWISE["amsgrad"], until=None, steps=100)
    met, missed = (
        wm.predict(model, task, STEPWISE["amsgrad"], steps=100, tol=tol, relinearize="path") for tol in (1e-2, 1e-6)
    )
    assert met.relative_error <= 1e-2
    assert met.notes == ()
    assert missed.relative_error > 1e-6
    assert missed.notes == (
        f"the estimated error {missed.error:.2g} did not come down to tol = 1e-06 of the targets' standard deviation "
        f"{missed.target_std:.3g} with {missed.intervals} intervals: train it for real with whichmin.train.",
    )
    assert met.intervals < missed.intervals < 100
    for found in (met, missed):
        assert 0.5 < rms(found.test, run.test) / found.error < 2


RULES = {
    "adagrad": AdaGrad(0.02, 1e-10),
    "rmsprop": RMSprop(1e-4, 1e-8, beta2=0.99),
    "adam": Adam(1e-3, 1e-8, 0.9, 0.999, True),
    "adamw": Adam(1e-3, 1e-8, 0.9, 0.999, True, 0.3),
}


@EVERY
def test_the_rule_of_an_optimizer(name):
    parameters = [torch.nn.Parameter(torch.ones(2))]
    assert rule_of(OPTIMIZERS[name](parameters)) == RULES[name]
    keywords = OPTIMIZERS[name].keywords
    assert rule_of(OPTIMIZERS[name].func(parameters, **keywords, maximize=True)) is None
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))]} for _ in range(2)]
    assert rule_of(OPTIMIZERS[name](groups)) is None


def test_decoupled_adam_is_adamw():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    rule = rule_of(torch.optim.Adam(parameters, lr=1e-3, weight_decay=0.1, decoupled_weight_decay=True))
    assert rule == Adam(1e-3, 1e-8, 0.9, 0.999, True, 0.1)


@pytest.mark.parametrize("n", [1.0, 40.0, 700.0])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_nodes_integrate_what_is_smooth(n, count):
    """Sums of squares over n steps, in closed form: polynomials for sums, powers of what is kept for averages."""
    times, weights, kept = RULES["adagrad"].nodes(n, count)
    assert (len(times), kept) == (count, 1)
    for power in range(2 * count):
        assert weights @ times**power == pytest.approx(n ** (power + 1) / (power + 1), rel=1e-12)
    rule = RULES["rmsprop"]
    times, weights, kept = rule.nodes(n, count)
    assert kept == pytest.approx(0.99**n)
    assert weights.sum() == pytest.approx(1 - kept, rel=1e-12), "a constant gradient"
    u = 0.99 ** (n - times)  # of what was at τ so much is kept
    for power in range(2 * count):
        assert weights @ u**power == pytest.approx((1 - kept ** (power + 1)) / (power + 1), rel=1e-10)
    assert bool(np.all((times >= 0) & (times <= n)))


def test_a_path_of_a_step_or_two_ends():
    """Where finer intervals make no other path, refining has to end."""
    model, task = mlp_problem((4, 60), 8)
    first = wm.train(model, task, partial(torch.optim.Adagrad, lr=0.02), until=None, steps=13)
    until = float(first.losses[13]) * 1.0001
    run = wm.train(model, task, partial(torch.optim.Adagrad, lr=0.02), until=until)
    found = wm.predict(model, task, partial(torch.optim.Adagrad, lr=0.02), until=until, tol=1e-9, relinearize="path")
    assert found.steps == run.steps == 13
    assert rms(found.test, run.test) < 1e-10


@pytest.mark.parametrize(
    ("edge", "accepted", "matters"), [(None, 1e-9, False), (20, 0.1, False), (20, 0.01, True), (99, 1.0, True)]
)
def test_an_edge_matters_while_much_is_left_to_be_fitted(edge, accepted, matters):
    curve = [(0.0, 1.0), (10.0, 0.5), (25.0, 0.25), (30.0, 0.01)]
    outcome = Outcome("relinearized", [], [], 30.0, 3, 0.0, curve, {}, edge=edge)
    objective = MeanSquaredError().objective(torch.zeros(4, 1), 1)
    assert _edge_matters(outcome, accepted, objective) is matters


@pytest.mark.parametrize(("swollen", "matters"), [(1e-3, False), (0.2, True)])
def test_an_edge_matters_where_rounding_may_have_grown(swollen, matters):
    curve = [(0.0, 1.0), (20.0, 1e-14), (30.0, 1e-14)]
    outcome = Outcome("relinearized", [], [], 30.0, 3, 0.0, curve, {}, edge=20, swollen=swollen)
    objective = MeanSquaredError().objective(torch.zeros(4, 1), 1)
    assert _edge_matters(outcome, 0.1, objective) is matters


@pytest.mark.parametrize(("beta", "share"), [(0.0, 1.0), (0.9, 1.0), (0.9, 1.02), (0.5, 1.1), (0.9, 0.4)])
def test_how_a_mode_grows_beyond_the_limit(beta, share):
    """By steps x ← x − lr·m, m ← β₁ m + (1 − β₁) λ x."""
    rule = Adam(lr=0.1, eps=1e-8, beta1=beta, beta2=0.999)
    eigenvalue = share * rule.largest_product / rule.lr
    x, m, sizes = 1.0, 0.0, []
    for _ in range(400):
        m = beta * m + (1.0 - beta) * eigenvalue * x
        x -= rule.lr * m
        sizes.append(math.hypot(x, rule.lr * m))
    assert rule.growth(share) == pytest.approx((sizes[399] / sizes[199]) ** (1 / 200), rel=2e-2)


def test_a_leap_long_after_everything_is_fitted():
    """Adam's second moments fade while gradients are rounding, until a mode is beyond the edge and rounding grows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 256), nn.Tanh(), nn.Linear(256, 1))
    X, X_test = torch.randn(8, 10), torch.randn(20, 10)
    task = wm.Task(X, torch.randn(8, 1).sign(), X_test)
    optimizer = partial(torch.optim.Adam, lr=5e-3)
    run = wm.train(model, task, optimizer, steps=1500, until=None)
    assert max(run.losses[400:]) > 1e-4 > 1e4 * min(run.losses), "a leap"
    path = wm.predict(model, task, optimizer, steps=1500, relinearize="path")
    assert path.error == math.inf
    assert any("beyond the limit of stability" in note for note in path.notes)
    assert wm.predict(model, task, optimizer, steps=1500).method == "trained"


@pytest.mark.parametrize(("lr", "is_known"), [(1e-3, True), (3e-2, False)])
def test_at_the_edge_with_much_left_to_be_fitted_nothing_is_known(lr, is_known):
    model, task = mlp_problem((4, 16), 10)
    optimizer = partial(torch.optim.Adam, lr=lr, betas=(0.0, 0.99))
    found = wm.predict(model, task, optimizer, steps=70, relinearize="path")
    assert math.isfinite(found.error) is is_known
    assert any("is not known" in note for note in found.notes) is not is_known
    assert wm.predict(model, task, optimizer, steps=70).error < 0.1  # training tells


@pytest.mark.parametrize("loss", [torch.nn.MSELoss(), torch.nn.HuberLoss()])
@pytest.mark.parametrize("factory", [partial(torch.optim.Adam, lr=1e-2), partial(torch.optim.Adagrad, lr=1e-2)])
def test_where_the_targets_are_met_exactly_nothing_moves(loss, factory):
    model = wm.networks.MLP([5, 16, 1], seed=0, dtype=torch.float64)
    X = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    f = model(X).detach()
    task = wm.Task(X, f, X, loss=loss)
    for relinearize in ("never", "path", "auto"):
        predicted = wm.predict(model, task, factory, steps=40, relinearize=relinearize)
        torch.testing.assert_close(predicted.test, f, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", [0, 4])
def test_close_to_the_edge_of_stability_errors_are_larger_and_rough(seed):
    torch.manual_seed(seed)
    X, X_test = torch.randn(20, 5).double(), torch.randn(15, 5).double()
    task = wm.Task(X, torch.sign(torch.randn(20)).double(), X_test)
    model = torch.nn.Sequential(torch.nn.Linear(5, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)).double()
    adagrad = partial(torch.optim.Adagrad, lr=0.3)
    found = wm.predict(model, task, adagrad, steps=40, relinearize=16)
    assert any("steps overshoot: the estimated error is rough" in note for note in found.notes)
    trained = wm.train(model, task, adagrad, steps=40, until=None)
    assert rms(found.test, trained.test) < found.error
    slow = wm.predict(model, task, partial(torch.optim.Adagrad, lr=0.01), steps=40, relinearize=16)
    assert not any("overshoot" in note for note in slow.notes)

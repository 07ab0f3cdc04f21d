"""``train`` against a plain loop, and where it stops."""

from __future__ import annotations

import copy
import math
import re
from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import BEST, distance, flat, problem, sgd
from whichmin.errors import InputError, OptimizerError, TrainingError


def loop(model, task, factory, steps):
    """A plain training loop: the losses before each step and at the end."""
    optimizer, criterion, losses = factory(model.parameters()), nn.MSELoss(), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(task.X), task.y)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return [*losses, criterion(model(task.X), task.y).item()]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize(
    "factory",
    [
        sgd(0.1),
        partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
        partial(torch.optim.Adam, lr=1e-2),
        partial(torch.optim.Adagrad, lr=0.1),
    ],
    ids=["sgd", "momentum", "adam", "adagrad"],
)
def test_it_is_the_plain_loop(factory, outputs):
    model, task = problem("over", outputs)
    run = wm.train(model, task, factory, until=None, steps=30)
    plain = copy.deepcopy(model)
    losses = loop(plain, task, factory, 30)
    assert run.steps == 30
    assert distance(run.losses, torch.tensor(losses, dtype=torch.float64)) < 1e-12
    assert run.losses.dtype == torch.float64
    assert distance(run.train, plain(task.X).detach()) < 1e-13
    assert distance(run.test, plain(task.X_test).detach()) < 1e-13
    assert distance(flat(run.final, model), flat(plain.state_dict(), model)) < 1e-13
    assert run.optimizer == factory.func.__name__
    assert run.learning_rate == factory.keywords["lr"]
    assert not run.converged


def below_zero(f, y):
    return (f - y).square().mean() - 50.0


@pytest.mark.parametrize("loss", [nn.BCEWithLogitsLoss(), below_zero])
@pytest.mark.parametrize("verb", [wm.train, lambda *a, **k: wm.explain(*a, **k).run])
def test_losses_that_are_not_least_at_zero_take_all_steps_that_are_asked_for(loss, verb):
    model, task = problem("over")
    run = verb(model, wm.Task(task.X, task.y.sigmoid(), task.X_test, loss=loss), sgd(1e-7), steps=7)
    assert run.steps == 7
    assert not run.converged


def test_a_comparison_without_an_end_is_refused_and_steps_are_one():
    model, task = problem("over")
    task = wm.Task(task.X, task.y, task.X_test, loss=below_zero)
    recipes = {"slow": sgd(1e-3), "fast": sgd(2e-3)}
    with pytest.raises(InputError, match="would have no end"):
        wm.compare(lambda seed: wm.networks.MLP((4, 8, 1), seed=seed), task, recipes, 2, train=True)
    with pytest.raises(InputError, match="would have no end"):
        wm.mitigate(model, task, sgd(1e-3), methods=["centered"], validation=(task.X_test, torch.zeros(task.n_test, 1)))


@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_budget_of_seconds_ends_it_with_what_there_is(batch_size):
    model, task = problem("over")
    run = wm.train(model, task, sgd(1e-9), until=None, steps=10**9, budget=0.2, batch_size=batch_size)
    assert 0 < run.steps < 10**9
    assert run.reason == f"the budget of 0.2 s ran out after {run.steps} steps."
    assert not run.converged
    assert not run.interrupted
    assert int(run.loss_steps[-1]) == run.steps
    again = wm.train(model, task, sgd(1e-9), until=None, steps=run.steps, batch_size=batch_size)
    assert torch.equal(run.test, again.test)


@pytest.mark.parametrize("budget", [0, -1.0, float("nan"), "long"])
def test_a_budget_is_positive(budget):
    model, task = problem("over")
    with pytest.raises(InputError, match="expected a positive number of seconds, or None"):
        wm.train(model, task, sgd(0.1), budget=budget)


def test_until_is_the_first_step_below():
    model, task = problem("over")
    losses = wm.train(model, task, sgd(0.1), until=None, steps=60).losses
    until = float(losses[40]) * 1.0001
    run = wm.train(model, task, sgd(0.1), until=until)
    assert run.steps == 40
    assert run.converged
    assert run.until == until
    assert len(run.losses) == 41
    assert run.losses[-1] < until <= run.losses[-2]
    assert float((run.train - task.y).square().mean()) == pytest.approx(float(run.losses[-1]))
    assert run.reason == f"the training MSE fell below {until:g} after 40 steps."
    exact = wm.train(model, task, sgd(0.1), until=float(losses[40]))
    assert exact.steps == 41, "strictly below"


def test_it_stops_at_max_steps():
    model, task = problem("over")
    run = wm.train(model, task, sgd(0.1), steps=7)
    assert run.steps == 7
    assert not run.converged
    assert run.reason.startswith("stopped at steps = 7 with a training MSE of")
    assert "above until = 1e-05" in run.reason
    none = wm.train(model, task, sgd(0.1), steps=0)
    assert none.steps == 0
    assert distance(none.test, model(task.X_test).detach()) == 0


def test_the_best_rate_is_that_of_the_kernel():
    model, task = problem("over", 3)
    best = wm.spectrum(wm.tangent_kernel(model, task.X)).best_lr
    run = wm.train(model, task, BEST, until=None, steps=3)
    assert run.learning_rate == pytest.approx(best, rel=1e-12)
    for optimizer in (BEST, partial(torch.optim.SGD, lr="best", momentum=0.1)):
        run = wm.train(model, task, optimizer, until=None, steps=3)
        found = wm.predict(model, task, optimizer, steps=3)
        assert run.learning_rate == pytest.approx(found.learning_rate, rel=1e-12)
    assert run.learning_rate == pytest.approx(found.limit / 2, rel=1e-9), "that of the rule"


def test_the_model_is_not_changed():
    model, task = problem("over")
    model.train()
    model(task.X).sum().backward()
    before, grads = copy.deepcopy(model.state_dict()), [p.grad.clone() for p in model.parameters()]
    run = wm.train(model, task, sgd(0.1), until=None, steps=5)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, model.parameters(), strict=True))
    assert all(torch.equal(before[k], v) for k, v in run.initial.items())
    assert not torch.equal(before["layers.0.weight"], run.final["layers.0.weight"])


def test_two_runs_agree_to_the_bit():
    model, task = problem("over")
    a, b = (wm.train(model, task, sgd(0.1), steps=30) for _ in range(2))
    assert torch.equal(a.losses, b.losses)
    assert torch.equal(a.test, b.test)


def test_frozen_parameters_stay():
    model, task = problem("over")
    model.layers[0].weight.requires_grad_(False)
    run = wm.train(model, task, partial(torch.optim.SGD, lr=0.1, weight_decay=0.1), until=None, steps=5)
    assert torch.equal(run.final["layers.0.weight"], model.layers[0].weight)
    assert not torch.equal(run.final["layers.1.weight"], model.layers[1].weight)


def test_outputs_without_a_column_are_those_of_one():
    model, task = problem("over")

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = copy.deepcopy(model)

        def forward(self, x):
            return self.inner(x)[:, 0]

    a, b = (wm.train(m, task, sgd(0.1), until=None, steps=20) for m in (model, Flat()))
    assert a.test.shape == b.test.shape == (task.n_test, 1)
    assert distance(a.test, b.test) < 1e-14


def test_without_a_test_set():
    model, task = problem("over")
    run = wm.train(model, wm.Task(task.X, task.y), sgd(0.1), steps=5)
    assert run.test is None
    assert run.train.shape == task.y.shape


@pytest.mark.parametrize("steps_before", [3, 250])
def test_a_loss_that_is_not_finite(steps_before):
    model, task = problem("over")

    class Exploding(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            self.count = getattr(self, "count", 0) + 1
            if self.count == steps_before:
                for p in self.param_groups[0]["params"]:
                    p.data.mul_(math.inf)

    with pytest.raises(TrainingError, match=r"no longer finite.*Lower the learning rate") as caught:
        wm.train(model, task, partial(Exploding, lr=0.01), until=None)
    error = caught.value
    assert f"after {steps_before} steps" in str(error)
    assert error.step < steps_before
    assert steps_before - error.step <= 100
    assert all(bool(v.isfinite().all()) for v in error.state.values())
    good = copy.deepcopy(model)
    good.load_state_dict(error.state)
    mse = float((good(task.X).detach() - task.y).square().mean())
    assert mse == pytest.approx(float(error.losses[error.step]))
    again = wm.train(model, task, sgd(0.01), until=None, steps=error.step)
    assert distance(flat(error.state, model), flat(again.final, model)) < 1e-13


def test_a_rate_beyond_the_limit_ends_in_a_training_error():
    model, task = problem("over", activation="relu", bias=False)
    with pytest.raises(TrainingError, match="no longer finite"):
        wm.train(model, task, sgd(1e6), steps=1000)


class Interrupted(nn.Module):
    """A network during whose k-th training pass the user presses Ctrl-C."""

    def __init__(self, inner, task, k):
        super().__init__()
        self.inner, self.n, self.k, self.passes = inner, task.n, k, 0

    def forward(self, x):
        if torch.is_grad_enabled() and len(x) == self.n:
            self.passes += 1
            if self.passes == self.k:
                raise KeyboardInterrupt
        return self.inner(x)


@pytest.mark.parametrize("passes", [1, 2, 12])
def test_an_interrupt_keeps_what_there_is(passes):
    model, task = problem("over")
    run = wm.train(Interrupted(model, task, passes), task, sgd(0.1), steps=50)
    steps = passes - 1  # every pass but the last was followed by a step
    whole = wm.train(model, task, sgd(0.1), until=None, steps=steps)
    assert run.interrupted
    assert not whole.interrupted
    assert "interrupted" in run.reason
    assert not run.converged
    assert run.steps == steps
    assert distance(run.test, whole.test) < 1e-13
    assert len(run.losses) == steps + 1
    assert distance(run.losses, whole.losses) < 1e-13


def test_an_interrupted_run_can_be_explained():
    model, task = problem("over")
    run = wm.train(Interrupted(model, task, 12), task, sgd(0.1), steps=50)
    found = wm.explain(run)
    assert distance(found.total, run.test) < 1e-11
    whole = wm.explain(model, task, sgd(0.1), until=None, steps=11)
    assert distance(found.terms["drift"], whole.terms["drift"]) < 1e-10


def test_the_progress_bar_is_shown_on_request(capsys):
    model, task = problem("over")
    wm.train(model, task, sgd(0.1), steps=3)
    assert capsys.readouterr() == ("", "")
    wm.train(model, task, sgd(0.1), steps=3, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err
    assert "0/3 " in err


def test_the_progress_bar_ends_where_training_is_expected_to(capsys):
    model, task = problem("over")
    for progress, total in ((True, "0step"), (40.2, "0/40 "), (math.inf, "0step")):
        wm.train(model, task, sgd(0.1), until=1e-2, progress=progress)
        assert f"training: {total}" in re.sub(r"training: +0%\|.*?\| ", "training: ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"until": 0}, "until is 0; expected a positive"),
        ({"until": -1.0}, "until is -1.0"),
        ({"until": math.nan}, "until is nan"),
        ({"steps": -1}, "steps is -1; expected a whole number"),
        ({"steps": 2.5}, "steps is 2.5"),
    ],
)
def test_arguments(arguments, message):
    model, task = problem("over")
    with pytest.raises(InputError, match=message):
        wm.train(model, task, sgd(0.1), **arguments)


def test_optimizers():
    model, task = problem("over")
    with pytest.raises(OptimizerError, match="got a built Adam; expected a factory"):
        wm.train(model, task, torch.optim.Adam(model.parameters(), lr=0.1))
    with pytest.raises(OptimizerError, match="factory failed"):
        wm.train(model, task, sgd("worst"))
    with pytest.raises(OptimizerError, match="factory failed"):
        wm.train(model, task, sgd(-1.0))


def test_a_test_output_that_is_not_finite():
    model, task = problem("over")

    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = copy.deepcopy(model)

        def forward(self, x):
            return self.inner(x) / (x[:, :1] != 99)

    X_test = task.X_test.clone()
    X_test[2, 0] = 99
    with pytest.raises(wm.errors.ModelError, match="not finite on X_test, first in row 2"):
        wm.train(Fragile(), wm.Task(task.X, task.y, X_test), sgd(0.1), steps=3)

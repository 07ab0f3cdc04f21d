"""Real training in place of a prediction, and how long other ways may take."""

import math
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.dynamics.paths import real as real_module
from whichmin.dynamics.paths.clock import untimed
from whichmin.dynamics.paths.predictor import OUT_OF_BUDGET
from whichmin.dynamics.paths.real import (
    FREE,
    SHARE,
    SHARE_TO_END,
    TIMED_STEPS,
    BudgetError,
    Patience,
    PatienceError,
    RealTraining,
)
from whichmin.dynamics.prepare import prepare
from whichmin.errors import DivergenceError, InputError

#: The timing of a step, which other tests do without.
TIMED = RealTraining.__dict__["seconds_per_step"]


def problem(width=24, n=12, dtype=torch.float64):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 2)).to(dtype)
    X, X_test = torch.randn(n, 4).to(dtype), torch.randn(7, 4).to(dtype)
    return model, wm.Task(X, torch.randn(n, 2).to(dtype), X_test)


RECIPES = {
    "sgd": wm.Recipe(partial(torch.optim.SGD, lr=0.1, momentum=0.9)),
    "batches": wm.Recipe(partial(torch.optim.SGD, lr=0.1), batch_size=5, seed=3),
    "adam": wm.Recipe(partial(torch.optim.Adam, lr=1e-2)),
    "adam in batches": wm.Recipe(partial(torch.optim.Adam, lr=1e-2), batch_size=5, seed=3),
    "schedule": wm.Recipe(
        partial(torch.optim.SGD, lr=0.1), scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=400)
    ),
}


@pytest.fixture
def training_is_free(monkeypatch):
    monkeypatch.setattr(RealTraining, "seconds_per_step", 0.0)
    monkeypatch.setattr(real_module, "FREE", 0.0)


@pytest.fixture
def training_takes_for_ever(monkeypatch):
    monkeypatch.setattr(RealTraining, "seconds_per_step", 1e6)


@pytest.mark.usefixtures("training_is_free")
@pytest.mark.parametrize("name", list(RECIPES))
@pytest.mark.parametrize("aim", [{"steps": 30}, {"until": 0.3}, {"until": 0.3, "steps": 20}], ids=str)
def test_it_is_training(name, aim):
    model, task = problem()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    predicted = wm.predict(model, task, RECIPES[name], **aim, tol=1e-9)
    run = wm.train(model, task, RECIPES[name], until=aim.get("until"), steps=aim.get("steps"))
    assert (predicted.method, predicted.intervals, predicted.steps) == ("trained", 0, run.steps)
    assert 0 < predicted.error < 1e-12, "nothing is approximated but by rounding"
    assert torch.equal(predicted.test, run.test)
    assert torch.equal(predicted.train, run.train)
    assert all(torch.equal(v, run.final[n]) for n, v in predicted.parameters().items())
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert predicted.curve.steps[-1] == run.steps
    assert float(predicted.curve.losses[-1]) == pytest.approx(float(run.losses[-1]))
    torch.testing.assert_close(sum(predicted.terms.values()), predicted.test)
    assert any("above until" in note for note in predicted.notes) is (
        aim.get("until") is not None and not run.converged
    )


@pytest.mark.usefixtures("training_is_free")
def test_several_times():
    model, task = problem()
    predicted = wm.predict(model, task, RECIPES["sgd"], steps=[0, 3, 20], tol=1e-9)
    for k, test in zip((0, 3, 20), predicted.test, strict=True):
        assert torch.equal(test, wm.train(model, task, RECIPES["sgd"], until=None, steps=k).test)


@pytest.mark.usefixtures("training_takes_for_ever")
@pytest.mark.parametrize("name", ["sgd", "batches", "adam"])
def test_a_path_where_training_is_dear(name):
    model, task = problem(width=200)
    predicted = wm.predict(model, task, RECIPES[name], steps=30, tol=3e-2)
    assert predicted.method != "trained"
    assert predicted.relative_error <= 3e-2


def test_one_linearization_that_is_good_enough_needs_no_training(monkeypatch):
    model, task = problem()
    monkeypatch.setattr(RealTraining, "seconds_per_step", 0.0)
    with untimed():
        predicted = wm.predict(model, task, RECIPES["sgd"], steps=2, tol=0.1)
    assert predicted.method == "linearized"
    assert predicted.relative_error <= 0.1


@pytest.mark.usefixtures("training_is_free")
@pytest.mark.parametrize("way", ["never", "path", 3])
def test_a_way_that_is_forced_is_taken(way):
    model, task = problem()
    for name in ("sgd", "adam", "adam in batches"):
        assert wm.predict(model, task, RECIPES[name], steps=12, tol=5e-2, relinearize=way).method != "trained"


def test_what_has_no_end_is_not_trained():
    model, task = problem()
    assert wm.predict(model, task, partial(torch.optim.SGD, lr=0.1)).method != "trained"
    assert wm.predict(model, task, partial(torch.optim.SGD, lr=0.1), steps=9.5, flow=True).method != "trained"


def test_a_step_is_timed(monkeypatch):
    model, task = problem()
    predictor = prepare(model, task, RECIPES["adam"], (30.0,))
    made = []
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, closure=None: made.append(time.sleep(0.01)))
    assert 0.01 <= TIMED.func(RealTraining(predictor.problem)) < 1.0
    assert len(made) == TIMED_STEPS


def test_an_edge_is_trained_for_real():
    """f = w₂ w₁ x on x = y = 1 from small weights: the kernel grows to 2, past the limit of lr = .55."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.constant_(model[1].weight, 0.12)
    one = torch.ones(1, 1, dtype=torch.float64)
    task, recipe = wm.Task(one, one, 1.3 * one), wm.Recipe(partial(torch.optim.SGD, lr=0.55))
    forced = wm.predict(model, task, recipe, steps=121, relinearize="path")
    assert any("limit of stability" in note for note in forced.notes)
    predicted = wm.predict(model, task, recipe, steps=121)
    assert predicted.method == "trained"
    assert torch.equal(predicted.test, wm.train(model, task, recipe, until=None, steps=121).test)


@pytest.mark.usefixtures("training_is_free")
def test_training_that_diverges_says_so():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(m, n, bias=False) for m, n in ((6, 8), (8, 8), (8, 6)))).double()
    X = torch.randn(6, 6, dtype=torch.float64)
    task = wm.Task(X, 30 * torch.randn(6, 6, dtype=torch.float64).abs(), X[:2] + 1)
    limit = wm.spectrum(wm.tangent_kernel(model, X)).max_lr
    with pytest.raises(DivergenceError, match="real steps of SGD"):
        wm.predict(model, task, partial(torch.optim.SGD, lr=0.5 * limit), steps=300, tol=1e-6)


def test_a_budget_that_runs_out():
    model, task = problem()
    predicted = wm.predict(model, task, RECIPES["sgd"], steps=50, tol=1e-9, budget=1e-6)
    assert predicted.method == "linearized"
    assert OUT_OF_BUDGET in predicted.notes


@pytest.mark.parametrize("name", ["adam", "adam in batches"])
def test_a_budget_that_runs_out_in_training_leaves_what_was_trained(name):
    model, task = problem()
    steps = [0, 5, 10**7]
    predicted = wm.predict(model, task, RECIPES[name], steps=steps, tol=1e-9, budget=0.2)
    assert (predicted.method, predicted.error) == ("trained", math.inf)
    done = int(predicted.curve.steps[-1])
    assert predicted.notes[-1] == f"the budget ran out after {done} steps: these are the outputs there."
    for k, test in zip((0, min(5, done), done), predicted.test, strict=True):
        assert torch.equal(test, wm.train(model, task, RECIPES[name], until=None, steps=k).test)


@pytest.mark.parametrize("budget", [0, -1.0, math.nan])
def test_budgets_that_are_none(budget):
    model, task = problem()
    with pytest.raises(InputError, match="budget is"):
        wm.predict(model, task, RECIPES["sgd"], steps=5, budget=budget)


def test_a_progress_bar_says_the_way(capsys, training_is_free):
    model, task = problem()
    wm.predict(model, task, RECIPES["adam in batches"], steps=60, progress=True)
    assert "predicting by real training" in capsys.readouterr().err
    wm.predict(model, task, RECIPES["adam in batches"], steps=5)
    assert capsys.readouterr().err == ""


class Clock:
    """Stands in for time."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(real_module, "time", made)
    return made


def patience_of(step, expected, *, until=None, steps=math.inf, deadline=math.inf):
    goal = SimpleNamespace(until=until, steps=steps)
    objective = SimpleNamespace(excess=lambda loss: loss)
    real = SimpleNamespace(seconds_per_step=step, problem=SimpleNamespace(goal=goal, objective=objective, first=0))
    progress = SimpleNamespace(advance=lambda steps: None)
    return Patience(real, deadline, progress, expected, started=0.0)


def test_patience_is_a_share_of_what_training_takes(clock):
    patience = patience_of(0.01, 1000)
    clock.now = FREE + SHARE * 0.01 * 1000 - 1e-6
    patience.check(10, 0.5, 1.0)
    clock.now += 2e-6
    with pytest.raises(PatienceError):
        patience.check(10, 0.5, 1.0)
    assert patience.is_training_cheaper(10.0)
    assert not patience.is_training_cheaper(9.9)


@pytest.mark.parametrize(("step", "goes_on"), [(720, True), (300, False)])
def test_a_path_that_will_soon_be_there_may_take_longer(clock, step, goes_on):
    """Of 1,000 steps of .01 s others may take 2 s, and one that is there by 3.3 s may go on to that."""
    patience = patience_of(0.01, 1000)
    clock.now = FREE + SHARE * 0.01 * 1000 - 0.1
    patience.check(step - 100, 0.5, 1.0)
    clock.now += 0.2  # a hundred steps in that: .56 s are left, or 1.4
    if goes_on:
        patience.check(step, 0.4, 1.0)
        clock.now = FREE + SHARE_TO_END * 0.01 * 1000 + 0.1
        with pytest.raises(PatienceError):
            patience.check(step + 100, 0.4, 1.0)
    else:
        with pytest.raises(PatienceError):
            patience.check(step, 0.4, 1.0)


def test_the_steps_to_a_loss_are_those_at_the_pace_of_the_path(clock):
    patience = patience_of(0.01, math.inf, until=1e-6)
    clock.now = FREE + SHARE * 0.01 * 300 - 1e-6  # a hundredth in 100 steps, a millionth in 300
    patience.check(100, 1e-2, 1.0)
    clock.now += 2e-6
    with pytest.raises(PatienceError):
        patience.check(100, 1e-2, 1.0)
    assert not patience.is_training_cheaper(1e9), "nobody knows"


def test_a_deadline(clock):
    patience = patience_of(1e9, 1000, deadline=2.0)
    clock.now = 2.0
    patience.check(1, 1.0, 1.0)
    clock.now = 2.1
    with pytest.raises(BudgetError):
        patience.check(1, 1.0, 1.0)


BUDGETED = {
    "adam": partial(torch.optim.Adam, lr=1e-4),
    "adam in batches": wm.Recipe(partial(torch.optim.Adam, lr=1e-4), batch_size=10),
    "nadam": partial(torch.optim.NAdam, lr=1e-4),
}


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("relinearize", ["never", "path", 5])
def test_a_budget_that_runs_out_leaves_what_was_predicted(monkeypatch, name, relinearize):
    """Whatever is under way ends at the deadline, here after some looks at the clock, and tells how far it came."""
    looks = []

    def now():
        looks.append(1)
        return 1e6 * (len(looks) > 4)

    model, task = problem(n=30)
    monkeypatch.setattr("whichmin.dynamics.paths.real.time", SimpleNamespace(perf_counter=now))
    found = wm.predict(model, task, BUDGETED[name], steps=3000, relinearize=relinearize, budget=1e3)
    assert 0 < found.steps < 3000
    assert found.error == math.inf
    assert f"the budget ran out after {found.steps:.0f} steps: these are the outputs there." in found.notes
    stopped = wm.train(model, task, BUDGETED[name], steps=int(found.steps), until=None)
    moved = float((stopped.test - model(task.X_test)).square().mean().sqrt())
    assert float((found.test - stopped.test).square().mean().sqrt()) < 0.2 * moved


@pytest.mark.parametrize("until", [None, 1e-12])
def test_training_errors_of_epochs_are_measured_ever_more_rarely_where_nothing_hangs_on_them(until):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(12, 3, generator=generator)
    task = wm.Task(X, X[:, :1].sin())
    recipe = wm.Recipe(partial(torch.optim.Adam, lr=1e-3), batch_size=4)
    model = wm.networks.MLP((3, 8, 1), seed=0)
    found = wm.predict(model, task, recipe, steps=300, until=until)
    run = wm.train(model, task, recipe, steps=300, until=until, progress=False)
    assert found.method == "trained"
    known = dict(zip(run.loss_steps.tolist(), run.losses.tolist(), strict=True))
    at = found.curve.steps.tolist()
    assert [known[step] for step in at] == found.curve.losses.tolist()
    assert (at[0], at[-1]) == (0, 300)
    assert len(at) == len(known) if until else len(at) < len(known) / 4

"""Optimizers without a motion in function space, on a network that is its own linearization: that is training."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import whichmin as wm
from oracles.linear_rules import Dense, distance, flat, mlp_problem, rms, sgd
from whichmin.dynamics.paths.outcome import error_told_by
from whichmin.dynamics.paths.real import BudgetError, Patience
from whichmin.dynamics.paths.stepwise import StepwisePredictor
from whichmin.dynamics.prepare import prepare
from whichmin.recipe.recipe import Recipe


def linear_network(outputs: int = 1, n: int = 7) -> tuple[nn.Module, wm.Task]:
    _, task = mlp_problem((9, 4), n, outputs, n_test=6)
    torch.manual_seed(1)
    return nn.Linear(9, outputs, dtype=torch.float64), task


def groups(parameters):
    return torch.optim.SGD([{"params": [p], "lr": 0.1 / (1 + i)} for i, p in enumerate(parameters)], momentum=0.5)


OPTIMIZERS = {
    "amsgrad": partial(torch.optim.Adam, lr=0.05, amsgrad=True),
    "groups": groups,
    "momentum": partial(torch.optim.RMSprop, lr=0.01, momentum=0.7, alpha=0.9),
}
DECAYED = partial(torch.optim.AdamW, lr=0.05, weight_decay=0.3)
ADAM = partial(torch.optim.Adam, lr=0.05)


def falling(k: int) -> float:
    return 0.8 / (1.0 + 0.1 * k)


SCHEDULE = partial(LambdaLR, lr_lambda=falling)
COURSES = {
    "full": {},
    "batches": {"batch_size": 3, "seed": 2},
    "both": {"batch_size": 3, "seed": 2, "scheduler": SCHEDULE},
}
CASES = {f"{name}-both": (optimizer, "both") for name, optimizer in OPTIMIZERS.items()}
CASES |= {"amsgrad-full": (OPTIMIZERS["amsgrad"], "full"), "groups-full": (groups, "full")}
CASES |= {"adam-batches": (ADAM, "batches"), "adamw-both": (DECAYED, "both")}


@pytest.mark.parametrize(("optimizer", "course"), CASES.values(), ids=CASES)
def test_every_number_of_intervals_is_training(optimizer, course):
    """Outputs on the way, parameters, and the training curve."""
    model, task = linear_network(2)
    times = [0, 1, 4, 9, 14]
    run = wm.train(model, task, optimizer, until=None, steps=times[-1], **COURSES[course])
    losses = dict(zip(run.loss_steps.tolist(), run.losses.tolist(), strict=True))
    snapshots = [wm.train(model, task, optimizer, until=None, steps=t, **COURSES[course]) for t in times]
    for relinearize in ("never", 1, 3):
        found = wm.predict(model, task, optimizer, steps=times, relinearize=relinearize, **COURSES[course])
        assert found.method == ("linearized" if relinearize == "never" else "relinearized")
        for k, snapshot in enumerate(snapshots):
            assert distance(found.train[k], snapshot.train) < 1e-11
            assert distance(found.test[k], snapshot.test) < 1e-11
        assert distance(flat(found.parameters(), model), flat(run.final, model)) < 1e-11
        assert found.curve.steps.tolist() == sorted(set(found.curve.steps.tolist()))
        curve = dict(zip(found.curve.steps.tolist(), found.curve.losses.tolist(), strict=True))
        assert losses.keys() <= curve.keys()
        assert all(curve[k] == pytest.approx(loss, rel=1e-9) for k, loss in losses.items())
        assert found.error < 1e-11


@pytest.mark.parametrize("optimizer", [OPTIMIZERS["groups"], ADAM], ids=["groups", "adam"])
def test_it_stops_where_training_stops(optimizer):
    """Where an epoch starts, also where an interval ends in the middle of one."""
    model, task = linear_network(n=8)
    course = COURSES["batches"]
    losses = [wm.train(model, task, optimizer, until=None, steps=t, **course).losses[-1] for t in range(8)]
    early = 0
    for until in sorted({float(loss) * (1 + 1e-6) for loss in losses[1:]}):
        run = wm.train(model, task, optimizer, until=until, steps=30, **course)
        early += next(k for k, loss in enumerate(losses) if float(loss) < until) < run.steps
        for relinearize in ("never", 5):
            found = wm.predict(model, task, optimizer, until=until, steps=30, relinearize=relinearize, **course)
            assert found.steps == run.steps
            assert distance(found.test, run.test) < 1e-11
    assert early > 0, "some fall below in the middle of an epoch"


@pytest.mark.parametrize(
    "kind",
    [torch.optim.AdamW, partial(torch.optim.Adam, decoupled_weight_decay=True)],
    ids=["AdamW", "decoupled"],
)
@pytest.mark.parametrize("scheduler", [None, SCHEDULE], ids=["", "scheduled"])
def test_what_decoupled_weight_decay_takes_off(kind, scheduler):
    """Σ lr_k λ θ_k with the rate of each step, summed in a loop by hand; it is what the term ``decay`` is made of."""
    model, task = linear_network(2)
    factory, steps = partial(kind, lr=0.05, weight_decay=0.3), 12
    predictor = prepare(model, task, Recipe(factory, batch_size=3, seed=2, scheduler=scheduler), (float(steps),))
    outcome = predictor.linearized()
    taken = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for k in range(steps):
        rate = 0.05 * (1.0 if scheduler is None else falling(k))
        at = wm.train(model, task, factory, until=None, steps=k, batch_size=3, seed=2, scheduler=scheduler).final
        taken = {n: v - rate * 0.3 * at[n] for n, v in taken.items()}
    for name, expected in taken.items():
        assert distance(outcome.run.decay[name], expected) < 1e-12
        assert float(expected.abs().max()) > 1e-3
    assert "decay" in predictor.terms(outcome)
    plain = prepare(model, task, Recipe(partial(torch.optim.Adam, lr=0.05, weight_decay=0.3), batch_size=3), (3.0,))
    assert plain.linearized().run.decay is None, "a decay that is part of the gradient"


@pytest.mark.parametrize("relinearize", ["auto", 4])
@pytest.mark.parametrize("settings", [{"steps": 0}, {"steps": [0, 6]}, {"until": 1e6}], ids=["none", "first", "until"])
def test_a_path_may_begin_with_no_step(settings, relinearize):
    model, task = mlp_problem((4, 12), 6)
    found = wm.predict(model, task, groups, relinearize=relinearize, tol=1e-9, **settings)
    start = found.test[0] if isinstance(settings.get("steps"), list) else found.test
    assert distance(start, model(task.X_test).detach()) < 1e-14


def test_a_number_of_intervals_is_about_that_many():
    model, task = mlp_problem((4, 20), 8)
    for count in (3, 10):
        found = wm.predict(model, task, OPTIMIZERS["amsgrad"], steps=100, relinearize=count)
        assert count - 1 <= found.intervals <= count + 6


def test_where_a_run_without_an_end_ends_is_noted(monkeypatch):
    model, task = linear_network()
    settled = wm.predict(model, task, groups, relinearize="never")
    first = float(settled.curve.losses[0])
    loss = float(settled.curve.losses[-1])
    assert loss < 1e-9 * first <= float(settled.curve.losses[-2])
    (note,) = settled.notes
    assert note.startswith(f"ended at a training MSE of {loss:.2g} after {settled.steps:.0f} steps")
    reached = wm.predict(model, task, groups, until=1e-3, relinearize="never")
    assert reached.notes == ()
    monkeypatch.setattr("whichmin.dynamics.paths.stepwise.LONGEST", 20)
    short = wm.predict(model, task, groups, until=1e-8, relinearize="never")
    loss = float(short.curve.losses[-1])
    assert short.steps == 20
    assert any(f"came to a training MSE of {loss:.3g} in 20 steps, above 1e-08" in note for note in short.notes)


@pytest.mark.parametrize("relinearize", ["never", 2])
def test_a_run_ends_where_training_comes_to_a_halt(monkeypatch, relinearize):
    """Under a rate that dies out no number of steps leads to ``until``."""
    monkeypatch.setattr("whichmin.loop.stopping.STEPS", 100)
    model, task = linear_network()
    scheduler = partial(torch.optim.lr_scheduler.StepLR, step_size=2, gamma=0.3)
    arguments = {"until": 1e-3, "batch_size": 3, "scheduler": scheduler}
    trained = wm.train(model, task, ADAM, **arguments)
    assert trained.stalled
    predicted = wm.predict(model, task, ADAM, relinearize=relinearize, **arguments)
    assert predicted.steps == trained.steps < 300
    assert distance(predicted.test, trained.test) < 1e-9
    assert any(f"in {trained.steps} steps, above 0.001" in note for note in predicted.notes)


def test_the_error_of_a_path_is_how_far_its_outputs_jump():
    """Where an interval ends the linearized outputs meet the network's; intervals of a step are training itself."""
    model, task = mlp_problem((4, 40), 8, n_test=30)
    optimizer = OPTIMIZERS["amsgrad"]
    run = wm.train(model, task, optimizer, until=None, steps=40)
    single = wm.predict(model, task, optimizer, steps=40, relinearize=10**6)
    assert single.intervals == 40
    assert single.error < 1e-12
    assert distance(single.test, run.test) < 1e-9
    coarse = wm.predict(model, task, optimizer, steps=40, relinearize=8)
    assert 0.2 < coarse.error / rms(coarse.test, run.test) < 5


def test_the_jumps_of_a_path_by_hand():
    """Intervals of 1, 5 and 6 steps; of n steps only the part 1 − 1/n of a jump is an error."""
    model, task = mlp_problem((4, 12), 6, 2, n_test=9)
    rates = torch.cat(
        [torch.full_like(p, 0.1 / (1 + i)).reshape(-1) for i, p in enumerate(model.parameters())]
    ).detach()

    def apart(parameters):
        return torch.optim.SGD([{"params": [p], "lr": 0.1 / (1 + i)} for i, p in enumerate(parameters)])

    found = wm.predict(model, task, apart, steps=12, relinearize=1)
    assert found.intervals == 3
    theta, y = flat(dict(model.named_parameters()), model).detach(), task.y.reshape(-1)
    jumps = torch.zeros(9 * 2, dtype=torch.float64)
    for steps in (1, 5, 6):
        dense = Dense.of(model, task)
        moved = torch.zeros_like(theta)
        for _ in range(steps):
            moved -= rates * (2 / len(y)) * (dense.J.T @ (dense.f0 + dense.J @ moved - y))
        theta = theta + moved
        nn.utils.vector_to_parameters(theta, model.parameters())
        there = model(task.X_test).detach().reshape(-1)
        jumps += (1 - 1 / steps) * (there - dense.outputs(moved)[1])
    assert distance(found.test, there) < 1e-11
    assert found.error == pytest.approx(float(jumps.square().mean().sqrt()), rel=1e-9)


def test_the_error_of_a_linearized_run_is_that_of_its_certificate_or_of_a_coarse_path():
    model, task = mlp_problem((4, 12), 6)
    found = wm.predict(model, task, groups, steps=30, relinearize="never")
    there = found.model()(task.X_test).detach()
    certified = rms(there, found.test)
    apart = rms(wm.predict(model, task, groups, steps=30, relinearize="path", tol=1e-6).test, found.test)
    assert certified < found.error  # it is blind to gradients that turn
    assert 0.5 * apart < found.error < 2 * apart
    once = wm.predict(model, task, groups, steps=1, relinearize="never")  # the path is training itself
    off = (once.model()(task.X_test).detach() - once.test).reshape(-1)
    assert once.error == pytest.approx(error_told_by(off), rel=1e-9)
    assert certified == pytest.approx(math.sqrt(found.certificate.test_deviation), rel=1e-9)
    assert found.certificate.train_loss == pytest.approx(rms(found.model()(task.X).detach(), task.y) ** 2, rel=1e-9)


def test_a_path_without_a_run_of_as_many_steps_tells_what_the_way_does_not_matter_to():
    """A path to a training loss takes other steps than the linearized run that its terms would be of."""
    model, task = mlp_problem((4, 12), 6)
    until = float(wm.train(model, task, groups, until=None, steps=60).losses[-1])
    found = wm.predict(model, task, groups, until=until, relinearize=20)
    linearized = wm.predict(model, task, groups, until=until, relinearize="never")
    assert found.steps != linearized.steps
    assert set(found.terms) == {"interpolant", "initialization", "unconverged", "trajectory"}
    assert distance(sum(found.terms.values()), found.test) < 1e-11
    residual = (found.train - task.y).reshape(-1)
    tangent = wm.tangent_kernel(model, task.X)[:, :, 0, 0]
    cross = wm.tangent_kernel(model, task.X_test, task.X)[:, :, 0, 0]
    assert distance(found.terms["unconverged"], cross @ torch.linalg.solve(tangent, residual)) < 1e-9


def test_a_rule_in_function_space_and_the_optimizer_itself_agree():
    """SGD of several groups has no rule, of one it has."""
    model, task = mlp_problem((4, 12), 6)

    def apart(parameters):
        return torch.optim.SGD([{"params": [p]} for p in parameters], lr=0.1)

    for settings in ({"steps": 40}, {"until": 0.1}, {"steps": 30, "batch_size": 4, "scheduler": SCHEDULE}):
        one = wm.predict(model, task, sgd(0.1), relinearize="never", **settings)
        other = wm.predict(model, task, apart, relinearize="never", **settings)
        assert one.steps == other.steps < math.inf
        assert distance(one.test, other.test) < 1e-10
        for name, term in one.terms.items():
            assert distance(term, other.terms[name]) < 1e-9, name


def test_a_path_is_compared_with_a_coarser_one():
    """Its jumps may go to and fro; what it makes of them is seen beside longer intervals."""
    model, task = mlp_problem((4, 12), 8)
    optimizer = partial(torch.optim.Adam, lr=0.1, amsgrad=True)
    predictor = prepare(model, task, Recipe(optimizer), (40.0,))
    linearized, origin = predictor.linearized(), predictor.problem.origin
    patience = Patience(None, math.inf, SimpleNamespace(say=lambda *told: None, advance=lambda steps: None))
    fine, coarse = (predictor._path(growth, linearized, patience, origin) for growth in (0.2, 0.8))
    judged = predictor._judged(0.2, linearized, None, patience)
    assert torch.equal(judged.test[-1], fine.test[-1])
    assert judged.error >= max(fine.error, rms(fine.test[-1], coarse.test[-1]) / 3)
    assert predictor._judged(0.2, linearized, coarse, patience).error == judged.error
    single = predictor._judged(1 / 40, linearized, fine, patience)
    assert single.intervals == 40
    assert single.error < 1e-9, "single steps are training itself"


def test_what_was_made_before_the_budget_ran_out_is_kept(monkeypatch):
    model, task = mlp_problem((4, 12), 8)
    optimizer = partial(torch.optim.Adam, lr=0.1, amsgrad=True)
    whole = StepwisePredictor._judged
    made = []

    def judged(self, *args):
        if made:
            raise BudgetError
        made.append(whole(self, *args))
        return made[-1]

    monkeypatch.setattr(StepwisePredictor, "_judged", judged)
    found = wm.predict(model, task, optimizer, steps=40, relinearize="path", tol=1e-9)
    assert found.method == "relinearized"
    assert found.error == made[0].error
    assert any("did not come down to tol" in note for note in found.notes)

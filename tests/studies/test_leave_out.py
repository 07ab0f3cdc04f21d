"""Predicted retraining without groups of rows: against real retraining, and how it is run."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.processes import ready
from whichmin.dynamics.paths.real import RealTraining
from whichmin.errors import InputError, SingularKernelError
from whichmin.recipe.recipe import Recipe
from whichmin.studies.leaving_out import answers
from whichmin.studies.leaving_out.solver import Solver

SGD = torch.optim.SGD


def problem(n=24, width=64, seed=0, **settings):
    g = torch.Generator().manual_seed(seed)
    X, X_test = (torch.randn(k, 8, generator=g, dtype=torch.float64) for k in (n, 20))
    y, y_test = (torch.sign(x[:, 0] + 0.5 * x[:, 1]) for x in (X, X_test))
    if settings:
        y, y_test = ((t > 0).long() for t in (y, y_test))
    task = wm.Task(X, y, X_test, y_test, **settings)
    return wm.networks.MLP([8, width, task.outputs], seed=seed, dtype=torch.float64), task


def retrained(model, task, recipe, groups, **limits):
    runs = [wm.train(model, task.without(g), recipe.without(g, task.n), **limits) for g in groups]
    return torch.stack([run.test for run in runs]), [run.steps for run in runs]


def rms(x):
    return x.square().flatten(1).mean(dim=1).sqrt()


CASES = {
    "descent": ({}, Recipe(partial(SGD, lr=0.5)), {"until": 1e-3}),
    "steps": ({}, Recipe(partial(SGD, lr=0.3)), {"steps": 200}),
    "momentum": ({}, Recipe(partial(SGD, lr=0.1, momentum=0.8)), {"until": 1e-3}),
    "batches": ({}, Recipe(partial(SGD, lr=0.1), 6, seed=1), {"steps": 150}),
    "cross-entropy": ({"loss": torch.nn.CrossEntropyLoss()}, Recipe(partial(SGD, lr=0.5)), {"until": 0.05}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_paths_end_where_retrained_networks_do(name):
    settings, recipe, limits = CASES[name]
    model, task = problem(width=256, **settings)
    found = wm.leave_out(model, task, recipe, 6, relinearize="path", **limits)
    real, _ = retrained(model, task, recipe, [tuple(g.tolist()) for g in found.groups], **{"until": None} | limits)
    off = rms(found.test - real)
    assert set(found.method) <= {"relinearized", "linearized"}
    assert bool((off < 4 * found.error).all())
    assert bool((off < 0.2 * found.effect).all())


@pytest.mark.slow
def test_rows_left_out_one_by_one_follow_what_retraining_does():
    model, task = problem(n=18, width=256)
    recipe = Recipe(partial(SGD, lr=0.5))
    found = wm.leave_out(model, task, recipe, until=1e-3, relinearize="path")
    assert found.is_each
    real, _ = retrained(model, task, recipe, [(i,) for i in range(task.n)], until=1e-3)
    full = wm.train(model, task, recipe, until=1e-3).test
    moved, guessed = (real - full).flatten(), (found.test - found.full).flatten()
    assert float(torch.corrcoef(torch.stack([moved, guessed]))[0, 1]) > 0.97


@pytest.mark.slow
def test_the_error_of_one_linearization_falls_with_the_width():
    errors = []
    for width in (64, 1024):
        model, task = problem(width=width)
        recipe = Recipe(partial(SGD, lr=0.5))
        found = wm.leave_out(model, task, recipe, 4, until=1e-3, relinearize="never")
        real, _ = retrained(model, task, recipe, [tuple(g.tolist()) for g in found.groups], until=1e-3)
        errors.append((float(rms(found.test - real).mean()), float(found.error.mean())))
    (narrow, guessed_narrow), (wide, guessed_wide) = errors
    assert wide < 0.5 * narrow
    assert guessed_wide < 0.5 * guessed_narrow
    assert wide / 4 < guessed_wide < 4 * wide


def test_automatically_it_is_retraining_itself_where_that_is_cheaper(monkeypatch):
    monkeypatch.setattr(RealTraining, "seconds_per_step", 0.0)
    model, task = problem()
    recipe = Recipe(partial(SGD, lr=0.1), 6, seed=4)
    found = wm.leave_out(model, task, recipe, [[0, 5, 6], [3]], steps=9, tol=1e-9)
    real, _ = retrained(model, task, recipe, [(0, 5, 6), (3,)], until=None, steps=9)
    assert set(found.method) == {"trained"}
    torch.testing.assert_close(found.test, real, rtol=0, atol=1e-12)
    assert bool(((found.error > 0) & (found.error < 1e-12)).all())
    assert found.steps.tolist() == [9.0, 9.0]


def test_a_batch_of_which_nothing_is_left_is_a_step_without_a_gradient():
    model, task = problem(n=6)
    group, recipe = (0, 2), Recipe(partial(SGD, lr=0.1, momentum=0.9), 1, seed=4)
    run = wm.train(model, task.without(group), recipe.without(group, 6), until=None, steps=12)
    network = wm.networks.MLP([8, 64, 1], seed=0, dtype=torch.float64)
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(4)
    loader = torch.utils.data.DataLoader(range(6), 1, shuffle=True, generator=generator)
    for _ in range(2):
        for batch in loader:
            part = 0.0 if int(batch) in group else 1.0
            optimizer.zero_grad()
            (part * torch.nn.functional.mse_loss(network(task.X[batch]), task.y[batch])).backward()
            optimizer.step()
    torch.testing.assert_close(run.test, network(task.X_test).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("batches", ["kept", "redrawn"])
def test_batches_are_kept_unless_they_are_redrawn(batches):
    model, task = problem()
    recipe = Recipe(partial(torch.optim.Adam, lr=1e-2), 5, seed=2)
    found = wm.leave_out(model, task, recipe, [[1, 2, 3]], steps=8, batches=batches)
    of = recipe.without((1, 2, 3), task.n) if batches == "kept" else recipe
    run = wm.train(model, task.without((1, 2, 3)), of, until=None, steps=8)
    torch.testing.assert_close(found.test[0], run.test, rtol=0, atol=1e-12)
    assert found.batches == batches


def test_the_rate_is_that_of_all_rows():
    model, task = problem()
    best = wm.predict(model, task, partial(SGD, lr="best"), steps=20, relinearize="never").learning_rate
    found = wm.leave_out(model, task, partial(SGD, lr="best"), [[0]], steps=20, relinearize="never")
    same = wm.leave_out(model, task, partial(SGD, lr=best), [[0]], steps=20, relinearize="never")
    torch.testing.assert_close(found.test, same.test, rtol=0, atol=0)


def test_a_group_that_fails_is_among_the_failures(monkeypatch):
    model, task = problem()

    def linearized(self, group):
        if group == (1,):
            raise SingularKernelError("it cannot be.")
        return real(self, group)

    real = Solver.linearized
    monkeypatch.setattr(Solver, "linearized", linearized)
    found = wm.leave_out(model, task, partial(SGD, lr=0.3), [[0], [1], [2], [3], [4]], steps=5, relinearize="never")
    assert [str(failure) for failure in found.failures] == ["without group 1: it cannot be."]
    assert found.test.isnan().flatten(1).all(dim=1).tolist() == [False, True, False, False, False]
    assert found.method[1] == ""


class Counting(ThreadPoolExecutor):
    """Threads, and how many jobs were submitted to them."""

    jobs = 0

    def submit(self, fn, /, *args, **kwargs):
        self.jobs += 1
        return super().submit(fn, *args, **kwargs)


def test_an_executor_gives_the_same():
    model, task = problem()
    asked = {"optimizer": partial(SGD, lr=0.3), "groups": 18, "steps": 60, "relinearize": 3}
    alone = wm.leave_out(model, task, **asked)
    with Counting(1) as executor:
        found = wm.leave_out(model, task, executor=executor, **asked)
    assert executor.jobs == 18
    torch.testing.assert_close(found.test, alone.test, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.error, alone.error, rtol=1e-9, atol=0)


@pytest.mark.slow
def test_other_processes_give_the_same():
    model, task = problem()
    asked = {"optimizer": partial(SGD, lr=0.3), "groups": 3, "steps": 60, "relinearize": 3}
    with ProcessPoolExecutor(1, ready()) as executor:
        found = wm.leave_out(model, task, executor=executor, **asked)
    torch.testing.assert_close(found.test, wm.leave_out(model, task, **asked).test, rtol=0, atol=1e-12)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch):
    model, task = problem()
    asked = {"optimizer": partial(SGD, lr=0.3), "groups": 10, "steps": 60, "relinearize": 3, "out": tmp_path}
    done = []
    real = answers._answer

    def two_then_stop(solver, plan, group):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(group)
        return real(solver, plan, group)

    monkeypatch.setattr(answers, "_answer", two_then_stop)
    with pytest.raises(KeyboardInterrupt):
        wm.leave_out(model, task, **asked)
    again = []
    monkeypatch.setattr(answers, "_answer", lambda *args: again.append(args[2]) or real(*args))
    monkeypatch.setattr(answers, "make_plan", None)  # the plan is kept as well
    found = wm.leave_out(model, task, **asked)
    assert len(again) == 8
    assert not set(again) & set(done)
    monkeypatch.undo()
    torch.testing.assert_close(found.test, wm.leave_out(model, task, **asked | {"out": None}).test, rtol=0, atol=1e-12)


def test_a_budget_ends_with_what_is_finished():
    model, task = problem()
    found = wm.leave_out(model, task, partial(SGD, lr=0.3), 6, steps=60, relinearize=3, budget=1e-9)
    assert bool(found.test.isnan().all())
    assert found.method == ("",) * 6
    assert bool(found.error.isinf().all())
    assert any("6 of 6 groups are not predicted" in note for note in found.notes)
    assert bool(found.test_loss.isnan().all())
    assert not found.flips.any()


def test_code_of_ones_own_is_not_kept(tmp_path):
    model, task = problem()

    class Mine(SGD):
        pass

    found = wm.leave_out(model, task, partial(Mine, lr=0.1), [[0]], steps=3, out=tmp_path)
    assert any("finished runs are not kept" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batches": "other"}, 'batches is \'other\'; expected "kept" or "redrawn"'),
        ({"budget": 0}, "budget is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"steps": [1, 2]}, r"steps is \[1, 2\]"),
        ({"relinearize": "some"}, "relinearize is 'some'"),
        ({"tol": -1}, "tol is -1"),
        ({"until": -1}, "until is -1"),
        ({"groups": [[99]]}, "group 0 has row 99"),
    ],
)
def test_what_is_refused(changed, message):
    model, task = problem()
    with pytest.raises(InputError, match=message):
        wm.leave_out(model, task, partial(SGD, lr=0.1), **{"groups": [[0]]} | changed)


def test_test_inputs_are_needed():
    model, task = problem()
    with pytest.raises(InputError, match="no test inputs"):
        wm.leave_out(model, wm.Task(task.X, task.y), partial(SGD, lr=0.1))


def test_the_name_is_the_verbs_also_after_its_parts_are_imported():
    import whichmin.studies.leaving_out.plan  # noqa: F401

    assert callable(wm.leave_out)
    assert math.isfinite(wm.leave_out(*problem(), partial(SGD, lr="best"), [[0]], relinearize="never").full_loss)


@pytest.mark.slow
def test_a_row_without_which_nothing_changes_tells_nothing_of_the_others():
    """One that is zero, of a loss that is a sum."""
    model, task = problem(n=12)
    model = wm.networks.MLP([8, 64, task.outputs], seed=0, dtype=torch.float64, bias=False)
    task = wm.Task(task.X, task.y, task.X_test, task.y_test, loss=torch.nn.MSELoss(reduction="sum"))
    task.X[4] = 0.0
    recipe, limits = Recipe(partial(SGD, lr=0.02)), {"steps": 200}
    found = wm.leave_out(model, task, recipe, relinearize="path", **limits)
    real, _ = retrained(model, task, recipe, [(i,) for i in range(task.n)], until=None, **limits)
    assert float(rms(real[4:5] - wm.train(model, task, recipe, until=None, **limits).test)) < 1e-12
    others = torch.arange(task.n) != 4
    off = rms(found.test - real)[others]
    assert float(off.max()) > 1e-6  # something is approximated
    assert bool((off < 4 * found.error[others]).all())


def test_a_checkpoint_knows_the_rows_that_are_to_be_left_out():
    model, task = problem()
    checkpoint = wm.train(model, task, partial(SGD, lr=0.1), until=None, steps=5, checkpoints=[3]).checkpoint(3)
    with pytest.raises(InputError, match="checkpoint of step 3, up to which all rows were trained on"):
        wm.leave_out(checkpoint, task, partial(SGD, lr=0.1), steps=9)

"""Predictions in function space: their estimated errors, the edge of stability, and where they end."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

import whichmin as wm
from oracles.linear_rules import distance, flat, mlp_problem, problem, rms, sgd
from oracles.losses import KINDS
from whichmin.dynamics.paths.outcome import Outcome, error_told_by
from whichmin.dynamics.paths.real import Patience
from whichmin.dynamics.prepare import prepare
from whichmin.losses import root_mean_square
from whichmin.optimizers import Nesterov, Preconditioned
from whichmin.recipe.recipe import Recipe

DESCENT = sgd(0.1)
MOMENTUM = partial(torch.optim.SGD, lr=0.03, momentum=0.8)

PATIENT = Patience(None, math.inf, SimpleNamespace(say=lambda *told: None, advance=lambda steps: None))


def predictor_of(model, task, optimizer=DESCENT, steps=(20.0,), **arguments):
    recipe = Recipe(optimizer, scheduler=arguments.pop("scheduler", None))
    return prepare(model, task, recipe, steps, only_linearized=False, **arguments)


def linear_network(outputs: int = 1, n: int = 7, **settings) -> tuple[nn.Module, wm.Task]:
    """A network that is its own linearization, with more parameters than training outputs."""
    _, task = mlp_problem((9, 4), n, outputs, n_test=6, **settings)
    torch.manual_seed(1)
    return nn.Linear(9, outputs, dtype=torch.float64), task


# -- the error of a path, by comparison with a coarser one

#: Where the synthetic paths lead to in the limit of many intervals.
TRUTH = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def synthetic(intervals: float, direction: torch.Tensor, losses: tuple[float, ...] = ()) -> Outcome:
    """A path whose outputs are off by 1/intervals (root mean square), and its training losses by 1/intervals²."""
    test = TRUTH + direction / (intervals * root_mean_square(direction))
    train = [torch.tensor([math.sqrt(loss * (1 + 1 / intervals))], dtype=torch.float64) for loss in losses]
    return Outcome("relinearized", train, [test], 20.0, int(intervals), 0.0, [], {})


def directions() -> tuple[torch.Tensor, torch.Tensor]:
    """Two that have nothing in common."""
    first, second = torch.eye(40, dtype=torch.float64)[:2]
    return first, second


@pytest.mark.parametrize(("n", "coarse"), [(8, 4), (12, 8), (64, 4), (30, 20)])
def test_the_error_lies_between_errors_of_one_direction_and_independent_ones(n, coarse):
    """The true error is 1/n: underestimated where errors have one direction as much as overestimated otherwise."""
    predictor = predictor_of(*linear_network())
    one, other = directions()
    coherent = predictor._compared(synthetic(n, one), synthetic(coarse, one), n / coarse).error
    independent = predictor._compared(synthetic(n, one), synthetic(coarse, other), n / coarse).error
    assert coherent < 1 / n < independent
    assert coherent * independent == pytest.approx(1 / n**2, rel=1e-10)
    assert independent / coherent == pytest.approx(math.hypot(n, coarse) / (n - coarse), rel=1e-10)


@pytest.mark.parametrize(("n", "coarse"), [(8, 4), (12, 8), (64, 4)])
def test_the_error_of_training_losses_is_relative_and_of_the_same_measure(n, coarse):
    model, task = linear_network()
    predictor = predictor_of(model, wm.Task(task.X[:1], 0 * task.y[:1] + 1.0, task.X_test))
    one, _ = directions()

    def path(intervals):
        at = synthetic(intervals, one, (4.0, 1.0))
        return replace(at, train=[f + 1.0 for f in at.train])  # the residual f − 1

    compared = predictor._compared(path(n), path(coarse), n / coarse)
    measure = compared.error / (1 / coarse - 1 / n)
    assert compared.loss_error == pytest.approx(measure * (1 / coarse - 1 / n) / (1 + 1 / n), rel=1e-9)


def test_losses_next_to_nothing_are_compared_with_a_floor():
    """Below 1e-5 of the targets' variance what a loss is off by is divided by that."""
    model, task = linear_network()
    predictor = predictor_of(model, wm.Task(task.X, 10 * task.y, task.X_test))
    floor = 1e-5 * float((10 * task.y).var(correction=0))
    y = 10 * task.y.reshape(-1)
    found = predictor.one_shot.loss_error([y + math.sqrt(1e-3 * floor)], [y + math.sqrt(3e-3 * floor)])
    assert found == pytest.approx(2e-3, rel=1e-6)


def test_a_path_that_was_given_up_keeps_its_infinite_error():
    predictor = predictor_of(*linear_network())
    one, _ = directions()
    lost = replace(synthetic(8, one), error=math.inf)
    assert predictor._compared(lost, synthetic(4, one), 2.0).error == math.inf


@pytest.fixture
def of_known_order(monkeypatch):
    """A predictor whose paths are synthetic: off by 1/intervals in one direction."""
    predictor = predictor_of(*linear_network())
    one, _ = directions()
    followed = []

    def path(count, patience, stride=None, *, project=True, origin=None):
        if origin is None:  # not the twin
            followed.append((count, stride))
        return replace(synthetic(count, one), state=predictor.network.state())

    start = replace(synthetic(1, one), method="linearized", error=1.0, certificate=predictor.linearized().certificate)
    monkeypatch.setattr(predictor, "_path", path)
    monkeypatch.setattr(predictor, "linearized", lambda: start)
    return predictor, followed, start


@pytest.mark.parametrize("count", [2, 9, 16])
def test_a_given_number_of_intervals_is_compared_with_half_as_many(of_known_order, count):
    predictor, followed, start = of_known_order
    outcome = predictor.predict(count, 1e-2)
    assert sorted(n for n, _ in followed) == [count // 2, count]
    assert outcome.error == pytest.approx((1 / (count // 2) - 1 / count) / 5**0.25, rel=1e-10)
    assert outcome.certificate is start.certificate


def test_one_interval_is_compared_with_the_linearization(of_known_order):
    predictor, followed, _ = of_known_order
    assert predictor.predict(1, 1e-2).error == pytest.approx(0.0, abs=1e-12)
    assert [n for n, _ in followed] == [1]


@pytest.mark.parametrize("accepted", [0.2, 0.04, 0.01])
def test_auto_divides_until_the_error_is_accepted(of_known_order, accepted):
    """Each path is compared with the one before, whatever their ratio: errors of one direction come out too small."""
    predictor, followed, start = of_known_order
    outcome = predictor.predict("path", accepted / predictor.scale)
    counts = [n for n, _ in followed]
    assert outcome.intervals == counts[-1]
    assert outcome.error <= accepted
    ratio = counts[-1] / ([1, *counts][-2])
    assert outcome.error == pytest.approx((ratio - 1) / counts[-1] / math.sqrt((ratio - 1) * math.hypot(ratio, 1)))
    assert len(counts) <= 4
    assert outcome.certificate is start.certificate
    length = float(predictor.linearization.motion.displacement(20.0))
    assert all(stride == pytest.approx(length / n) for n, stride in followed)


# -- the error of one linearization


@pytest.mark.parametrize(
    "optimizer",
    [
        sgd(0.05),
        partial(torch.optim.SGD, lr=0.01, momentum=0.8),
        partial(Preconditioned, lr=0.05, metric=lambda p: 0.5 + p.detach().abs().clamp(max=3.0)),
    ],
    ids=["descent", "momentum", "a metric"],
)
def test_the_error_of_one_linearization_is_the_distance_to_the_trained_network(optimizer):
    """It is right to the next order in how far the features turn, which is little at this width."""
    for seed in range(3):
        model, task = mlp_problem((4, 200), 10, seed=seed, n_test=40)
        run = wm.train(model, task, optimizer, until=None, steps=120)
        found = wm.predict(model, task, optimizer, steps=120, relinearize="never")
        assert found.error == pytest.approx(rms(found.test, run.test), rel=0.15)


def test_the_error_of_one_linearization_of_a_narrow_network_is_right_within_a_factor():
    model, task = mlp_problem((4, 30), 10, n_test=40)
    run = wm.train(model, task, sgd(0.05), until=None, steps=400)
    found = wm.predict(model, task, sgd(0.05), steps=400, relinearize="never")
    assert 0.04 < rms(found.test, run.test) < 0.05
    assert 0.03 < found.error < 0.06


def test_the_error_of_the_losses_of_one_linearization_is_that_at_the_end():
    """Between the network at the predicted parameters and the linearized network; of a single time none is told."""
    model, task = mlp_problem((4, 30), 10)
    outcome = predictor_of(model, task, steps=(0.0, 3.0, 60.0)).linearized()
    theirs, ours = outcome.certificate.train_loss, outcome.curve[-1][1]
    assert outcome.loss_error == pytest.approx(abs(theirs - ours) / theirs, rel=1e-9)
    assert outcome.loss_error > 1e-2
    assert predictor_of(model, task, steps=(60.0,)).linearized().loss_error == 0.0


def test_drift_and_curvature_are_told_at_the_steps_of_the_path():
    """A path to a training loss takes other steps than its linearization; drift is against as many of these."""
    model, task = mlp_problem((4, 12), 6)
    found = wm.predict(model, task, sgd(0.1), until=1e-2, relinearize=12)
    assert found.steps != wm.predict(model, task, sgd(0.1), until=1e-2, relinearize="never").steps
    linear = wm.predict(model, task, sgd(0.1), steps=found.steps, relinearize="never")
    tangent = wm.Tangent(model)
    moved = {name: found.parameters()[name] - p for name, p in tangent.parameters.items()}
    straight = tangent.f0(task.X_test) + tangent.jvp(task.X_test, moved)
    assert distance(found.terms["drift"], straight - linear.test) < 1e-10
    assert distance(found.terms["curvature"], found.test - straight) < 1e-10
    for name in ("interpolant", "initialization", "unconverged"):
        assert distance(found.terms[name], linear.terms[name]) < 1e-10


# -- a network that is its own linearization: whatever the intervals, the path is training


EXACT = {
    "descent": sgd(0.1),
    "momentum": MOMENTUM,
    "dampened": partial(torch.optim.SGD, lr=0.05, momentum=0.8, dampening=0.3),
    "nesterov": partial(Nesterov, lr=0.03),
    "decay": partial(torch.optim.SGD, lr=0.1, weight_decay=0.2),
    "momentum, decay": partial(torch.optim.SGD, lr=0.03, momentum=0.8, weight_decay=0.2),
}


def falling(k: int) -> float:
    return 1.0 / (1.0 + 0.1 * k)


COURSES = {
    "full": {},
    "batches": {"batch_size": 3, "seed": 2},
    "scheduled": {"scheduler": partial(LambdaLR, lr_lambda=falling)},
    "both": {"batch_size": 3, "seed": 2, "scheduler": partial(LambdaLR, lr_lambda=falling)},
}


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize("name", EXACT)
def test_every_number_of_intervals_is_training(name, course):
    """Outputs on the way, parameters, the training curve: what the optimizer remembers is carried on."""
    model, task = linear_network(2)
    times = [0, 1, 4, 9, 17, 24]
    run = wm.train(model, task, EXACT[name], until=None, steps=times[-1], **COURSES[course])
    losses = dict(zip(run.loss_steps.tolist(), run.losses.tolist(), strict=True))
    snapshots = [wm.train(model, task, EXACT[name], until=None, steps=t, **COURSES[course]) for t in times]
    for relinearize in ("never", 1, 5):
        found = wm.predict(model, task, EXACT[name], steps=times, relinearize=relinearize, **COURSES[course])
        assert found.intervals >= (1 if relinearize == "never" else relinearize)
        for k, snapshot in enumerate(snapshots):
            assert distance(found.train[k], snapshot.train) < 1e-12
            assert distance(found.test[k], snapshot.test) < 1e-12
        assert distance(flat(found.parameters(), model), flat(run.final, model)) < 1e-12
        curve = dict(zip(found.curve.steps.tolist(), found.curve.losses.tolist(), strict=True))
        assert {0.0, 24.0} <= curve.keys()
        known = curve.keys() & losses.keys()
        assert len(known) >= (5 if "batch_size" not in COURSES[course] else 3)
        assert all(curve[k] == pytest.approx(losses[k], rel=1e-9) for k in known)
        assert found.error < 1e-12
        assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "course"), [("descent", "full"), ("descent", "batches"), ("momentum", "batches"), ("decay", "both")]
)
def test_it_stops_where_training_stops(name, course):
    """With mini-batches where an epoch starts, also where an interval ends in the middle of one."""
    model, task = linear_network(n=8)
    epoch = 3 if "batch_size" in COURSES[course] else 1
    losses = [wm.train(model, task, EXACT[name], until=None, steps=t, **COURSES[course]).losses[-1] for t in range(11)]
    early = 0
    for until in sorted({float(loss) * (1 + 1e-6) for loss in losses[1:]})[::2]:
        run = wm.train(model, task, EXACT[name], until=until, steps=30, **COURSES[course])
        assert run.steps % epoch == 0
        early += next(k for k, loss in enumerate(losses) if float(loss) < until) < run.steps
        for relinearize in ("never", 5):
            settings = {"until": until, "steps": 30, "relinearize": relinearize} | COURSES[course]
            found = wm.predict(model, task, EXACT[name], **settings)
            assert found.steps == run.steps
            assert distance(found.test, run.test) < 1e-12
    assert (early > 0) == (epoch > 1), "some fall below in the middle of an epoch"


# -- the edge of stability


def growing() -> tuple[nn.Module, wm.Task]:
    """f = w₂ w₁ x on x = y = 1 from small weights: the kernel w₁² + w₂² grows to 2, the limit of lr = 1/2."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.constant_(model[1].weight, 0.12)
    one = torch.ones(1, 1, dtype=torch.float64)
    return model, wm.Task(one, one, 1.3 * one)


def edge_of(lr, factor=None, steps=60, relinearize=40):
    model, task = growing()
    scheduler = None if factor is None else partial(LambdaLR, lr_lambda=factor)
    found = wm.predict(model, task, sgd(lr), steps=steps, relinearize=relinearize, scheduler=scheduler)
    notes = [note for note in found.notes if "limit of stability" in note]
    return int(notes[0].split("from step ")[1].split()[0]) if notes else None


def test_the_edge_is_that_of_the_rate_of_the_step():
    assert edge_of(0.3) is None
    assert edge_of(0.6) == 3
    assert edge_of(0.15, lambda k: 1.0 if k < 20 else 4.0) == 20, "raised when the kernel has grown"
    assert edge_of(0.6, lambda k: 1.0 if k < 3 else 0.5) is None, "lowered before it has"


@pytest.mark.parametrize(("lr", "steps", "count"), [(0.55, 121.0, 20), (0.6, 40.0, 10), (0.6, 40.0, 20)])
def test_at_the_edge_outputs_swing_by_what_the_error_holds(lr, steps, count):
    predictor = predictor_of(*growing(), sgd(lr), (steps,))
    outcome = predictor.predict(count, 1e-2)
    assert outcome.edge is not None
    compared = error_told_by(outcome.test[-1] - predictor._path(count // 2, PATIENT).test[-1]) / 5**0.25
    assert outcome.swing > 0
    assert outcome.error == pytest.approx(math.hypot(compared, outcome.swing))
    assert outcome.unknowable >= outcome.swing


@pytest.mark.parametrize("count", [10, 20])
def test_after_the_edge_the_error_is_no_smaller_than_what_keeping_to_it_changed(count):
    lowered = partial(LambdaLR, lr_lambda=lambda k: 1.0 if k < 20 else 0.5)
    predictor = predictor_of(*growing(), sgd(0.6), (40.0,), scheduler=lowered)
    outcome = predictor.predict(count, 1e-2)
    assert outcome.edge is not None
    assert outcome.swing == 0
    moved = error_told_by(outcome.test[-1] - predictor._path(count, PATIENT, project=False).test[-1])
    compared = error_told_by(outcome.test[-1] - predictor._path(count // 2, PATIENT).test[-1]) / 5**0.25
    assert moved > compared
    assert outcome.error == pytest.approx(moved)


def test_after_the_edge_what_a_coarser_path_swung_by_is_not_what_was_at_stake():
    lowered = partial(LambdaLR, lr_lambda=lambda k: 1.0 if k < 20 else 0.5)
    predictor = predictor_of(*growing(), sgd(0.6), (40.0,), scheduler=lowered)
    path = predictor._path(10, PATIENT)
    swung = replace(path, swing=1e-3, unknowable=1e-3)
    moved = error_told_by(path.test[-1] - predictor._path(10, PATIENT, project=False).test[-1])
    found = predictor._at_the_edge(path, swung, 10, None, PATIENT)
    assert found.error == pytest.approx(moved)
    known = predictor._at_the_edge(path, replace(path, unknowable=0.5), 10, None, PATIENT)
    assert known.unknowable == 0.5, "as the coarser one was told"


def test_where_intervals_leave_the_edge_far_behind_what_keeping_to_it_changed_counts(monkeypatch):
    """Paths of different intervals may agree there, and be wrong together."""
    predictor = predictor_of(*growing(), sgd(0.6), (40.0,))
    near = predictor.predict(10, 1e-2)
    assert near.outgrown > 1
    moved = error_told_by(near.test[-1] - predictor._path(10, PATIENT, project=False).test[-1])
    assert moved > near.error
    monkeypatch.setattr("whichmin.dynamics.paths.function_space.OUTGROWN", 1.0)
    far = predictor_of(*growing(), sgd(0.6), (40.0,)).predict(10, 1e-2)
    assert far.swing == near.swing > 0
    assert far.error == pytest.approx(moved)


def test_a_first_path_at_the_edge_is_compared_with_one_of_half_as_many_intervals(monkeypatch):
    predictor = predictor_of(*mlp_problem((8, 60), 40, bias_std=0.1), steps=(80.0,))
    lr = 0.95 * wm.spectrum(wm.tangent_kernel(predictor.network.model, predictor.network.task.X)).max_lr
    predictor = predictor_of(*mlp_problem((8, 60), 40, bias_std=0.1), sgd(lr), (80.0,))
    followed, path = [], predictor._path
    monkeypatch.setattr(predictor, "_path", lambda *args, **more: followed.append((args, more)) or path(*args, **more))
    outcome = predictor.predict("path", 1e-2)
    assert outcome.swing > 0
    (first, _), (half, begun) = followed[:2]
    assert half[0] == first[0] // 2
    assert half[2] == pytest.approx(2 * first[2])
    assert begun["origin"] is not predictor.problem.origin, "some rounding units away"
    assert len(followed) == 2, "no finer path knows more"


# -- notes


def test_a_path_that_is_given_up_is_noted(monkeypatch):
    monkeypatch.setattr("whichmin.dynamics.paths.relinearized.PATIENCE", 0)
    monkeypatch.setattr("whichmin.dynamics.paths.relinearized.EXTRA_INTERVALS", 2)
    model, task = mlp_problem((4, 30), 10)
    found = wm.predict(model, task, sgd(0.05), steps=400, tol=1e-2, relinearize="path")
    assert any(note.startswith("the path was given up after 2 intervals, at a training MSE of") for note in found.notes)
    assert found.error == math.inf


def test_a_number_of_intervals_that_ends_above_until_is_noted():
    """The last interval ends where its linearization says that the loss falls below."""
    model, task = mlp_problem((4, 30), 10)
    ends = []
    for count in (2, 32):
        found = wm.predict(model, task, sgd(0.05), until=1e-2, steps=20_000, relinearize=count)
        loss = float(found.curve.losses[-1])
        ends.append(loss < 1.05 * 1e-2)
        short = f"the path ends at a training MSE of {loss:.3g}, above until = 0.01."
        assert found.notes == (() if ends[-1] else (short,))
    assert ends == [False, True]


def test_the_number_of_steps_to_a_loss():
    """To a few percent of training's: one linearization says how wrong it is about them, and a path is made."""
    model, task = mlp_problem((4, 60), 10, seed=2)
    for until in (1e-1, 1e-2):
        run = wm.train(model, task, sgd(0.05), until=until, steps=20_000)
        found = wm.predict(model, task, sgd(0.05), until=until, relinearize="path")
        assert found.intervals > 1
        assert found.steps == pytest.approx(run.steps, rel=0.03, abs=1)
        assert float(found.curve.losses[-1]) < 1.05 * until


def test_a_tolerance_that_is_not_met_is_noted(monkeypatch):
    monkeypatch.setattr("whichmin.dynamics.paths.function_space.MOST_INTERVALS", 3)
    model, task = mlp_problem((4, 20), 8, n_test=40)
    far = wm.predict(model, task, sgd(0.05), steps=400, tol=1e-4, relinearize="path")
    assert far.relative_error > 1e-4
    assert any(f"estimated error {far.error:.2g} did not come down to tol = 0.0001" in note for note in far.notes)
    near = wm.predict(model, task, sgd(0.05), steps=400, tol=10.0, relinearize="path")
    assert near.notes == ()


@pytest.mark.parametrize(
    ("way", "loss", "scale_of"),
    [
        ("in function space", "mean", "targets"),
        ("in function space", "huber", "targets"),
        ("in function space", "logistic weighted", "least-loss outputs"),
        ("in function space", "classes", "predicted training outputs"),
        ("step by step", "mean", "targets"),
        ("step by step", "classes", "predicted training outputs"),
    ],
)
def test_the_note_says_whose_standard_deviation_the_tolerance_is_relative_to(loss, scale_of, way, monkeypatch):
    monkeypatch.setattr("whichmin.dynamics.paths.function_space.MOST_INTERVALS", 3)
    task = KINDS[loss].task()
    model = mlp_problem((4, 20), 7, 3)[0]
    optimizer = sgd(0.05) if way == "in function space" else partial(torch.optim.Adam, lr=1e-2, amsgrad=True)
    found = wm.predict(model, task, optimizer, steps=200, tol=1e-7, relinearize="path")
    least = task.objective.minimizer
    outputs = found.train if least is None else torch.from_numpy(least).reshape(found.train.shape)
    std = float(outputs.std(dim=0, correction=0).square().mean().sqrt())
    assert found.target_std == pytest.approx(std)
    said = re.compile(f"did not come down to tol = 1e-07 of the {scale_of}' standard deviation (\\S+) ")
    (scale,) = (float(match[1]) for note in found.notes if (match := said.search(note)))
    assert scale == pytest.approx(std, rel=0.2 if least is None else 6e-3)


def test_a_kernel_that_is_singular_is_noted():
    """Two equal rows with equal targets."""
    model, task = problem("over")
    doubled = wm.Task(torch.cat([task.X, task.X[:1]]), torch.cat([task.y, task.y[:1]]), task.X_test)
    notes = wm.predict(model, doubled, sgd(0.05), steps=5, relinearize="path").notes
    assert any(note.startswith("the kernel has rank 6 of 7: eigenvalues up to") for note in notes)
    assert wm.predict(model, task, sgd(0.05), steps=5, relinearize="path").notes == ()


def test_a_network_of_too_few_parameters_is_noted():
    _, task = mlp_problem((3, 4), 9)
    whole = nn.Linear(3, 1, dtype=torch.float64)
    notes = wm.predict(whole, task, sgd(0.05), steps=5, relinearize="path").notes
    assert notes == (
        "underparameterized: 4 parameters for 9 training outputs; the linearized minimizer is unique: it does not "
        "depend on the optimizer or the batches.",
    )
    flat_inputs = wm.Task(torch.cat([task.X[:, :2], 0 * task.X[:, :1]], 1), task.y, task.X_test)
    notes = wm.predict(whole, flat_inputs, sgd(0.05), steps=5, relinearize="path").notes
    assert any("the kernel has rank 3: some directions have no effect" in note for note in notes)


# -- the limit of stability


def test_in_a_metric_no_limit_is_told():
    model, task = linear_network()
    metric = partial(Preconditioned, lr=0.05, metric=lambda p: torch.full_like(p, 0.5))
    assert wm.predict(model, task, metric, steps=5, relinearize="path").limit is None
    plain = wm.predict(model, task, MOMENTUM, steps=5, relinearize="path")
    assert plain.limit == pytest.approx(1.8 * plain.max_lr)


@pytest.mark.parametrize("seed", [1, 3, 7, 8])
def test_steps_in_batches_that_move_the_outputs_to_and_fro_are_noticed(seed):
    """The parameters come back, so that nothing shows where they end, but their features turned on the way."""
    torch.manual_seed(seed)
    X, X_test = (torch.randn(n, 6, dtype=torch.float64) + 1.5 for n in (24, 20))
    task = wm.Task(X, torch.sign(torch.randn(24, dtype=torch.float64)), X_test)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1)).double()
    lr = 0.8 * wm.spectrum(wm.tangent_kernel(model, X)).max_lr
    recipe = wm.Recipe(partial(torch.optim.SGD, lr=lr), batch_size=4, seed=seed)
    trained = wm.train(model, task, recipe, steps=30, until=None)
    found = wm.predict(model, task, recipe, steps=30, relinearize="never")
    true = float((found.test - trained.test).square().mean().sqrt())
    assert true > 0.25
    assert true < 4 * found.error


# -- features that grow while most is still to be learned


@pytest.mark.parametrize(("loss", "steps"), [("MSELoss", 40), ("CrossEntropyLoss", 160)])
@pytest.mark.parametrize("batch_size", [None, 6])
def test_nothing_is_known_from_one_linearization_while_a_network_leaves_a_saddle(loss, steps, batch_size):
    """Training is up to eleven times further than the next order tells; after a quarter of the steps it tells it."""
    torch.manual_seed(0)
    X, X_test = torch.randn(24, 10, dtype=torch.float64), torch.randn(40, 10, dtype=torch.float64)
    classes = (X[:, 0] > 0).long()
    y = classes if loss == "CrossEntropyLoss" else 2.0 * classes.double()[:, None] - 1.0
    task = wm.Task(X, y, X_test, loss=getattr(nn, loss)())
    outputs = 2 if loss == "CrossEntropyLoss" else 1
    model = nn.Sequential(
        nn.Linear(10, 60), nn.Tanh(), nn.Linear(60, 60), nn.Tanh(), nn.Linear(60, outputs)
    ).double()  # fmt: skip
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.4)
    course = {"optimizer": sgd(0.05), "batch_size": batch_size, "seed": 1}
    late = wm.predict(model, task, steps=steps, relinearize="never", **course)
    assert late.error == math.inf
    assert any("features grow" in note for note in late.notes)
    early = wm.predict(model, task, steps=steps // 4, relinearize="never", **course)
    run = wm.train(model, task, steps=steps // 4, until=None, progress=False, **course)
    assert not early.notes
    assert rms(early.test, run.test) < 4 * early.error


def test_which_epoch_is_the_last_may_hang_on_less_than_a_path_is_off():
    """Training is below ``until`` by a hair after an epoch, and far above it after the next one."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 1)).double()
    X, X_test = torch.randn(15, 3).double(), torch.randn(12, 3).double()
    task, batches = wm.Task(X, torch.sin(X.sum(1)), X_test), {"batch_size": 4, "seed": 0}
    until = float(wm.train(model, task, DESCENT, steps=40, until=None, **batches).losses[-1]) * (1 + 1e-4)
    run = wm.train(model, task, DESCENT, until=until, **batches)
    predicted = wm.predict(model, task, DESCENT, until=until, relinearize=4, **batches)
    assert run.steps == 40 < predicted.steps
    assert 0.1 < root_mean_square(predicted.test - run.test) < predicted.error
    assert any("training may end" in note for note in predicted.notes)
    same = wm.predict(model, task, DESCENT, steps=predicted.steps, relinearize=4, **batches)
    assert same.error < 0.1
    assert not same.notes


def test_one_linearization_may_end_with_another_epoch():
    model = wm.networks.MLP((3, 600, 1), activation="tanh", seed=34, dtype=torch.float64)
    torch.manual_seed(34)
    X, X_test = torch.randn(15, 3).double(), torch.randn(12, 3).double()
    task, optimizer = wm.Task(X, torch.sin(X.sum(1)), X_test), sgd(0.3)
    batches = {"batch_size": 4, "seed": 0}
    run = wm.train(model, task, optimizer, until=0.1023, **batches)
    predicted = wm.predict(model, task, optimizer, until=0.1023, relinearize="never", **batches)
    assert predicted.steps != run.steps
    apart = root_mean_square(predicted.test - run.test)
    assert apart < predicted.error
    assert any("training may end" in note for note in predicted.notes)
    same = wm.predict(model, task, optimizer, steps=predicted.steps, relinearize="never", **batches)
    assert same.error < apart / 4

"""A checkpoint stands where a model may stand: training and predictions go on from it, whatever the optimizer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from oracles.conformance import COURSES, EVERY, network_for
from oracles.linear_rules import distance, mlp_problem, sgd
from whichmin.errors import InputError, ModelError, OptimizerError, ResultError

STEPS = 13
#: In the middle of an epoch of two batches of six rows.
KEPT = 5
ADAM = partial(torch.optim.Adam, lr=1e-2)
MOMENTUM = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def linear_problem(bias: bool = True) -> tuple[nn.Module, wm.Task]:
    """A network that is its own linearization."""
    torch.manual_seed(0)
    model = nn.Linear(12, 2, bias=bias).double()
    X, X_test = torch.randn(6, 12).double(), torch.randn(5, 12).double()
    return model, wm.Task(X, torch.randn(6, 2).double(), X_test)


def kept_run(model, task, factory, step=KEPT, steps=STEPS, **course) -> wm.Run:
    return wm.train(model, task, factory, until=None, steps=steps, checkpoints=[step], **course)


@EVERY
@pytest.mark.parametrize("course", COURSES)
def test_training_goes_on_as_if_it_had_not_stopped(case, course):
    model, task = network_for(case, 3)
    run = kept_run(model, task, case.factory, **COURSES[course])
    again = wm.train(run.checkpoint(KEPT), task, case.factory, until=None, steps=STEPS, **COURSES[course])
    assert again.steps == STEPS
    assert again.loss_steps[0] == KEPT
    assert distance(run.test, run.checkpoint(KEPT).model()(task.X_test).detach()) > 1e-6
    for name, value in run.final.items():
        assert torch.equal(again.final[name], value), name
    assert torch.equal(again.test, run.test)


@EVERY
@pytest.mark.parametrize(("course", "step"), [("full", 1), ("batches", KEPT), ("scheduled", KEPT), ("both", 1)])
def test_one_linearization_of_a_linear_network_is_exact_from_any_step(case, course, step):
    model, task = linear_problem(bias=not case.matrices_only)
    run = kept_run(model, task, case.factory, step, **COURSES[course])
    found = wm.predict(run.checkpoint(step), task, case.factory, steps=STEPS, relinearize="never", **COURSES[course])
    assert found.steps == STEPS
    assert distance(found.test, run.test) < 1e-10
    assert distance(found.train, run.train) < 1e-10
    for name, value in run.final.items():
        assert distance(found.parameters()[name], value) < 1e-10, name
    assert distance(torch.stack(list(found.terms.values())).sum(0), found.test) < 1e-11
    assert float(found.curve.steps[0]) == step
    assert float(found.curve.losses[-1]) == pytest.approx(float(run.losses[-1]), rel=1e-8)


#: Optimizers in mini-batches that ``predict`` does not train for real while a path is cheaper.
IN_FUNCTION_SPACE = ("SGD", "Nesterov", "HigherMomentum", "Preconditioned")
#: Optimizers that remember nothing: what they do next is told by the parameters.
FORGETFUL = {"SGD", "SGD4"}


@EVERY
def test_what_the_optimizer_remembers_matters(case):
    """Without it a prediction from the same parameters ends elsewhere."""
    model, task = linear_problem(bias=not case.matrices_only)
    run = kept_run(model, task, case.factory)
    anew = wm.predict(run.checkpoint(KEPT).model(), task, case.factory, steps=STEPS - KEPT, relinearize="never")
    apart = distance(anew.test, run.test)
    assert apart < 1e-10 if case.name in FORGETFUL else apart > 1e-7


@EVERY
@pytest.mark.parametrize("course", ["full", "both"])
def test_the_place_of_a_linearized_run_is_that_of_training(case, course):
    """At several times, and stopping at a loss where training does."""
    model, task = linear_problem(bias=not case.matrices_only)
    run = kept_run(model, task, case.factory, **COURSES[course])
    ends = [KEPT, KEPT + 1, 9, STEPS]
    found = wm.predict(run.checkpoint(KEPT), task, case.factory, steps=ends, relinearize="never", **COURSES[course])
    for k, end in enumerate(ends):
        there = wm.train(model, task, case.factory, until=None, steps=end, **COURSES[course])
        assert distance(found.test[k], there.test) < 1e-10
    later = [(int(s), float(v)) for s, v in zip(run.loss_steps, run.losses, strict=True) if KEPT < s < STEPS]
    step, until = later[-1][0], later[-1][1] * (1 + 1e-9)
    expected = next((s for s, v in later if v < until), step)
    asked = {"until": until, "steps": STEPS, "relinearize": "never"} | COURSES[course]
    assert wm.predict(run.checkpoint(KEPT), task, case.factory, **asked).steps == expected


@pytest.mark.parametrize("case", [p for p in EVERY.args[1] if not p.id.startswith(IN_FUNCTION_SPACE)])
def test_real_training_in_place_of_a_prediction_goes_on_too(case):
    model, task = network_for(case, 3)
    course = COURSES["both"]
    run = kept_run(model, task, case.factory, **course)
    found = wm.predict(run.checkpoint(KEPT), task, case.factory, steps=STEPS, **course)
    assert found.method == "trained"
    assert distance(found.test, run.test) < 1e-12


#: One of each kind of prediction whose intervals can be single steps.
PATHS = {
    "descent": sgd(0.05),
    "decay": partial(torch.optim.SGD, lr=0.05, momentum=0.8, weight_decay=0.05),
    "two terms": partial(wm.optimizers.HigherMomentum, lr=0.05, betas=(0.5, 0.2)),
    "nesterov": partial(wm.optimizers.Nesterov, lr=0.05),
    "other": partial(torch.optim.NAdam, lr=1e-2),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("course", ["full", "both"])
def test_intervals_of_one_step_are_training(name, course):
    model, task = mlp_problem((4, 9), 6, 3, bias_std=1.0)
    run = kept_run(model, task, PATHS[name], **COURSES[course])
    found = wm.predict(run.checkpoint(KEPT), task, PATHS[name], steps=STEPS, relinearize=10**7, **COURSES[course])
    assert found.method == "relinearized"
    assert found.intervals == STEPS - KEPT
    assert distance(found.test, run.test) < 1e-9


@pytest.mark.parametrize(
    "factory",
    [
        partial(torch.optim.Adagrad, lr=1e-2),
        partial(torch.optim.RMSprop, lr=1e-3),
        ADAM,
        partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1),
    ],
    ids=["adagrad", "rmsprop", "adam", "adamw"],
)
@pytest.mark.parametrize("kept", [3, 40])
def test_krylov_intervals_go_on_with_the_second_moments(factory, kept):
    """Before and after the first steps, which are made for real."""
    model, task = mlp_problem((4, 256), 6, 1, seed=1)
    run = kept_run(model, task, factory, kept, 200)
    checkpoint = run.checkpoint(kept)
    found = wm.predict(checkpoint, task, factory, steps=200, relinearize=12)
    moved = distance(run.test, checkpoint.model()(task.X_test).detach())
    assert found.method == "relinearized"
    assert distance(found.test, run.test) < 0.02 * moved
    anew = wm.train(checkpoint.model(), task, factory, until=None, steps=200 - kept)
    assert distance(found.test, run.test) < 0.2 * distance(anew.test, run.test)


def test_the_limit_of_a_linear_network_is_where_training_tends():
    """With momentum, from a checkpoint: what the buffer moves beyond the rows stays."""
    model, task = linear_problem()
    run = kept_run(model, task, MOMENTUM, 7, steps=4000)
    found = wm.predict(run.checkpoint(7), task, MOMENTUM, relinearize="never")
    assert distance(found.test, run.test) < 1e-10
    at_rest = wm.predict(run.checkpoint(7).model(), task, MOMENTUM, relinearize="never")
    assert distance(at_rest.test, run.test) < 1e-10, "all gradients are seen by the rows"
    assert "history" in found.terms
    assert float(found.terms["history"].abs().max()) < 1e-10


def test_a_memory_that_the_rows_do_not_see_is_history():
    """A momentum buffer of other data: its part beside the tangent features of the rows is a term of its own."""
    model, task = linear_problem()
    run = kept_run(model, task, MOMENTUM, 7)
    kept = run.checkpoint(7)
    buffer = torch.randn(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = kept.memory.values | {"weight": {"momentum_buffer": buffer}}
    other = replace(kept, memory=replace(kept.memory, values=values))
    found = wm.predict(other, task, MOMENTUM, relinearize="never")
    far = wm.train(other, task, MOMENTUM, until=None, steps=4000)
    assert distance(found.test, far.test) < 1e-9
    features = torch.cat([task.X, torch.ones(6, 1).double()], 1)
    beside = torch.eye(13).double() - torch.linalg.pinv(features) @ features
    bias = kept.memory.values["bias"]["momentum_buffer"]
    unseen = torch.cat([buffer, bias[:, None]], 1) @ beside
    moved = -0.05 * 0.9 / (1 - 0.9) * torch.cat([task.X_test, torch.ones(5, 1).double()], 1) @ unseen.T
    assert distance(found.terms["history"], moved) < 1e-9
    assert float(moved.abs().max()) > 1e-2


def test_many_outputs_go_on_in_a_lanczos_space():
    """A kernel that is not decomposed, with momentum remembered."""
    torch.manual_seed(0)
    model, X = nn.Linear(600, 1).double(), torch.randn(520, 600).double() / 25
    task = wm.Task(X, torch.randn(520, 1).double(), torch.randn(9, 600).double() / 25)
    optimizer = partial(torch.optim.SGD, lr=1.0, momentum=0.5)
    run = kept_run(model, task, optimizer, 4, steps=40)
    found = wm.predict(run.checkpoint(4), task, optimizer, steps=40, relinearize="never")
    assert distance(found.test, run.test) < 1e-8


def test_a_kernel_from_a_checkpoint_is_that_of_its_network():
    model, task = mlp_problem((4, 9), 6, 2)
    checkpoint = kept_run(model, task, ADAM).checkpoint(KEPT)
    assert torch.equal(wm.tangent_kernel(checkpoint, task.X), wm.tangent_kernel(checkpoint.model(), task.X))
    assert distance(wm.tangent_kernel(checkpoint, task.X), wm.tangent_kernel(model, task.X)) > 1e-3


def test_a_best_rate_is_that_of_the_beginning():
    model, task = mlp_problem((4, 32), 6, 1)
    best = partial(torch.optim.SGD, lr="best", momentum=0.3)
    course = {"scheduler": partial(StepLR, step_size=3, gamma=0.5)}
    run = kept_run(model, task, best, **course)
    again = wm.train(run.checkpoint(KEPT), task, best, until=None, steps=STEPS, **course)
    assert again.learning_rate == run.learning_rate
    assert torch.equal(again.test, run.test)


def test_a_run_goes_on_from_where_it_went_on():
    """A run from a checkpoint has that one, and others after it."""
    model, task = mlp_problem((4, 9), 6, 1)
    run = kept_run(model, task, ADAM)
    second = wm.train(run.checkpoint(KEPT), task, ADAM, until=None, steps=9)
    assert [c.step for c in second.checkpoints] == [KEPT]
    third = wm.train(second.checkpoint(KEPT), task, ADAM, until=None, steps=9, checkpoints=[8])
    assert [c.step for c in third.checkpoints] == [KEPT, 8, 9]
    end = wm.train(third.checkpoint(9), task, ADAM, until=None, steps=STEPS)
    assert torch.equal(end.test, run.test)
    assert distance(wm.explain(second).total, second.test) < 1e-12


def test_training_that_goes_on_leaves_its_checkpoint_alone():
    model, task = mlp_problem((4, 9), 6, 1)
    checkpoint = kept_run(model, task, ADAM).checkpoint(KEPT)
    tensors = [t for values in checkpoint.memory.values.values() for t in values.values()]
    copies = [t.clone() for t in tensors]
    for _ in range(2):
        wm.train(checkpoint, task, ADAM, until=None, steps=STEPS)
        wm.predict(checkpoint, task, ADAM, steps=STEPS)
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


def test_a_mid_epoch_loss_below_until_does_not_stop_training_early():
    """Training looks at its loss where an epoch starts, and so it does after a checkpoint within one."""
    model, task = linear_problem()
    course = {"batch_size": 4, "seed": 3}
    run = kept_run(model, task, sgd(0.05), **course)
    until = 2 * float(run.losses[0])
    again = wm.train(run.checkpoint(KEPT), task, sgd(0.05), until=until, steps=STEPS, **course)
    found = wm.predict(run.checkpoint(KEPT), task, sgd(0.05), until=until, relinearize="never", **course)
    assert again.steps == found.steps == 6
    assert again.loss_steps.tolist() == [5, 6]


def test_saved_and_loaded(tmp_path):
    model, task = mlp_problem((4, 9), 6, 1)
    run = kept_run(model, task, ADAM)
    run.checkpoint(KEPT).save(tmp_path / "one")
    run.save(tmp_path / "run")
    loaded = wm.Checkpoint.load(tmp_path / "one")
    with pytest.raises(ResultError, match=r"holds no network: pass checkpoint.with_network\(model\)"):
        wm.predict(loaded, task, ADAM, steps=STEPS)
    for checkpoint in (loaded, wm.Run.load(tmp_path / "run").checkpoint(KEPT)):
        again = wm.train(checkpoint.with_network(model), task, ADAM, until=None, steps=STEPS)
        assert torch.equal(again.test, run.test)


def test_seen_at_first_sight():
    model, task = mlp_problem((4, 9), 6, 1)
    run = kept_run(model, task, ADAM)
    text = repr(run.checkpoint(KEPT))
    assert text.startswith("Checkpoint(step=5, optimizer='Adam', numbers=")
    assert "exp_avg_sq" in text
    assert len(text.splitlines()) <= 2


REFUSED = [
    ({"optimizer": sgd(0.1)}, "of training with Adam, and the recipe that is asked for has SGD, which cannot go on"),
    ({"optimizer": partial(torch.optim.Adam, lr=2e-2)}, r"its Adam has lr = 0.02, not 0.01\. Pass the optimizer"),
    ({"optimizer": partial(torch.optim.Adam, lr=1e-2, betas=(0.5, 0.999))}, r"betas = \(0.5, 0.999\), not \(0.9, 0.9"),
    ({"scheduler": partial(StepLR, step_size=2, gamma=0.5)}, r"its Adam has lr = 0.0025, not 0.01"),
    ({"optimizer": lambda ps: torch.optim.Adam([{"params": [p]} for p in ps], lr=1e-2)}, r"parameter groups of \[4\] "),
    (
        {"optimizer": lambda ps: torch.optim.Adam(ps[::-1], lr=1e-2)},
        "parameter group 0 of the recipe's Adam holds other parameters",
    ),
]


@pytest.mark.parametrize("verb", [wm.train, wm.predict])
@pytest.mark.parametrize(("asked", "message"), REFUSED, ids=["class", "rate", "betas", "scheduler", "groups", "order"])
def test_another_recipe_is_refused(verb, asked, message):
    model, task = mlp_problem((4, 9), 6, 1)
    checkpoint = kept_run(model, task, ADAM).checkpoint(KEPT)
    with pytest.raises(OptimizerError, match=message) as error:
        verb(checkpoint, task, **({"optimizer": ADAM, "steps": STEPS} | asked))
    assert "pass checkpoint.model()" in str(error.value)


@pytest.mark.parametrize(
    ("verb", "asked", "message"),
    [
        (
            wm.train,
            {"steps": 3},
            "steps is 3, and the checkpoint is after step 5: steps are counted from the beginning",
        ),
        (wm.predict, {"steps": 3}, "steps begins at 3, and the checkpoint is after step 5: steps are counted from"),
        (wm.predict, {"steps": [4, 9]}, "steps begins at 4, and the checkpoint is after step 5"),
        (wm.predict, {"steps": 9, "flow": True}, "and a checkpoint remembers the steps before: pass checkpoint.model"),
    ],
    ids=["train", "predict", "several", "flow"],
)
def test_steps_before_the_checkpoint_are_refused(verb, asked, message):
    model, task = mlp_problem((4, 9), 6, 1)
    checkpoint = kept_run(model, task, sgd(0.05)).checkpoint(KEPT)
    with pytest.raises(InputError, match=message):
        verb(checkpoint, task, sgd(0.05), **asked)


def test_a_checkpoint_of_another_model_is_refused():
    model, task = mlp_problem((4, 9), 6, 1)
    checkpoint = kept_run(model, task, ADAM).checkpoint(KEPT)
    other = mlp_problem((4, 10), 6, 1)[0]
    with pytest.raises(
        ModelError, match=r"of another model: its '.*weight' has shape \(9, 4\), and that of the MLP has"
    ):
        checkpoint.with_network(other)
    with pytest.raises(
        ModelError, match=r"of another model: its '.*' has shape .*, and that of the Linear is not there"
    ):
        checkpoint.with_network(nn.Linear(4, 1))
    wide = mlp_problem((5, 9), 6, 1)[1]
    with pytest.raises(ModelError):
        wm.predict(checkpoint, wide, ADAM, steps=STEPS)


def test_step_0_is_the_model_as_it_was_for_any_optimizer():
    model, task = mlp_problem((4, 9), 6, 1)
    first = wm.train(model, task, ADAM, until=None, steps=3).checkpoint(0)
    a, b = (wm.predict(m, task, sgd(0.05), steps=9) for m in (first, model))
    assert torch.equal(a.test, b.test)

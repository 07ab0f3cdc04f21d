"""Optimizers, schedules and batches that cannot be predicted, and what the message says."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau, StepLR

import whichmin as wm
from oracles.linear_rules import BEST, distance, problem, sgd
from whichmin.errors import DivergenceError, InputError, OptimizerError
from whichmin.optimizers import HigherMomentum, Nesterov


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (sgd(0.0), r"parameter group 0 .* has lr = 0 and would not move: give it a positive learning rate"),
        (partial(torch.optim.Adam, lr=0.0), r"parameter group 0 .* has lr = 0 and would not move"),
        (sgd(math.nan), "lr is nan"),
        (sgd(math.inf), "lr is inf"),
        (sgd(-0.1), "factory failed.*-0.1"),
        (sgd("worst"), 'factory failed.*positive number, "best", "half" or "monotone"'),
        (partial(torch.optim.SGD, lr=0.1, nesterof=True), "factory failed.*nesterof"),
        (None, "optimizer is None; expected a factory"),
        ("SGD", "optimizer is 'SGD'; expected a factory"),
        (lambda parameters: 3, "the factory returned a int"),
        (
            partial(torch.optim.LBFGS, lr=0.1),
            r"LBFGS evaluates the loss several times .*closure.*step\(\) works without",
        ),
        (lambda ps: torch.optim.SGD(ps[:2], lr=0.1), "has no 'layers.1.weight', 'layers.1.bias', 2 of 4 trainable"),
        (lambda ps: torch.optim.Adam(ps[1:], lr=0.1), "has no 'layers.0.weight', 1 of 4 trainable"),
        (lambda _: torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1), "holds 1 tensors that are not param"),
        (lambda ps: torch.optim.SGD([{"params": ps[:1]}, {"params": ps[1:], "lr": 0.0}], lr=0.1), "group 1 .* lr = 0"),
        (partial(HigherMomentum, lr=0.1, betas=(1.5, 0.0)), r"betas is \(1.5, 0\), under which displacements do not"),
    ],
)
@pytest.mark.parametrize("relinearize", ["auto", "never"])
def test_optimizers(optimizer, message, relinearize):
    model, task = problem("over")
    with pytest.raises(OptimizerError, match=message):
        wm.predict(model, task, optimizer, relinearize=relinearize)


class Broken(torch.optim.SGD):
    def step(self, closure=None):
        raise ValueError("no such table")


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (partial(torch.optim.SparseAdam, lr=0.1), r"SparseAdam.step\(\) failed: .*dense gradients.*another optimizer"),
        (partial(Broken, lr=0.1), r"Broken.step\(\) failed: no such table. It gets the dense gradients"),
    ],
)
@pytest.mark.parametrize("verb", [wm.predict, partial(wm.predict, relinearize="never"), wm.train])
def test_optimizers_whose_step_fails(optimizer, message, verb):
    model, task = problem("over")
    stop = {"until": None, "steps": 3} if verb is wm.train else {"steps": 3}
    with pytest.raises(OptimizerError, match=message):
        verb(model, task, optimizer, **stop)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (partial(torch.optim.Adam, lr=0.1), "no flow is known for Adam with 1 parameter group.*flow=False.*Known.*SGD"),
        (lambda ps: torch.optim.SGD([{"params": [p]} for p in ps], lr=0.1), "no flow is known for SGD with 4 param"),
        (partial(torch.optim.SGD, lr=0.1, weight_decay=0.1), "flow=True is known for plain SGD.*leave out weight_dec"),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.1), "leave out weight_decay, dampening and nest"),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True), "flow=True is known for plain SGD"),
        (partial(Nesterov, lr=0.1, weight_decay=0.1), "flow=True is not known with weight_decay"),
        (partial(HigherMomentum, lr=0.1), "HigherMomentum has no flow here: pass flow=False"),
    ],
)
def test_flows(optimizer, message):
    model, task = problem("over")
    with pytest.raises(OptimizerError, match=message):
        wm.predict(model, task, optimizer, steps=3.5, flow=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, InputError, "batch_size is 0; expected a whole number of rows"),
        ({"batch_size": -2}, InputError, "batch_size is -2"),
        ({"batch_size": 2.5}, InputError, "batch_size is 2.5"),
        ({"batch_size": True}, InputError, "batch_size is True"),
        ({"batch_size": 2, "seed": 0.5}, InputError, "seed is 0.5; expected an integer"),
        (
            {"batch_size": 2, "flow": True},
            InputError,
            "flow=True is the limit of small steps in full batches: leave ou",
        ),
        ({"scheduler": partial(StepLR, step_size=3), "flow": True}, InputError, "leave out batch_size and scheduler"),
        ({"scheduler": 0.5}, OptimizerError, "scheduler is 0.5; expected a factory optimizer → scheduler"),
        ({"scheduler": StepLR}, OptimizerError, "the scheduler factory failed: .*step_size"),
        ({"scheduler": ReduceLROnPlateau}, OptimizerError, "ReduceLROnPlateau waits for a validation loss"),
    ],
)
@pytest.mark.parametrize("optimizer", [sgd(0.05), partial(torch.optim.Adam, lr=0.01)], ids=["sgd", "adam"])
def test_batches_and_schedules(arguments, error, message, optimizer):
    model, task = problem("over")
    if arguments.get("flow") and optimizer.func is torch.optim.Adam:
        error, message = OptimizerError, "no flow is known for Adam"
    with pytest.raises(error, match=message):
        wm.predict(model, task, optimizer, steps=4, **arguments)


def test_a_schedule_that_climbs_past_the_limit():
    model, task = problem("over")
    limit = wm.predict(model, task, BEST, relinearize="never").max_lr
    climbing = partial(LambdaLR, lr_lambda=lambda k: 1.0 + k)
    for arguments in ({"relinearize": "never"}, {}):
        with pytest.raises(DivergenceError, match=r"the scheduler raises lr to .* at step 4, past the limit") as caught:
            wm.predict(model, task, sgd(0.21 * limit), steps=20, scheduler=climbing, **arguments)
        assert caught.value.limit == pytest.approx(limit)
    assert wm.predict(model, task, sgd(0.21 * limit), steps=4, scheduler=climbing, relinearize="never").steps == 4


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_a_rate_with_momentum_beyond_its_limit(momentum):
    model, task = problem("over")
    plain = wm.predict(model, task, BEST, relinearize="never").max_lr
    limit = (1 + momentum) * plain
    with pytest.raises(DivergenceError, match="diverges: the limit of stability") as caught:
        wm.predict(
            model, task, partial(torch.optim.SGD, lr=1.001 * limit, momentum=momentum), steps=5, relinearize="path"
        )
    assert caught.value.limit == pytest.approx(limit, rel=1e-9)
    below = wm.predict(
        model, task, partial(torch.optim.SGD, lr=0.9 * limit, momentum=momentum), steps=4000, relinearize="never"
    )
    assert distance(below.train, task.y) < 1e-8


@pytest.mark.parametrize(
    ("optimizer", "arguments"),
    [
        (sgd(0.4), {"batch_size": 1}),
        (partial(torch.optim.SGD, lr=0.3, momentum=0.9), {"batch_size": 1}),
        (lambda ps: torch.optim.SGD([{"params": [p]} for p in ps], lr=5.0), {}),
        (partial(torch.optim.ASGD, lr=5.0), {}),
    ],
    ids=["batches", "batches with momentum", "groups", "averaged"],
)
def test_runs_that_diverge(optimizer, arguments):
    model, task = problem("over")
    with pytest.raises(DivergenceError, match=r"diverges.*after \d+ steps.*training MSE is .*Lower the learning rate"):
        wm.predict(model, task, optimizer, steps=5000, relinearize="never", **arguments)


def test_adam_at_a_rate_that_is_far_too_large():
    """Its steps are bounded: it diverges, if it does, like a power of the steps."""
    model, task = problem("over")
    with pytest.raises(DivergenceError, match=r"Adam diverges on the linearized network: after \d+ steps"):
        wm.predict(model, task, partial(torch.optim.Adam, lr=1e5), steps=50, relinearize="never")


def test_a_built_optimizer():
    model, task = problem("over")
    with pytest.raises(OptimizerError, match=r"got a built SGD; expected a factory.*partial\(torch.optim.SGD"):
        wm.predict(model, task, torch.optim.SGD(model.parameters(), lr=0.1))

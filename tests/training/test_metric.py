"""The preconditioner read from an optimizer's state, against the step that was made with it."""

from __future__ import annotations

import copy
from functools import partial
from itertools import islice

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import problem, sgd
from whichmin.optimizers import Nesterov, Preconditioned, last_metric
from whichmin.recipe.batches import batch_order


def gradient(state, group, grad):
    return grad


def averaged(state, group, grad):
    return state["exp_avg"] / (1 - group["betas"][0] ** float(state["step"]))


def ahead(state, group, grad):
    """NAdam's: the gradient and the average, weighted by the schedule of its momentum."""
    t, beta, decay = float(state["step"]), group["betas"][0], group["momentum_decay"]
    now, then = (beta * (1 - 0.5 * 0.96 ** (k * decay)) for k in (t, t + 1))
    product = float(state["mu_product"])
    return (1 - now) / (1 - product) * grad + then / (1 - product * then) * state["exp_avg"]


CASES = {
    "adagrad": (partial(torch.optim.Adagrad, lr=0.05, initial_accumulator_value=0.1), gradient),
    "rmsprop": (partial(torch.optim.RMSprop, lr=1e-3), gradient),
    "centered": (partial(torch.optim.RMSprop, lr=1e-3, centered=True, eps=1e-3), gradient),
    "adam": (partial(torch.optim.Adam, lr=1e-2, eps=1e-3), averaged),
    "amsgrad": (partial(torch.optim.Adam, lr=1e-2, betas=(0.5, 0.6), amsgrad=True), averaged),
    "adamw": (partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.0), averaged),
    "nadam": (partial(torch.optim.NAdam, lr=1e-2), ahead),
    "radam": (partial(torch.optim.RAdam, lr=1e-2), averaged),
    "adamax": (partial(torch.optim.Adamax, lr=1e-2), averaged),
    "preconditioned": (partial(Preconditioned, lr=0.05, metric=lambda p: 2 + p.detach().abs()), gradient),
}


def step(model, task, optimizer):
    optimizer.zero_grad()
    nn.MSELoss()(model(task.X), task.y).backward()
    optimizer.step()


@pytest.mark.parametrize("steps", [1, 12])
@pytest.mark.parametrize("case", CASES)
def test_it_is_what_the_last_step_was_made_with(case, steps):
    model, task = problem("over")
    factory, direction = CASES[case]
    optimizer = factory(model.parameters())
    for _ in range(steps):
        before = copy.deepcopy(model)
        step(model, task, optimizer)
    metric = last_metric(optimizer, model.named_parameters())
    if case == "radam" and steps == 1:
        assert metric is None, "not rectified yet"
        return
    group = optimizer.param_groups[0]
    assert metric.keys() == dict(model.named_parameters()).keys()
    for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        c = direction(optimizer.state[p], group, p.grad)
        assert metric[name].shape == p.shape
        assert not metric[name].requires_grad
        assert torch.allclose(p - q, -group["lr"] * metric[name] * c, rtol=1e-9, atol=1e-14), name


@pytest.mark.parametrize("case", CASES)
def test_a_run_holds_it(case):
    model, task = problem("over")
    factory, _ = CASES[case]
    run = wm.train(model, task, factory, until=None, steps=12, batch_size=4, seed=1)
    optimizer = factory(model.parameters())
    for rows in islice(batch_order(task.n, 4, 1), 12):
        optimizer.zero_grad()
        nn.MSELoss()(model(task.X[rows]), task.y[rows]).backward()
        optimizer.step()
    expected = last_metric(optimizer, model.named_parameters())
    assert run.metric.keys() == expected.keys()
    assert all(torch.equal(v, run.metric[k]) for k, v in expected.items())


def test_it_is_a_copy_and_leaves_frozen_parameters_out():
    model, task = problem("over")
    model.layers[0].weight.requires_grad_(False)
    optimizer = torch.optim.Adamax([p for p in model.parameters() if p.requires_grad], lr=0.01)
    step(model, task, optimizer)
    metric = last_metric(optimizer, model.named_parameters())
    assert "layers.0.weight" not in metric
    assert len(metric) == 3
    kept = {k: v.clone() for k, v in metric.items()}
    step(model, task, optimizer)
    assert all(torch.equal(v, kept[k]) for k, v in metric.items())


@pytest.mark.parametrize("factory", [partial(torch.optim.Adam, lr=0.01), partial(torch.optim.Adagrad, lr=0.01)])
def test_before_the_first_step_there_is_none(factory):
    model, _ = problem("over")
    assert last_metric(factory(model.parameters()), model.named_parameters()) is None


@pytest.mark.parametrize("factory", [partial(torch.optim.Adam, lr=0.01), partial(torch.optim.Adagrad, lr=0.01)])
def test_a_parameter_that_the_loss_does_not_see(factory):
    model, task = problem("over")
    model.unused = nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = factory(model.parameters())
    step(model, task, optimizer)
    metric = last_metric(optimizer, model.named_parameters())
    assert torch.equal(metric["unused"], torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    "factory",
    [sgd(0.1), partial(torch.optim.SGD, lr=0.1, momentum=0.9), partial(Nesterov, lr=0.1), torch.optim.Adadelta],
    ids=["sgd", "momentum", "nesterov", "adadelta"],
)
def test_optimizers_whose_state_does_not_tell(factory):
    model, task = problem("over")
    optimizer = factory(model.parameters())
    step(model, task, optimizer)
    assert last_metric(optimizer, model.named_parameters()) is None


def test_a_subclass_may_do_something_else():
    class Other(torch.optim.Adam):
        pass

    model, task = problem("over")
    optimizer = Other(model.parameters(), lr=0.01)
    step(model, task, optimizer)
    assert last_metric(optimizer, model.named_parameters()) is None


def test_parameters_of_another_network():
    model, task = problem("over")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    step(model, task, optimizer)
    assert last_metric(optimizer, copy.deepcopy(model).named_parameters()) is None

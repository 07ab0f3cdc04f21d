"""Optimizers and schedulers that training refuses."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, LambdaLR, ReduceLROnPlateau, SequentialLR, StepLR

import whichmin as wm
from oracles.linear_rules import problem, sgd
from whichmin.errors import OptimizerError

MODEL, TASK = problem("over")


def refused(message, factory=None, **settings):
    with pytest.raises(OptimizerError, match=message):
        wm.train(MODEL, TASK, factory or sgd(0.1), steps=3, **settings)


def test_an_optimizer_without_some_of_the_parameters():
    refused(
        r"has no 'layers.0.bias', 'layers.1.bias', 2 of 4 trainable parameters: freeze them with "
        r"requires_grad_\(False\) or give them to the optimizer",
        lambda params: torch.optim.SGD([p for p in params if p.ndim == 2], lr=0.1),
    )
    model, task = problem("over")
    for layer in model.layers:
        layer.bias.requires_grad_(False)
    run = wm.train(model, task, lambda ps: torch.optim.SGD([p for p in ps if p.ndim == 2], lr=0.1), steps=3)
    assert run.steps == 3


def test_an_optimizer_over_another_network():
    refused(
        "holds 4 tensors that are not parameters of the copy that is trained: build it from the parameters",
        lambda _: torch.optim.SGD(MODEL.parameters(), lr=0.1),
    )


def test_a_group_that_would_not_move():
    def groups(params, lr):
        return torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": lr}], lr=0.1)

    names = [name for name, _ in MODEL.named_parameters()][2:]
    refused(rf"parameter group 1 \('{names[0]}', '{names[1]}'\) has lr = 0 and would not move", partial(groups, lr=0.0))
    assert wm.train(MODEL, TASK, partial(groups, lr=0.2), steps=2).steps == 2


def test_a_scheduler_may_start_at_zero():
    run = wm.train(MODEL, TASK, sgd(0.1), steps=5, scheduler=lambda o: LambdaLR(o, lambda k: k / 5))
    assert run.learning_rate == 0.1
    assert run.losses[1] == run.losses[0] != run.losses[2]


def test_optimizers_that_need_a_closure():
    refused(
        r"LBFGS evaluates the loss several times in a step, through a closure; .* step\(\) works without one",
        partial(torch.optim.LBFGS, lr=0.1),
    )

    class Closed(torch.optim.SGD):
        def step(self, closure):
            return super().step(closure)

    refused(r"Closed evaluates the loss .*closure; training needs an optimizer whose step\(\)", partial(Closed, lr=0.1))


def test_schedulers():
    refused("ReduceLROnPlateau waits for a validation loss", scheduler=partial(ReduceLROnPlateau))
    refused("scheduler is 0.5; expected a factory optimizer → scheduler", scheduler=0.5)
    built = StepLR(sgd(0.1)(MODEL.parameters()), step_size=3)
    refused("got a built StepLR; expected a factory", scheduler=built)
    refused("the scheduler factory failed: .*step_size", scheduler=StepLR)
    refused("the scheduler factory returned a float; expected a torch.optim.lr_scheduler.LRScheduler", scheduler=_half)
    refused("returned a StepLR of another optimizer", scheduler=lambda _: built)


def _half(optimizer):
    return 0.5


@pytest.mark.parametrize(
    "scheduler",
    [
        lambda o: ChainedScheduler([StepLR(o, 2), StepLR(o, 3)]),
        lambda o: SequentialLR(o, [StepLR(o, 2), StepLR(o, 3)], milestones=[2]),
    ],
    ids=["chained", "sequential"],
)
def test_composed_schedulers(scheduler):
    assert wm.train(MODEL, TASK, sgd(0.1), steps=4, scheduler=scheduler).steps == 4


def test_what_a_factory_of_ours_says_comes_through():
    refused("r is -1; expected a positive number", partial(wm.optimizers.Nesterov, lr=0.1, r=-1))

"""``Recipe``: one object for what trains, in place of keywords."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from whichmin.errors import InputError, OptimizerError

SGD = partial(torch.optim.SGD, lr=0.1)
STEP = partial(StepLR, step_size=3)


def parameters():
    return [nn.Parameter(torch.ones(2))]


def test_a_factory_with_keywords_is_a_recipe():
    assert wm.Recipe.of(SGD) == wm.Recipe(SGD)
    assert wm.Recipe.of(SGD, 3, 4, STEP) == wm.Recipe(SGD, batch_size=3, seed=4, scheduler=STEP)
    recipe = wm.Recipe(SGD, 3, 4, STEP)
    assert wm.Recipe.of(recipe) is recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 1


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"batch_size": 3}, r"got a Recipe and batch_size=3; .*dataclasses\.replace\(recipe, batch_size=…\)"),
        ({"seed": 1, "scheduler": STEP}, r"got a Recipe and seed=1, scheduler=functools\.partial"),
    ],
)
def test_a_recipe_brings_its_own_batches(beside, said):
    with pytest.raises(InputError, match=said):
        wm.Recipe.of(wm.Recipe(SGD), **beside)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected a whole number"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"seed": "one"}, "seed is 'one'; expected an integer"),
        ({"seed": True, "batch_size": 2}, "seed is True"),
    ],
)
def test_settings_that_cannot_be_used(settings, said):
    with pytest.raises(InputError, match=said):
        wm.Recipe(SGD, **settings).check(10)


def test_the_rows_of_a_step():
    assert wm.Recipe(SGD).check(10) is None
    assert wm.Recipe(SGD, 10).check(10) is None
    assert wm.Recipe(SGD, 9).check(10) == 9


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (torch.optim.SGD(parameters(), lr=0.1), "got a built SGD; expected a factory"),
        (nn.Linear(2, 1), "got a network, Linear; expected an optimizer factory"),
        ("sgd", "optimizer is 'sgd'; expected a factory"),
        (partial(torch.optim.SGD, lr=-1), "the optimizer factory failed: Invalid learning rate"),
        (lambda parameters: 3, "the factory returned a int; expected a torch.optim.Optimizer"),
    ],
)
def test_factories_that_cannot_be_used(factory, said):
    with pytest.raises(OptimizerError, match=said):
        wm.Recipe(factory).build(parameters())


def test_builds_optimizer_and_scheduler():
    optimizer = wm.Recipe(SGD, scheduler=STEP).build(p := parameters())
    assert optimizer.param_groups[0]["params"] == p
    assert wm.Recipe(SGD, scheduler=STEP).build_scheduler(optimizer).optimizer is optimizer
    assert wm.Recipe(SGD).build_scheduler(optimizer) is None


def test_the_best_rate():
    best = wm.Recipe(partial(torch.optim.SGD, lr="best", momentum=0.5), 3, 4, STEP)
    assert best.wants_theory_rate
    settled = best.with_learning_rate(0.3)
    assert not settled.wants_theory_rate
    assert (settled.batch_size, settled.seed, settled.scheduler) == (3, 4, STEP)
    group = settled.build(parameters()).param_groups[0]
    assert (group["lr"], group["momentum"]) == (0.3, 0.5)
    half = wm.Recipe(partial(torch.optim.SGD, lr="half"))
    assert half.wants_theory_rate is half.wants_half_rate is True
    assert not best.wants_half_rate
    assert not wm.Recipe(SGD).wants_theory_rate
    with pytest.raises(InputError, match=r"cannot set the learning rate of .*; expected functools\.partial"):
        wm.Recipe(lambda p: torch.optim.SGD(p, lr=1.0)).with_learning_rate(0.1)


def test_each_initialization_has_an_order_of_its_own():
    recipe = wm.Recipe(SGD, 3, 4, STEP)
    assert recipe.at_initialization(0) == recipe
    assert recipe.at_initialization(2) == wm.Recipe(SGD, 3, 2004, STEP)
    assert wm.Recipe(SGD, seed=4).at_initialization(2) == wm.Recipe(SGD)


def test_verbs_take_a_recipe_in_place_of_keywords():
    task = wm.Task(torch.randn(6, 3), torch.randn(6, 1), torch.randn(4, 3))
    model = wm.networks.MLP([3, 16, 1], seed=0)
    keywords = {"batch_size": 2, "seed": 5, "scheduler": STEP}
    recipe = wm.Recipe(SGD, **keywords)
    told = wm.train(model, task, SGD, until=None, steps=7, **keywords)
    run = wm.train(model, task, recipe, until=None, steps=7)
    assert torch.equal(run.test, told.test)
    assert (run.batch_size, run.seed) == (2, 5)
    assert torch.equal(
        wm.predict(model, task, recipe, steps=7).test, wm.predict(model, task, SGD, steps=7, **keywords).test
    )
    assert torch.equal(
        wm.explain(model, task, recipe, until=None, steps=7).total,
        wm.explain(model, task, SGD, until=None, steps=7, **keywords).total,
    )
    for verb in (wm.predict, wm.train, wm.explain):
        with pytest.raises(InputError, match="got a Recipe and batch_size=3"):
            verb(model, task, recipe, batch_size=3)


@pytest.mark.parametrize(("n", "batch_size"), [(11, 4), (6, 1), (9, 9), (9, None)])
def test_without_rows_the_batches_are_those_of_all_rows_less_these(n, batch_size):
    recipe, gone = wm.Recipe(partial(torch.optim.SGD, lr=0.1), batch_size, seed=3), (1, 4)
    left = recipe.without(gone, n)
    numbers = [i for i in range(n) if i not in gone]
    assert left.steps_per_epoch(n - 2) == recipe.steps_per_epoch(n)
    whole, rest = recipe.batches(n), left.batches(n - 2)
    if batch_size is None or batch_size >= n:
        assert whole is rest is None
        return
    for _, all_rows, some in zip(range(12), whole, rest, strict=False):
        assert [numbers[i] for i in some.tolist()] == [i for i in all_rows.tolist() if i not in gone]
        assert some.dtype == torch.int64


def test_a_recipe_without_rows_is_another_one_and_knows_its_training_set():
    parameters = {"w": torch.nn.Parameter(torch.ones(2))}
    recipe = wm.Recipe(partial(torch.optim.SGD, lr=0.1), 3)
    left = recipe.without((0,), 8)
    assert left.describe(parameters) != recipe.describe(parameters) != recipe.without((1,), 8).describe(parameters)
    assert left.describe(parameters) == recipe.without((0,), 8).describe(parameters)
    with pytest.raises(InputError, match="for the 7 rows that were left, and got 8"):
        left.batches(8)
    assert dataclasses.replace(recipe, batch_size=None).without((0,), 8) == dataclasses.replace(recipe, batch_size=None)


@pytest.mark.parametrize("lr", [0.25, "half"])
def test_a_learning_rate_beside_the_factory_is_the_factorys(lr):
    recipe = wm.Recipe(partial(torch.optim.SGD, lr=1.0, momentum=0.5), batch_size=3, lr=lr)
    assert recipe.optimizer.keywords == {"lr": lr, "momentum": 0.5}
    assert recipe.names_rate is (lr == "half")
    again = dataclasses.replace(recipe, seed=4)
    assert again.optimizer.keywords == {"lr": lr, "momentum": 0.5}
    assert again.with_learning_rate(0.125).optimizer.keywords["lr"] == 0.125


def test_a_learning_rate_beside_what_takes_none():
    with pytest.raises(OptimizerError, match="the optimizer factory failed"):
        wm.Recipe(lambda p: torch.optim.SGD(p, lr=1.0), lr=0.5).build(parameters())
    with pytest.raises(OptimizerError, match="expected a factory"):
        wm.Recipe(None, lr=0.5).build(parameters())

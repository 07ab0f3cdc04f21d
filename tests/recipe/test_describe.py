"""What a recipe is, as plain values: equal where it does the same, different or unknown elsewhere."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

import whichmin as wm
from whichmin.optimizers import Preconditioned
from whichmin.recipe.describe import Unknown, _version, describe_steps

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def parameters():
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(2, 3, generator=generator)) for name in ("first", "second")}


def said(optimizer=SGD, **settings):
    described = wm.Recipe(optimizer, **settings).describe(parameters())
    assert not isinstance(described, Unknown), described
    return json.dumps(described, sort_keys=True)


def unknown(optimizer=SGD, **settings):
    described = wm.Recipe(optimizer, **settings).describe(parameters())
    assert isinstance(described, Unknown)
    return described.reason


def test_a_recipe_is_what_it_builds():
    rate = 0.1
    assert said() == said(lambda p: torch.optim.SGD(p, lr=rate, momentum=0.9))
    assert said(scheduler=lambda o: StepLR(o, 10)) == said(scheduler=partial(StepLR, step_size=10))


@pytest.mark.parametrize(
    "others",
    [
        [{"optimizer": partial(torch.optim.SGD, lr=lr, momentum=m)} for lr in (0.1, 0.2) for m in (0, 0.9)],
        [{"optimizer": lambda p, lr=lr: torch.optim.Adam(p, lr=lr)} for lr in (0.1, 0.2)],
        [{"optimizer": partial(torch.optim.Adam, lr=0.1, betas=betas)} for betas in ((0.9, 0.99), (0.9, 0.999))],
        [{"optimizer": kind} for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam)],
        [{"batch_size": size, "seed": seed} for size in (3, 4) for seed in (0, 1)] + [{}],
        [{"optimizer": partial(torch.optim.SGD, lr=lr)} for lr in (1e-3, "best")],
        [{"scheduler": s} for s in (None, lambda o: StepLR(o, 10), lambda o: StepLR(o, 500, gamma=0.5))],
        [{"scheduler": lambda o, step=step: StepLR(o, step)} for step in (500, 600)],
        [{"scheduler": partial(MultiStepLR, milestones=m)} for m in ([3, 4], [3, 400], [3, 500])],
        [{"scheduler": partial(OneCycleLR, max_lr=0.3, total_steps=n)} for n in (20, 500, 501)],
        [{"scheduler": partial(CyclicLR, base_lr=0.1, max_lr=0.3, mode=m)} for m in ("triangular", "triangular2")],
        [{"scheduler": lambda o, g=g: ChainedScheduler([StepLR(o, 900), ExponentialLR(o, g)])} for g in (0.9, 0.99)],
        [
            {"scheduler": lambda o, n=n, t=t: SequentialLR(o, [StepLR(o, 9), CosineAnnealingLR(o, t)], [n])}
            for n in (300, 400)
            for t in (10, 20)
        ],
        [{"optimizer": partial(Preconditioned, lr=0.1, metric=lambda p, k=k: p.detach() ** 2 + k)} for k in (1, 2)],
    ],
    ids=[
        "settings",
        "captured values",
        "betas",
        "classes",
        "batches",
        "best",
        "schedulers",
        "steps beyond the described",
        "milestones",
        "cycles",
        "modes",
        "chained",
        "sequential",
        "state",
    ],
)
def test_recipes_that_differ_are_told_apart(others):
    assert len({said(**other) for other in others}) == len(others)


def test_the_seed_counts_only_with_batches():
    assert said(seed=1) == said(seed=2)


def test_which_parameters_are_in_which_group():
    def groups(first, second):
        def build(p):
            p = list(p)
            return torch.optim.SGD([{"params": [p[first]], "lr": 0.1}, {"params": [p[second]], "lr": 0.2}])

        return build

    assert said(groups(0, 1)) != said(groups(1, 0))


class Own(torch.optim.SGD):
    """A class whose code may change."""


class OwnScheduler(LRScheduler):
    """A class whose code may change."""

    def get_lr(self):
        """The rates."""
        return [0.1 for _ in self.base_lrs]


def hooked(p):
    optimizer = torch.optim.SGD(p, lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: None)
    return optimizer


def patched(p):
    optimizer = torch.optim.SGD(p, lr=0.1)
    optimizer.step = lambda closure=None: None
    return optimizer


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"optimizer": partial(Own, lr=0.1)}, "the optimizer Own is code of your own"),
        ({"optimizer": hooked}, "the optimizer SGD has a step or hooks"),
        ({"optimizer": patched}, "the optimizer SGD has a step or hooks"),
        (
            {"optimizer": lambda p: torch.optim.SGD([{"params": list(p), "rule": lambda x: x}], lr=0.1)},
            r"a function \(rule of the optimizer SGD\) is code of your own",
        ),
        (
            {"optimizer": lambda p: torch.optim.SGD([{"params": list(p), "rule": object()}], lr=0.1)},
            "rule of the optimizer SGD holds a object, which does not show its values",
        ),
        (
            {"scheduler": partial(LambdaLR, lr_lambda=lambda k: 0.9**k)},
            r"a function \(lr_lambdas of the scheduler LambdaLR\) is code of your own",
        ),
        (
            {"scheduler": lambda o: SequentialLR(o, [StepLR(o, 3), LambdaLR(o, lambda k: 1.0)], [500])},
            r"a function \(lr_lambdas of _schedulers of the scheduler SequentialLR\)",
        ),
        (
            {"scheduler": partial(CyclicLR, base_lr=0.1, max_lr=0.2, scale_fn=lambda x: 0.9**x)},
            "_scale_fn_custom of the scheduler CyclicLR",
        ),
        ({"scheduler": OwnScheduler}, "the scheduler OwnScheduler is code of your own"),
    ],
    ids=["class", "hook", "step", "callable", "object", "lambda", "nested lambda", "scale", "scheduler class"],
)
def test_code_of_ones_own_is_unknown(settings, reason):
    assert re.search(reason, unknown(**settings))


def test_functions_of_installed_packages_are_known():
    schedule = partial(LambdaLR, lr_lambda=math.exp)
    assert "math.exp" in said(scheduler=schedule)


def test_a_module_of_ones_own_that_is_called_like_a_package_is_unknown(monkeypatch):
    package = __name__.partition(".")[0]
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {package: ["torch"]})
    _version.cache_clear()
    assert "the optimizer Own is code of your own" in unknown(partial(Own, lr=0.1))
    _version.cache_clear()


def test_classes_of_installed_packages_are_known_by_their_version(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "package_under_test.py").write_text("import torch\nclass Theirs(torch.optim.SGD):\n    pass\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"package_under_test": ["theirs"]})
    keys = set()
    for version in ("1.0", "1.1"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, version=version: f"{name}-{version}")
        _version.cache_clear()
        theirs = importlib.import_module("package_under_test").Theirs
        keys.add(said(partial(theirs, lr=0.1)))
    _version.cache_clear()
    monkeypatch.delitem(sys.modules, "package_under_test")
    assert len(keys) == 2
    assert all("package_under_test.Theirs theirs theirs-1." in key for key in keys)


def test_what_a_scheduler_does_over_the_first_steps_is_described():
    described = wm.Recipe(SGD, scheduler=partial(StepLR, step_size=40)).describe(parameters())
    changes = [(k, settings[0]["lr"], settings[0]["momentum"]) for k, settings in described["scheduled"]]
    assert changes == [(0, 0.1, 0.9), (40, pytest.approx(0.01), 0.9), (80, pytest.approx(0.001), 0.9)]
    cycle = wm.Recipe(SGD, scheduler=partial(OneCycleLR, max_lr=0.3, total_steps=5)).describe(parameters())
    assert [k for k, _ in cycle["scheduled"]] == [0, 1, 2, 3, 4, 5, 5]
    assert cycle["scheduled"][-1] == (5, "over")
    assert len({settings[0]["momentum"] for _, settings in cycle["scheduled"][:-1]}) > 2


def test_what_bears_the_name_of_another_is_unknown():
    imitation = type("SGD", (), {"__module__": "torch.optim.sgd", "__qualname__": "SGD"})
    assert "what it holds cannot be seen" in unknown(
        lambda p: torch.optim.SGD([{"params": list(p), "rule": imitation}], lr=0.1)
    )


def test_describing_changes_nothing():
    mine = parameters()
    before = {name: p.detach().clone() for name, p in mine.items()}
    for p in mine.values():
        p.grad = torch.ones_like(p)
    wm.Recipe(SGD, scheduler=partial(StepLR, step_size=3)).describe(mine)
    assert all(torch.equal(p, before[name]) for name, p in mine.items())


class Noisy(torch.optim.SGD):
    """Steps with noise."""

    def step(self, closure=None):
        for p in self.param_groups[0]["params"]:
            p.grad = p.grad + torch.randn_like(p)
        return super().step(closure)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Muon, Noisy])
def test_what_an_optimizer_does_is_the_same_each_time(optimizer):
    parameters, state = [torch.ones(3, 2), torch.zeros(2, 2)], torch.get_rng_state()
    found = {describe_steps(partial(optimizer, lr=lr), parameters) for lr in (0.1, 0.1, 0.2)}
    assert len(found) == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(parameters[0], torch.ones(3, 2))


def test_one_step_that_differs_shows():
    class Late(torch.optim.SGD):
        count = 0

        def step(self, closure=None):
            self.count += 1
            return super().step(closure) if self.count < 3 else None

    found = [describe_steps(partial(kind, lr=0.1), [torch.ones(3)]) for kind in (torch.optim.SGD, Late)]
    assert found[0] != found[1]

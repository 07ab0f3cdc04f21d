"""Optimizers that make their steps in one pass over the parameters."""

from functools import partial

import pytest
import torch

import whichmin as wm
from whichmin.recipe.build import fuse

Adam = torch.optim.Adam


def trained(make, *, fused):
    """Parameters after some steps on the same gradients."""
    p = torch.nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4))
    optimizer = make([p])
    if fused:
        fuse(optimizer)
        assert optimizer.param_groups[0]["fused"]
    for _ in range(20):
        optimizer.zero_grad()
        (p - 0.3).pow(4).sum().backward()
        optimizer.step()
    return p.detach()


@pytest.mark.parametrize(
    "make", [partial(Adam, lr=0.1), partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1), partial(Adam, amsgrad=True)]
)
def test_fused_steps_are_the_same(make):
    torch.testing.assert_close(trained(make, fused=True), trained(make, fused=False), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("settings", [{"foreach": True}, {"fused": False}, {"differentiable": True}])
def test_steps_are_made_as_the_factory_says(settings):
    optimizer = Adam([torch.nn.Parameter(torch.ones(3))], **settings)
    before = dict(optimizer.param_groups[0])
    fuse(optimizer)
    assert optimizer.param_groups[0] == before


def test_other_optimizers_stay_as_they_are():
    optimizer = torch.optim.RMSprop([torch.nn.Parameter(torch.ones(3))])
    fuse(optimizer)
    assert "fused" not in optimizer.param_groups[0]


@pytest.mark.parametrize("row_span", [False, True])
def test_training_up_to_rounding_fuses_steps(row_span):
    torch.manual_seed(0)
    built = []

    def factory(parameters):
        built.append(Adam(parameters, lr=0.01))
        return built[-1]

    task = wm.Task(torch.randn(6, 4), torch.randn(6, 1))
    wm.train(torch.nn.Linear(4, 1), task, factory, until=None, steps=3, row_span=row_span)
    assert bool(built[-1].param_groups[0]["fused"]) is row_span

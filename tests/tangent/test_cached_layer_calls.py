"""One first layer that is followed by its outputs, from its definition."""

from __future__ import annotations

import pytest
import torch

from oracles.linear_rules import distance
from whichmin.tangent.cached_layer import CachedCall, CachedLayer


def test_a_layer_of_its_own():
    """W ← W + by·stepᵀ A, from its definition."""
    g = torch.Generator().manual_seed(2)
    A, B, W = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((6, 5), (4, 5), (3, 5)))
    layer, stored = CachedLayer(), W.clone()
    for call, inputs in ((layer.train, A), (layer.test, B)):
        assert distance(call(inputs, stored, None).detach(), inputs @ W.T) < 1e-13
    assert layer.test(B + 1, stored, None) is None
    assert layer.test(B[:2], stored, None) is None
    step = torch.randn(6, 3, generator=g, dtype=torch.float64)
    layer.move(step, 0.3)
    expected = W + 0.3 * step.T @ A
    assert distance(layer.test(B, stored, torch.ones(3).double()).detach(), B @ expected.T + 1) < 1e-12
    assert torch.equal(stored, W), "the weight itself waits"
    layer.settle(stored)
    assert distance(stored, expected) < 1e-12
    layer.settle(stored)
    assert distance(stored, expected) < 1e-12, "once"


@pytest.mark.parametrize("bias", [None, torch.ones(2).double()])
def test_its_outputs_are_in_the_graph_where_one_is_made(bias):
    A, W = torch.ones(3, 4).double(), torch.ones(2, 4).double()
    assert CachedCall()(A, W, bias).grad_fn is not None
    with torch.no_grad():
        assert not CachedCall()(A, W, bias).requires_grad

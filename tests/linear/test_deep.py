"""Linear networks of any depth."""

import pytest
import torch
from torch import nn

from oracles.linear_networks import problem
from whichmin import linear


def chain(*sizes, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pairs = zip(sizes[1:], sizes[:-1], strict=True)
    return [scale * torch.randn(o, i, generator=generator, dtype=torch.float64) / i**0.5 for o, i in pairs]


def test_two_layers_are_the_single_hidden_layer_network():
    U, V, X, Y = problem(d=8, h=9, m=3, points=5, rank=4)
    times = [0.0, 0.2, 1.0]
    shallow, deep = linear.flow(U, V, X, Y, times), linear.deep_flow([U.T, V], X, Y, times)
    torch.testing.assert_close(deep.losses, shallow.losses, atol=1e-9, rtol=0)
    torch.testing.assert_close(deep.solution_distances, shallow.solution_distances, atol=1e-8, rtol=0)
    torch.testing.assert_close(deep.final[0].T, shallow.U[-1], atol=1e-8, rtol=0)
    (level,) = linear.deep_imbalances([U.T, V])
    torch.testing.assert_close(level, V.T @ V - U.T @ U)


@pytest.mark.parametrize("sizes", [(6, 5, 2), (6, 7, 4, 2), (6, 5, 5, 5, 2)])
def test_imbalances_are_conserved_and_the_end_interpolates(sizes):
    _, _, X, _ = problem(d=6, h=5, m=2, points=3, rank=3)
    weights = chain(*sizes, seed=1)
    Y = X @ torch.ones(6, 2, dtype=torch.float64) / 6
    run = linear.deep_flow(weights, X, Y, torch.linspace(0, 40, 5))
    before, after = linear.deep_imbalances(weights), linear.deep_imbalances(run.final)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=0)
    assert float(run.imbalance_drift.max()) < 1e-8
    assert float(run.still_drift.max()) < 1e-8
    assert float(run.gaps[-1]) < 1e-6 * float(run.gaps[0])
    distance = (run.product - linear.least_squares(X, Y)).norm()
    torch.testing.assert_close(distance, run.solution_distances[-1])
    torch.testing.assert_close(run.least_squares, linear.least_squares(X, Y))


def test_the_velocity_is_minus_the_gradient():
    _, _, X, Y = problem(d=6, h=5, m=2, points=7, rank=4)
    weights = [w.requires_grad_() for w in chain(6, 5, 4, 2)]
    out = X
    for w in weights:
        out = out @ w.T
    (0.5 * ((Y - out) ** 2).sum()).backward()
    run = linear.deep_flow(weights, X, Y, [0.0, 1e-7])
    for new, w in zip(run.final, weights, strict=True):
        torch.testing.assert_close((new - w.detach()) / 1e-7, -w.grad, atol=1e-4, rtol=1e-4)
    assert float(run.losses[0]) == pytest.approx(0.5 * float(((Y - out.detach()) ** 2).sum()), rel=1e-12)


def test_deeper_networks_from_smaller_weights_end_nearer_the_minimum_norm():
    _, _, X, Y = problem(d=10, h=5, m=1, points=3, rank=3)
    ends = [
        float(linear.deep_flow(chain(10, 8, 8, 1, scale=s), X, Y, [0.0, 60.0]).solution_distances[-1])
        for s in (1.0, 0.6, 0.3)
    ]
    assert ends[0] > ends[1] > ends[2]


def test_a_module_gives_its_weights():
    weights = chain(6, 5, 4, 2)
    module = nn.Sequential(*(nn.Linear(w.shape[1], w.shape[0], bias=False) for w in weights)).double()
    with torch.no_grad():
        for layer, w in zip(module, weights, strict=True):
            layer.weight.copy_(w)
    _, _, X, Y = problem(d=6, h=5, m=2, points=7, rank=4)
    by_module = linear.deep_flow(linear.layers(module, X), X, Y, [1.0])
    torch.testing.assert_close(by_module.product, linear.deep_flow(weights, X, Y, [1.0]).product)

"""A scaled network has scaled outputs, features and kernel, trains, and becomes an ordinary network again."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

import whichmin as wm
from oracles.remedies import network, task
from whichmin.errors import InputError, ModelError
from whichmin.mitigation.scaling import Scale, scaled, unscaled

X = torch.randn(6, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


class Tied(nn.Module):
    """One weight, used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 1)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.out(torch.tanh(self.two(torch.tanh(self.one(x)))))


class Keeping(nn.Linear):
    """A dense layer with an activation that keeps its weight in a list of its own, and computes with what is there."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside)
        self.kept = [self.weight]

    def forward(self, x):
        return torch.tanh(nn.functional.linear(x, self.kept[0], self.bias))


class Recurrent(nn.Module):
    """An LSTM and a dense layer."""

    def __init__(self, inside: int = 5) -> None:
        super().__init__()
        self.body, self.out = nn.LSTM(inside, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.body(x[:, None])[0][:, 0])


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_outputs_and_the_kernel_scale_with_the_layers(scale):
    """f₀ ~ α^L and K ~ α^{2L} for L = 2 layers of rectifiers without biases."""
    model = network()
    small = scaled(model, scale, X)
    torch.testing.assert_close(small(X), scale**2 * model(X), rtol=1e-12, atol=0)
    K, of_small = wm.tangent_kernel(model, X), wm.tangent_kernel(small, X)
    torch.testing.assert_close(of_small, scale**4 * K, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    "model",
    [
        network(),
        nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)).double(),
        nn.Sequential(weight_norm(nn.Linear(5, 8)), nn.Tanh(), nn.Linear(8, 1)).double(),
        Tied().double(),
        Recurrent().double(),
    ],
    ids=["mlp", "normalized", "weight_norm", "tied", "recurrent"],
)
def test_it_becomes_an_ordinary_network_of_the_same_outputs(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    outputs = model(X)
    small = scaled(model, 0.6, X)
    assert not torch.allclose(small(X), outputs)
    expected = small(X).detach()
    ordinary = unscaled(small)
    torch.testing.assert_close(ordinary(X), expected, rtol=1e-12, atol=1e-14)
    assert {name: v.shape for name, v in ordinary.state_dict().items()} == {n: v.shape for n, v in before.items()}
    assert [type(m) for m in ordinary.modules() if "Parametrized" not in type(m).__name__] == [
        type(m) for m in model.modules() if "Parametrized" not in type(m).__name__
    ]
    assert not any(isinstance(m, Scale) or m._forward_hooks for m in ordinary.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(model(X), outputs), "the network that was given is as it was"


def test_ties_are_scaled_once():
    model = Tied().double()
    ordinary = unscaled(scaled(model, 0.5, X))
    assert ordinary.one.weight is ordinary.two.weight
    assert torch.equal(ordinary.one.weight, 0.5 * model.one.weight)


def test_a_copy_of_a_scaled_network_is_a_network_of_its_own():
    import copy

    small = scaled(network(), 0.5, X)
    outputs = small(X)
    unscaled(copy.deepcopy(small))
    assert torch.equal(small(X), outputs)


def test_linear_layers_are_scaled_at_their_outputs_and_others_by_parametrizations():
    made = scaled(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), Recurrent(4)).double(), 0.5, X)
    kinds = {name: parametrize.is_parametrized(made.get_submodule(name)) for name in ("0", "2.body", "2.out")}
    assert kinds == {"0": False, "2.body": True, "2.out": False}


def test_a_weight_that_is_used_outside_of_its_layer_is_scaled_there_too():
    class Decoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 5, bias=False)

        def forward(self, x):
            return torch.tanh(self.layer(x)) @ self.layer.weight

    model = Decoding().double()
    W = model.layer.weight
    torch.testing.assert_close(scaled(model, 0.5, X)(X), torch.tanh(0.5 * X @ W.T) @ (0.5 * W))


def test_training_moves_what_is_under_the_scale():
    """Gradient descent at scale α on parameters p is that at rate α² lr on α p."""
    model, problem = network(), task()
    sgd = wm.train(scaled(model, 0.5, X), problem, lambda p: torch.optim.SGD(p, lr=0.02), until=None, steps=20)
    plain = wm.train(
        unscaled(scaled(model, 0.5, X)), problem, lambda p: torch.optim.SGD(p, lr=0.005), until=None, steps=20
    )
    torch.testing.assert_close(sgd.test, plain.test, rtol=1e-10, atol=1e-12)


def test_a_layer_that_keeps_its_weights_elsewhere_is_named():
    with pytest.raises(ModelError, match=r"layer '2', a Keeping, cannot be scaled"):
        scaled(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), Keeping(4, 1)).double(), 0.5, X)


@pytest.mark.parametrize("scale", [0, 0.0, -1.0, float("nan"), float("inf"), True, "small"])
def test_scales_are_positive(scale):
    with pytest.raises(InputError, match="expected a positive number"):
        scaled(network(), scale, X)

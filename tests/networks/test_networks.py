"""The two parametrizations, the scale of the layers, and the draw of the parameters."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.errors import ModelError
from whichmin.networks import ACTIVATIONS, CNN, MLP

X = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
IMAGES = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
DOUBLE = {"dtype": torch.float64}


def make(kind, **settings):
    """(network, inputs, number of layers)."""
    if kind == "mlp":
        return MLP([5, 11, 8, 2], **DOUBLE, **settings), X, 3
    return CNN((2, 6, 4), 2, **DOUBLE, **settings), IMAGES, 3


KINDS = pytest.mark.parametrize("kind", ["mlp", "cnn"])


@KINDS
@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_rectifiers_without_biases_scale_with_the_depth(kind, parametrization, alpha):
    one, inputs, layers = make(kind, parametrization=parametrization)
    scaled = make(kind, parametrization=parametrization, scale=alpha)[0]
    torch.testing.assert_close(scaled(inputs), alpha**layers * one(inputs))
    K, K_scaled = (wm.tangent_kernel(m, inputs) for m in (one, scaled))
    torch.testing.assert_close(K_scaled, alpha ** (2 * layers) * K)


@KINDS
def test_rectifiers_are_homogeneous_in_the_parameters(kind):
    model, inputs, layers = make(kind)
    tangent = wm.Tangent(model)
    torch.testing.assert_close(tangent.jvp(inputs, tangent.parameters), layers * tangent.f0(inputs))


@KINDS
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_both_parametrizations_start_at_one_function(kind, bias, activation):
    settings = {"bias": bias, "activation": activation, "scale": 0.8, "seed": 4}
    ntk, inputs, _ = make(kind, **settings)
    standard = make(kind, parametrization="standard", **settings)[0]
    torch.testing.assert_close(ntk(inputs), standard(inputs))


@KINDS
def test_the_parametrizations_have_different_kernels(kind):
    (ntk, inputs, _), standard = make(kind), make(kind, parametrization="standard")[0]
    assert float(wm.tangent_kernel(standard, inputs)[0, 0, 0, 0]) > 2 * float(
        wm.tangent_kernel(ntk, inputs)[0, 0, 0, 0]
    )


def test_an_mlp_by_hand():
    model = MLP([5, 4, 1], bias=True, bias_std=0.3, scale=0.7, activation="tanh", weight_std=1.5, **DOUBLE)
    (W1, b1), (W2, b2) = ((layer.weight, layer.bias) for layer in model.layers)
    h = torch.tanh(0.7 * (1.5 / math.sqrt(5) * X @ W1.T + 0.3 * b1))
    torch.testing.assert_close(model(X), 0.7 * (1 / math.sqrt(4) * h @ W2.T + 0.3 * b2))


def test_a_cnn_by_hand():
    model = CNN((2, 3), 2, scale=0.7, **DOUBLE)
    W, V = model.convolutions[0].weight, model.head.weight
    h = nn.functional.conv2d(IMAGES, W, padding=1) * 0.7 * math.sqrt(2 / (2 * 9))
    torch.testing.assert_close(model(IMAGES), 0.7 / math.sqrt(3) * torch.relu(h).mean((2, 3)) @ V.T)


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_the_size_of_the_signal_survives_depth(parametrization, activation):
    model = MLP([40, 2000, 2000, 2000, 1], activation=activation, parametrization=parametrization)
    model.requires_grad_(False)
    h = nn.functional.normalize(torch.randn(4, 40)) * math.sqrt(40)
    for layer in model.layers[:-1]:
        h = layer(h)
        rectifier = activation in ("relu", "leaky_relu", "linear")
        if rectifier:
            gain = 1.0 if activation == "linear" else math.sqrt(2)
            assert float(h.square().mean()) == pytest.approx(gain**2, rel=0.15)
        h = model.activation(h)
        if rectifier:
            assert float(h.square().mean()) == pytest.approx(1.0, rel=0.15)


def test_parameters_are_standard_normal_in_ntk_parametrization():
    model = MLP([300, 400, 1], bias=True)
    for values in (model.layers[0].weight, model.layers[0].bias):
        values = values.detach()
        assert abs(float(values.mean())) < 4 / math.sqrt(values.numel())
        assert float(values.std()) == pytest.approx(1, abs=4 / math.sqrt(values.numel()))
    standard = MLP([300, 400, 1], parametrization="standard").layers[0].weight.detach()
    assert float(standard.std()) == pytest.approx(math.sqrt(2 / 300), rel=0.02)


@KINDS
def test_a_seed_is_one_network(kind):
    a, inputs, _ = make(kind, seed=5)
    torch.manual_seed(77)
    b = make(kind, seed=5)[0]
    other = make(kind, seed=6)[0]
    assert torch.equal(a(inputs), b(inputs))
    assert not torch.allclose(a(inputs), other(inputs))


def test_a_seed_is_one_network_in_every_type():
    single, double = MLP([5, 9, 1], bias=True, seed=3), MLP([5, 9, 1], bias=True, seed=3, **DOUBLE)
    for p, q in zip(single.parameters(), double.parameters(), strict=True):
        assert p.dtype == torch.float32
        assert torch.equal(p, q.float())


def test_drawing_a_network_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    MLP([5, 9, 1], bias=True)
    CNN((1, 4), 1)
    assert torch.equal(torch.rand(1), expected)


@KINDS
def test_biases_of_no_size_start_at_zero(kind):
    for parametrization in ("ntk", "standard"):
        model, inputs, _ = make(kind, bias=True, bias_std=0.0, parametrization=parametrization)
        bare = make(kind, parametrization=parametrization)[0]
        bare.load_state_dict({k: v for k, v in model.state_dict().items() if k.endswith("weight")})
        torch.testing.assert_close(model(inputs), bare(inputs))
        assert all(float(p.abs().max()) == 0 for n, p in model.named_parameters() if n.endswith("bias"))


def test_shapes():
    assert MLP([12, 3])(torch.randn(5, 3, 4)).shape == (5, 3)
    assert MLP([12, 7, 2])(torch.randn(5, 3, 2, 2)).shape == (5, 2)
    assert CNN((2, 4, 4), 3)(torch.randn(5, 2, 9, 7)).shape == (5, 3)
    assert [p.shape for p in MLP([4, 5, 2], bias=True).parameters()] == [(5, 4), (5,), (2, 5), (2,)]


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: MLP([5]), r"sizes is \(5,\); expected \(in, hidden"),
        (lambda: MLP([]), "sizes is"),
        (lambda: MLP([5, 0, 1]), r"sizes is \(5, 0, 1\)"),
        (lambda: MLP([5, 2.5, 1]), "sizes is"),
        (lambda: MLP([5, 1], scale=0.0), "scale is 0.0; expected a positive"),
        (lambda: MLP([5, 1], scale=math.nan), "scale is nan"),
        (lambda: MLP([5, 1], activation="swish"), "activation is 'swish'; expected one of relu"),
        (lambda: MLP([5, 1], parametrization="mup"), "parametrization is 'mup'; expected 'ntk' or 'standard'"),
        (lambda: CNN((3,)), r"channels is \(3,\)"),
        (lambda: CNN((3, 0)), r"channels is \(3, 0\)"),
        (lambda: CNN((3, 4), scale=-1.0), "scale is -1.0"),
        (lambda: CNN((3, 4), activation="swish"), "activation is 'swish'"),
    ],
)
def test_settings_that_are_refused(make_it, message):
    with pytest.raises(ModelError, match=message):
        make_it()


def test_printing_tells_the_factors():
    text = str(MLP([5, 9, 1], scale=0.5))
    assert "(9, 5), bias=False" in text
    assert f"{0.5 * math.sqrt(2 / 5):.4g}" in text

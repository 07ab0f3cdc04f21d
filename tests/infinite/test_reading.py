from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from oracles.finite_networks import empirical, normal
from whichmin import networks
from whichmin.errors import DataError, ModelError
from whichmin.infinite import ErfActivation, FullyConnected, Limit, describe, kernel, relative_distance


def sequential(
    width: int = 300, seed: int = 0, activation: type[nn.Module] = nn.ReLU, bias: bool = True
) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(5, width, bias=bias),
            activation(),
            nn.Linear(width, width, bias=bias),
            activation(),
            nn.Linear(width, 2, bias=bias),
        ).double()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "erf", "linear"])
@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_biases_that_start_at_zero_are_trained_all_the_same(activation, scale):
    model = networks.MLP((6, 80, 70, 3), activation=activation, scale=scale, bias=True, bias_std=0.0)
    x1, x2 = normal(4, 6), normal(3, 6, seed=1)
    without = FullyConnected(3, activation, scale=scale)
    torch.testing.assert_close(kernel(model, x1, x2, "nngp"), without.nngp(x1, x2), rtol=1e-12, atol=1e-13)
    assert (kernel(model, x1, x2) > without.ntk(x1, x2)).all()
    limit = without.limit(6)
    expected = Limit(tuple(replace(layer, bias_tangent=scale**2) for layer in limit.layers), limit.activations, 6)
    torch.testing.assert_close(kernel(model, x1, x2), expected.ntk(x1, x2), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "erf", "linear"])
@pytest.mark.parametrize("bias_std", [None, 0.1])
def test_reads_networks_in_the_ntk_parametrization(activation, bias_std, scale, kind):
    bias = {} if bias_std is None else {"bias": True, "bias_std": bias_std}
    model = networks.MLP((6, 80, 70, 3), activation=activation, scale=scale, **bias)
    x1, x2 = normal(4, 6), normal(3, 6, seed=1)
    expected = FullyConnected(3, activation, bias_std=bias_std, scale=scale)
    torch.testing.assert_close(kernel(model, x1, x2, kind), getattr(expected, kind)(x1, x2), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bias_std", [None, 0.0])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "erf"])
def test_reads_networks_in_the_standard_parametrization(activation, bias_std):
    bias = {} if bias_std is None else {"bias": True, "bias_std": bias_std}
    model = networks.MLP((6, 80, 70, 3), activation=activation, parametrization="standard", scale=0.8, **bias)
    x = normal(4, 6)
    expected = FullyConnected(3, activation, bias_std=bias_std, parametrization="standard", widths=[80, 70], scale=0.8)
    torch.testing.assert_close(kernel(model, x), expected.ntk(x), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(kernel(model, x, kind="nngp"), expected.nngp(x), rtol=1e-12, atol=1e-13)


def test_biases_that_started_at_zero_and_moved_a_little():
    model = networks.MLP((6, 80, 80, 1), bias=True, bias_std=0.0)
    with torch.no_grad():
        for layer in model.layers:
            layer.bias.add_(0.01)  # type: ignore[operator, union-attr]
    assert [layer.bias_variance for layer in describe(model).layers] == pytest.approx([1e-4] * 3)


def test_layers_of_the_ntk_parametrization_in_a_sequential():
    model = networks.MLP((6, 80, 70, 3), bias=True)
    first, second, third = model.layers
    x = normal(4, 6)
    got = kernel(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third), x)
    torch.testing.assert_close(got, kernel(model, x), rtol=1e-12, atol=1e-12)


def test_measures_the_biases_of_the_standard_parametrization():
    model = networks.MLP((6, 2000, 2000, 1), parametrization="standard", bias=True, bias_std=0.5)
    variances = [layer.bias_variance for layer in describe(model).layers]
    assert variances == pytest.approx([0.25] * 3, rel=4 * math.sqrt(2 / 4001))


@pytest.mark.parametrize("parametrization", ["ntk", "standard"])
@pytest.mark.parametrize("sizes", [(2, 400, 1), (3, 400, 5, 1), (100, 3, 1)])
def test_tells_the_parametrization_from_the_weights(sizes, parametrization):
    for seed in range(20):
        model = networks.MLP(sizes, parametrization=parametrization, bias=True, seed=seed)
        limit = describe(model)
        entries = [layer.weight.numel() for layer in model.layers]
        for layer, expected, count in zip(limit.layers, [2.0] * (len(sizes) - 2) + [1.0], entries, strict=True):
            # The known law, but where few weights of the standard parametrization are drawn far from it: then measured.
            off = 0.0 if parametrization == "ntk" else 6 * math.sqrt(2 / count)
            assert layer.weight_variance == pytest.approx(expected, rel=max(off, 1e-12))
        assert [layer.bias_tangent for layer in limit.layers] == pytest.approx(
            [0.01 if parametrization == "ntk" else 1.0] * (len(sizes) - 1)
        )
        assert all(layer.bias_variance < 0.05 for layer in limit.layers)


@pytest.mark.parametrize("bias", [False, True])
def test_reads_torch_layers_as_torch_draws_them(bias):
    layers = describe(sequential(bias=bias)).layers
    for layer, n in zip(layers, (5, 300, 300), strict=True):
        assert layer.weight_variance == pytest.approx(1 / 3, rel=1e-14)
        assert layer.bias_variance == pytest.approx(1 / (3 * n) if bias else 0.0, rel=1e-14)
        assert (layer.weight_tangent, layer.bias_tangent) == (n, float(bias))


def test_measures_other_draws():
    model = sequential(bias=True)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, generator=torch.Generator().manual_seed(1))
            nn.init.constant_(layer.bias, 0.25)
    for layer, entries in zip(describe(model).layers, (1500, 90_000, 600), strict=True):
        assert layer.weight_variance == pytest.approx(2.0, rel=5 * math.sqrt(2 / entries))
        assert layer.bias_variance == 0.0625
    said = describe(model, weight_std=math.sqrt(2), bias_std=[0.0, 0.1, 0.2]).layers
    assert [layer.weight_variance for layer in said] == pytest.approx([2.0] * 3)
    assert [layer.bias_variance for layer in said] == pytest.approx([0.0, 0.01, 0.04])


def test_mixed_activations_and_shapes():
    model = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 50), nn.LeakyReLU(0.2), nn.Identity()),
        nn.Linear(50, 40),
        nn.Linear(40, 30),
        ErfActivation(),
        nn.Linear(30, 1),
    )
    assert [type(a).__name__ for a in describe(model).activations] == ["Rectifier", "Linear", "Erf"]
    x = normal(3, 2, 3)
    assert kernel(model, x).shape == (3, 3)
    assert kernel(nn.Linear(6, 2), x).shape == (3, 3)


def test_frozen_layers_have_no_share():
    model = sequential()
    model[0].requires_grad_(False)
    x = normal(4, 5)
    full, part = kernel(sequential(), x), kernel(model, x)
    assert (part.diagonal() < full.diagonal()).all()
    assert torch.equal(kernel(model, x, kind="nngp"), kernel(sequential(), x, kind="nngp"))
    assert describe(model).layers[0].weight_tangent == 0.0


@pytest.mark.parametrize("activation", [nn.ReLU, ErfActivation])
def test_torch_networks_scatter_around_it(activation):
    seeds, x = 40, normal(4, 5)
    found = torch.stack([empirical(sequential(256, seed, activation), x)[:, :, 0, 0] for seed in range(seeds)])
    limit = kernel(sequential(256, 0, activation), x)
    allowed = 4 * found.std(0) / math.sqrt(seeds) + 2 / 256 * limit.diagonal().max()
    assert ((found.mean(0) - limit).abs() <= allowed).all()
    assert allowed.max() < 0.2 * limit.diagonal().max()


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_relative_distance_is_the_relative_norm(outputs):
    x = normal(6, 4)
    model = networks.MLP((4, 64, 64, outputs), dtype=torch.float64)
    limit = torch.einsum("ij,ab->ijab", FullyConnected(3).ntk(x), torch.eye(outputs, dtype=torch.float64))
    expected = (empirical(model, x) - limit).norm() / limit.norm()
    assert relative_distance(model, x) == pytest.approx(float(expected), rel=1e-10)
    assert relative_distance(model, x, FullyConnected(3)) == pytest.approx(float(expected), rel=1e-10)


def test_the_relative_distance_falls_as_the_root_of_the_width():
    x = normal(8, 4)

    def mean(width):
        return sum(relative_distance(networks.MLP((4, width, width, 1), seed=s), x.float()) for s in range(12)) / 12

    assert mean(64) / mean(1024) == pytest.approx(4.0, rel=0.35)
    assert relative_distance(networks.MLP((4, 256, 1)), x.float(), FullyConnected(2, weight_std=2.0)) > 0.5


class Custom(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)),
            r"layer '1' \(Tanh\) is not supported.*nn.LeakyReLU",
        ),
        (nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.GELU()), nn.Linear(4, 1)), r"layer '1.0' \(GELU\)"),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), r"layer '1' \(BatchNorm1d\)"),
        (nn.Sequential(Custom(), nn.Linear(3, 1)), r"layer '0' \(Custom\)"),
        (Custom(), r"layer 'Custom' \(Custom\) is not supported; expected one of nn.Linear"),
        (networks.MLP((3, 4, 1), activation="tanh"), "activation is 'tanh'.*expected one of relu"),
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 1)), r"layer '0' \(ReLU\) comes in front of the first nn.Linear"),
        (
            nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.ReLU(), nn.Linear(4, 1)),
            "layer '2' .* after another activation",
        ),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU()), "ends in an activation; expected it to end in an nn.Linear"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 1)), "layer '1' expects 5 inputs and gets 4"),
        (nn.Sequential(nn.Linear(3, 4), nn.Flatten(), nn.Linear(4, 1)), "layer '1' .* in front of the first nn.Linear"),
        (nn.Sequential(), "got Sequential without an nn.Linear"),
    ],
)
def test_bad_models(model, message):
    with pytest.raises(ModelError, match=message):
        kernel(model, normal(2, 3))


def test_shared_layers():
    shared = nn.Linear(3, 3)
    with pytest.raises(ModelError, match="layer '2' shares its weights with an earlier layer"):
        describe(nn.Sequential(shared, nn.ReLU(), shared))


def test_bad_inputs():
    model = sequential()
    with pytest.raises(DataError, match="x1 has 4 features per row; expected 5"):
        kernel(model, normal(2, 4))
    with pytest.raises(DataError, match="X holds NaN"):
        relative_distance(model, torch.full((2, 5), math.nan, dtype=torch.float64))
    with pytest.raises(ModelError, match="weight_std has 2 entries; expected one number, or one per layer: 3"):
        kernel(model, normal(2, 5), weight_std=[1.0, 1.0])
    with pytest.raises(ModelError, match=r"bias_std is 0.1 for dense layer 0, which has no biases: pass 0 for it"):
        kernel(sequential(bias=False), normal(2, 5), bias_std=0.1)

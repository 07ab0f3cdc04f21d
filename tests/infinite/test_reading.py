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


def test_biases_that_started_at_zero_and_moved_are_refused_unless_their_law_is_given():
    model = networks.MLP((6, 80, 80, 1), bias=True, bias_std=0.0)
    with torch.no_grad():
        for layer in model.layers:
            layer.bias.add_(0.01)  # type: ignore[operator, union-attr]
    with pytest.raises(ModelError, match=r"biases of dense layer 0 \(6 to 80\) are all 0.01: .*bias_std=.*0 for those"):
        describe(model)
    assert [layer.bias_variance for layer in describe(model, bias_std=0.0).layers] == [0.0] * 3


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


def drawn(init, bias=None, width: int = 300, seed: int = 1) -> nn.Sequential:
    """A network whose weights, and biases where it is said, are drawn by functions of torch.nn.init."""
    model = sequential(width)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for layer in model:
            if isinstance(layer, nn.Linear):
                init(layer.weight)
                if bias is not None:
                    bias(layer.bias)
    return model


LAWS = {
    "kaiming_normal": (nn.init.kaiming_normal_, lambda n, m: 2.0 / n),
    "kaiming_uniform": (lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"), lambda n, m: 2.0 / n),
    "kaiming_fan_out": (lambda w: nn.init.kaiming_normal_(w, mode="fan_out"), lambda n, m: 2.0 / m),
    "lecun": (lambda w: nn.init.normal_(w, std=w.shape[1] ** -0.5), lambda n, m: 1.0 / n),
    "xavier_uniform": (nn.init.xavier_uniform_, lambda n, m: 2.0 / (n + m)),
    "xavier_normal": (nn.init.xavier_normal_, lambda n, m: 2.0 / (n + m)),
    "orthogonal": (nn.init.orthogonal_, lambda n, m: 1.0 / max(n, m)),
}


@pytest.mark.parametrize("law", LAWS)
def test_tells_the_usual_laws(law):
    init, variance = LAWS[law]
    model = drawn(init)
    for layer, (n, m) in zip(describe(model).layers, ((5, 300), (300, 300), (300, 2)), strict=True):
        assert layer.weight_variance == pytest.approx(n * variance(n, m), rel=1e-12)
        assert layer.bias_variance == pytest.approx(1 / (3 * n), rel=1e-14)
    said = describe(model, weight_std=math.sqrt(2), bias_std=[0.0, 0.1, 0.2]).layers
    assert [layer.weight_variance for layer in said] == pytest.approx([2.0] * 3)
    assert [layer.bias_variance for layer in said] == pytest.approx([0.0, 0.01, 0.04])


def test_measures_other_draws():
    model = drawn(lambda w: nn.init.normal_(w, std=0.5), lambda b: nn.init.normal_(b, std=0.2))
    layers = describe(model).layers
    for layer, n, entries in zip(layers, (5, 300, 300), (1500, 90_000, 600), strict=True):
        assert layer.weight_variance == pytest.approx(0.25 * n, rel=5 * math.sqrt(2 / entries))
    assert [layer.bias_variance for layer in layers] == pytest.approx([0.04] * 3, rel=5 * math.sqrt(2 / 600))
    assert len({layer.bias_variance for layer in layers}) == 1, "one law, measured over all layers"


@pytest.mark.parametrize("trained", [True, False])
def test_biases_that_are_zero_have_no_variance_and_their_share(trained):
    model = nn.Sequential(nn.Linear(3, 4096), nn.ReLU(), nn.Linear(4096, 1))
    for layer in (model[0], model[2]):
        nn.init.zeros_(layer.bias).requires_grad_(trained)
    x = nn.functional.normalize(normal(4, 3), dim=1)
    without = FullyConnected(2, "relu", math.sqrt(1 / 3))
    nngp = kernel(model, x, kind="nngp")
    torch.testing.assert_close(nngp, without.nngp(x), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(nngp.diagonal(), torch.full((4,), 1 / 54, dtype=torch.float64), rtol=1e-12, atol=0)
    # On the diagonal of two ReLU layers: 4096 E[φ²] + 1 and, through the second layer, (3·1/3 + 1) E[φ'²] σ_w².
    expected = 4096 / 18 + trained + (1 + trained) / 6
    assert kernel(model, x).diagonal().tolist() == pytest.approx([expected] * 4, rel=1e-12)


def test_zeroed_biases_agree_with_the_networks_themselves():
    x = normal(4, 5)

    def zeroed(seed):
        model = sequential(256, seed)
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.bias)
        return model

    found = torch.stack([empirical(zeroed(seed), x)[:, :, 0, 0] for seed in range(20)])
    limit = kernel(zeroed(0), x)
    allowed = 4 * found.std(0) / math.sqrt(20) + 2 / 256 * limit.diagonal().max()
    assert ((found.mean(0) - limit).abs() <= allowed).all()


def test_biases_of_each_layer_are_read_on_their_own():
    model = sequential()
    nn.init.zeros_(model[2].bias)
    layers = describe(model).layers
    assert [layer.bias_variance for layer in layers[:2]] == pytest.approx([1 / 15, 0.0])
    assert [layer.bias_tangent for layer in layers] == [1.0] * 3
    mlp = networks.MLP((6, 80, 70, 3), bias=True, dtype=torch.float64)
    nn.init.zeros_(mlp.layers[1].bias)  # type: ignore[union-attr, arg-type]
    variances = [layer.bias_variance for layer in describe(mlp, bias_std=[0.1, 0.0, 0.1]).layers]
    assert variances == pytest.approx([0.01, 0.0, 0.01])
    assert [layer.bias_variance for layer in describe(mlp).layers] == pytest.approx(variances)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: nn.init.constant_(m[0].bias, 0.25),
            r"biases of dense layer 0 \(5 to 300\) are all 0.25: .* bias_std=",
        ),
        (
            lambda m: nn.init.normal_(m[2].bias, mean=0.5),
            r"biases of dense layer 1 .* no draw of mean zero.* bias_std=",
        ),
        (lambda m: nn.init.constant_(m[4].bias, 3.0), r"biases of dense layer 2 .* are all 3: .* bias_std="),
        (lambda m: m[4].bias.data.copy_(torch.tensor([3.0, -2.0])), r"the 2 biases of dense layer 2 .* too few"),
        (lambda m: nn.init.eye_(m[2].weight), r"weights of dense layer 1 .* no draw of mean zero: pass weight_std="),
        (lambda m: nn.init.constant_(m[0].weight, 1.0), r"weights of dense layer 0 .* no draw of mean zero"),
        (lambda m: nn.init.zeros_(m[0].weight), "weights of dense layer 0 .* all zero, so that nothing behind"),
    ],
)
def test_says_that_it_cannot_read_what_is_no_draw(change, message):
    model = sequential()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        change(model)
    with pytest.raises(ModelError, match=message):
        describe(model)
    assert len(describe(model, weight_std=1.0, bias_std=0.5).layers) == 3


def test_one_output_bias_follows_the_other_layers():
    normal_biases = drawn(nn.init.kaiming_normal_, lambda b: nn.init.normal_(b, std=0.04))
    last = describe(normal_biases).layers[2]
    assert last.bias_variance == pytest.approx(0.0016, rel=0.4)
    with torch.no_grad():
        normal_biases[4].bias.copy_(torch.tensor([2.0, -1.0]))
    with pytest.raises(ModelError, match=r"the 2 biases of dense layer 2 .* too few to measure a law"):
        describe(normal_biases)


def test_few_weights_of_no_usual_law():
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[9.0, -8.0, 7.0, -9.0]]))
    with pytest.raises(ModelError, match=r"the 4 weights of dense layer 1 .* too few to measure one: pass weight_std="):
        describe(model)


def test_output_weights_that_start_at_zero():
    model = sequential()
    nn.init.zeros_(model[4].weight)
    x = normal(3, 5)
    layer = describe(model).layers[2]
    assert (layer.weight_variance, layer.weight_tangent) == (0.0, 300.0)
    torch.testing.assert_close(kernel(model, x, kind="nngp"), torch.full((3, 3), layer.bias_variance).double())
    assert torch.isfinite(kernel(model, x)).all()


def test_an_mlp_with_other_weights_is_measured():
    model = networks.MLP((6, 80, 70, 3), dtype=torch.float64)
    with torch.no_grad():
        model.layers[1].weight.mul_(3.0)  # type: ignore[operator, union-attr]
    assert describe(model).layers[1].weight_variance == pytest.approx(18.0, rel=5 * math.sqrt(2 / 5600))


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

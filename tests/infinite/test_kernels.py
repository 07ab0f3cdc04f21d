from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oracles.finite_networks import empirical, normal
from whichmin import networks
from whichmin.errors import DataError, InputError, ModelError
from whichmin.infinite import FullyConnected, Layer, Limit, pairwise, tiles
from whichmin.infinite.activations import Erf, Rectifier

CASES = range(96)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize("number", CASES)
def test_agrees_with_neural_tangents(reference, number, kind):
    case = reference.cases[number]
    compute = getattr(reference.description(case), kind)
    x1, x2 = reference[f"{number}/x1"], reference[f"{number}/x2"]
    for got, name in ((compute(x1, x2), kind), (compute(x1), f"{kind}/self")):
        expected = reference[f"{number}/{name}"]
        assert got.dtype == torch.float64
        # The peer takes the angle of identical inputs from a rounded cosine: 1e-8 is its own error on the diagonal.
        tolerance = 1e-8 if kind == "ntk" else 1e-13
        assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def test_the_reference_covers_depths_and_activations(reference):
    assert len(reference.cases) == len(CASES)
    assert {(c["depth"], c["activation"]) for c in reference.cases} == {
        (depth, name) for depth in range(1, 7) for name in ("relu", "leaky_relu", "erf", "linear")
    }


def exact(x: Tensor, y: Tensor, depth: int, activation: str, bias: float, slope: float) -> tuple[float, float]:
    """NTK and NNGP of one pair in 60 digits, from correlations, by the textbook recursion."""
    with mpmath.workdps(60):
        a, b = ([mpmath.mpf(float(v)) for v in row] for row in (x, y))
        moments = [mpmath.fdot(u, v) / len(a) for u, v in ((a, a), (b, b), (a, b))]
        gain = {"relu": 2, "leaky_relu": 2 / (1 + mpmath.mpf(slope) ** 2), "erf": 1}[activation]
        tangent = mpmath.mpf(0)
        for layer in range(depth):
            weight = mpmath.mpf(1) if layer == depth - 1 else mpmath.mpf(gain)
            moments = [weight * m + mpmath.mpf(bias) ** 2 for m in moments]
            tangent = moments[2] + weight * tangent
            if layer < depth - 1:
                p, q, c = moments
                derivative = _pair(activation, p, q, c, slope)[1]
                moments = [_pair(activation, *m, slope)[0] for m in ((p, p, p), (q, q, q), (p, q, c))]
                tangent *= derivative
        return float(tangent), float(moments[2])


def _pair(activation, p, q, c, slope):
    if activation == "erf":
        root = mpmath.sqrt((1 + 2 * p) * (1 + 2 * q) - 4 * c**2)
        return 2 / mpmath.pi * mpmath.atan(2 * c / root), 4 / mpmath.pi / root
    angle = mpmath.acos(max(min(c / mpmath.sqrt(p * q), 1), -1))
    bend, size = (1 - mpmath.mpf(slope)) ** 2, 1 + mpmath.mpf(slope) ** 2
    derivative = size / 2 - bend * angle / (2 * mpmath.pi)
    return bend * mpmath.sqrt(p * q) * mpmath.sin(angle) / (2 * mpmath.pi) + derivative * c, derivative


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("gap", [0.0, 1e-15, 1e-12, 1e-9, 1e-6, 3e-6, 1e-5, 1e-4, 3e-3, 1e-2, 1.0])
@pytest.mark.parametrize("bias", [0.0, 0.5])
@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.0), ("leaky_relu", 0.3), ("erf", 0.0)])
def test_near_parallel_pairs_are_exact(activation, slope, bias, gap, sign):
    x = normal(1, 6)
    y = sign * (x + gap * normal(1, 6, seed=1))
    description = FullyConnected(5, activation, bias_std=bias, negative_slope=slope)
    ntk, nngp = exact(x[0], y[0], 5, activation, bias, slope)
    scale = float(description.ntk(x))
    # Near-antiparallel angles, whose derivative is next to nothing, are known to the root of the rounding.
    tolerance = 2e-12 if sign > 0 or gap == 0.0 or activation == "erf" else 1e-9
    assert float(description.ntk(x, y)) == pytest.approx(ntk, abs=tolerance * scale)
    assert float(description.nngp(x, y)) == pytest.approx(nngp, abs=1e-13 * scale)


def test_a_copy_in_the_other_set_is_like_the_diagonal():
    x = normal(40, 17)
    description = FullyConnected(6, "relu")
    torch.testing.assert_close(description.ntk(x, x.clone()), description.ntk(x), rtol=1e-13, atol=1e-13)


def test_the_diagonal_in_closed_form():
    x = normal(12, 5) * torch.logspace(-3, 3, 12, dtype=torch.float64)[:, None]
    expected = 4 * x.square().mean(1)
    torch.testing.assert_close(FullyConnected(4, "relu").ntk(x).diagonal(), expected, rtol=1e-14, atol=0.0)


def test_the_diagonal_through_different_activations():
    x = normal(40, 5)
    layers = (Layer(1.3, 0.2, 1.3, 0.2), Layer(2.0, 0.1, 7.0, 1.0), Layer(0.9, 0.0, 0.9, 0.0))
    h = x.square().mean(1)
    before = 1.3 * h + 0.2
    tangent = (1.3 * h + 0.2) * (4 / math.pi) / (1 + 4 * before).sqrt()
    h = (2 / math.pi) * torch.asin(2 * before / (1 + 2 * before))
    tangent = (7.0 * h + 1.0 + 2.0 * tangent) / 2
    h = (2.0 * h + 0.1) / 2
    limit = Limit(layers, (Erf(), Rectifier()), 5)
    torch.testing.assert_close(limit.nngp(x).diagonal(), 0.9 * h, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(limit.ntk(x).diagonal(), 0.9 * h + 0.9 * tangent, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "erf", "linear"])
@pytest.mark.parametrize("bias_std", [None, 0.3])
def test_zero_inputs(activation, bias_std):
    x = torch.cat([torch.zeros(2, 3, dtype=torch.float64), normal(3, 3)])
    description = FullyConnected(4, activation, bias_std=bias_std)
    for kernel in (description.ntk(x), description.nngp(x), description.ntk(x, x[:2]), description.nngp(x, x[:2])):
        assert torch.isfinite(kernel).all()
        if bias_std is None:
            assert (kernel[:2] == 0).all()
        else:
            assert (kernel[:2].abs() > 1e-3).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_tiles_and_threads_do_not_show(monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, y = normal(50, 4), normal(23, 4, seed=1)
    description = FullyConnected(3, "leaky_relu", bias_std=0.2)
    whole = description.ntk(x), description.nngp(x, y)
    monkeypatch.setitem(pairwise._TILE, "cpu", 7)
    monkeypatch.setattr(tiles, "_CHUNK", 5)
    torch.testing.assert_close(description.ntk(x), whole[0], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(description.nngp(x, y), whole[1], rtol=1e-14, atol=1e-14)
    assert torch.equal(description.ntk(x), description.ntk(x).T)


def test_an_error_in_a_thread_comes_out(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setitem(pairwise._TILE, "cpu", 3)

    def fail(*_):
        raise RuntimeError("in a tile")

    monkeypatch.setattr(tiles, "_separate", fail)
    with pytest.raises(RuntimeError, match="in a tile"):
        FullyConnected(2).ntk(normal(30, 2))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 9),
    features=st.integers(1, 6),
    depth=st.integers(1, 6),
    activation=st.sampled_from(["relu", "leaky_relu", "erf", "linear"]),
    bias=st.sampled_from([None, 0.0, 0.4]),
    seed=st.integers(0, 1000),
)
def test_positive_semidefinite_and_permutes_with_the_data(n, features, depth, activation, bias, seed):
    x = normal(n, features, seed=seed)
    description = FullyConnected(depth, activation, bias_std=bias)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for compute in (description.ntk, description.nngp):
        kernel = compute(x)
        values = torch.linalg.eigvalsh(kernel)
        assert values[0] >= -1e-12 * values[-1]
        torch.testing.assert_close(compute(x[order]), kernel[order][:, order], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(compute(x, x[order]), kernel[:, order], rtol=1e-12, atol=1e-13)


def test_scale_multiplies_every_layer():
    x = normal(5, 3)
    one, half = FullyConnected(3), FullyConnected(3, scale=0.5)
    torch.testing.assert_close(half.ntk(x), one.ntk(x) / 64)
    torch.testing.assert_close(half.nngp(x), one.nngp(x) / 64)


def test_other_types_and_shapes_of_inputs():
    x = normal(4, 2, 3)
    expected = FullyConnected(3).ntk(x.flatten(1))
    assert torch.equal(FullyConnected(3).ntk(x), expected)
    torch.testing.assert_close(FullyConnected(3).ntk(x.float()), expected, rtol=1e-5, atol=1e-5)
    assert FullyConnected(3).ntk(torch.arange(6).reshape(3, 2)).dtype == torch.float64


@pytest.mark.parametrize(("parametrization", "bias"), [("ntk", False), ("standard", True)])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "erf"])
def test_finite_networks_scatter_around_it(activation, bias, parametrization):
    sizes, seeds, x = (3, 256, 256, 1), 40, normal(4, 3)
    found = torch.stack(
        [
            empirical(
                networks.MLP(
                    sizes,
                    activation=activation,
                    bias=bias,
                    parametrization=parametrization,
                    seed=seed,
                    dtype=torch.float64,
                ),
                x,
            )[:, :, 0, 0]
            for seed in range(seeds)
        ]
    )
    limit = FullyConnected(
        3,
        activation,
        bias_std=0.1 if bias else None,
        parametrization=parametrization,
        widths=256 if parametrization == "standard" else None,
    ).ntk(x)
    error = found.std(0) / math.sqrt(seeds)
    # Beside the scatter, the mean of finite networks is off by O(1/width).
    allowed = 4 * error + 2 / 256 * limit.diagonal().max()
    assert ((found.mean(0) - limit).abs() <= allowed).all()
    assert allowed.max() < 0.15 * limit.diagonal().max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth is 0; expected the number of weight layers, an integer of 1 or more"),
        ({"depth": 2.5}, "depth is 2.5; expected"),
        ({"depth": 2, "activation": "tanh"}, "'tanh', which has no closed form.*relu, leaky_relu, erf, linear"),
        ({"depth": 2, "weight_std": 0.0}, "weight_std is 0.0; expected positive numbers"),
        ({"depth": 2, "weight_std": [1.0, -1.0]}, "weight_std is .*; expected positive numbers"),
        ({"depth": 2, "weight_std": [1.0]}, "weight_std has 1 entries; expected one number, or one per layer: 2"),
        ({"depth": 2, "weight_std": "big"}, "weight_std"),
        ({"depth": 2, "bias_std": -0.1}, "bias_std is -0.1; expected non-negative numbers"),
        ({"depth": 2, "bias_std": [0.1] * 3}, "bias_std has 3 entries; expected one number, or one per layer: 2"),
        ({"depth": 2, "bias_std": math.nan}, "bias_std is nan"),
        ({"depth": 2, "parametrization": "mup"}, "parametrization is 'mup'; expected 'ntk' or 'standard'"),
        ({"depth": 3, "parametrization": "standard"}, "grows with the width: pass widths="),
        ({"depth": 3, "parametrization": "standard", "widths": [4]}, "widths has 1 entries.*one per hidden layer: 2"),
        ({"depth": 3, "parametrization": "standard", "widths": 4.5}, "widths is 4.5; expected integers"),
        ({"depth": 3, "widths": 4}, "widths does not matter in the ntk parametrization"),
        ({"depth": 3, "scale": 0.0}, "scale is 0.0; expected positive numbers"),
        ({"depth": 3, "negative_slope": math.inf}, "negative_slope is inf"),
    ],
)
def test_bad_descriptions(arguments, message):
    with pytest.raises(ModelError, match=message):
        FullyConnected(**arguments)


@pytest.mark.parametrize(
    ("x1", "x2", "message"),
    [
        (torch.tensor([[1.0, math.nan]]), None, "x1 holds NaN or infinity in 1 of 1 rows, first in row 0"),
        (torch.ones(2, 2), torch.tensor([[1.0, 1.0], [math.inf, 0.0]]), "x2 holds NaN or infinity .* first in row 1"),
        (torch.ones(2, 2), torch.ones(2, 3), "x2 has 3 features per row; expected 2"),
        (torch.ones(3), None, r"x1 has shape \(3,\); expected \(n, …\)"),
        (torch.ones(0, 3), None, r"x1 has shape \(0, 3\)"),
        (torch.ones(2, 2, dtype=torch.complex64), None, "x1 is complex"),
        ("rows", None, "x1 is a str that torch.as_tensor cannot read"),
    ],
)
def test_bad_inputs(x1, x2, message):
    for compute in (FullyConnected(2).ntk, FullyConnected(2).nngp):
        with pytest.raises(DataError, match=message):
            compute(x1, x2)


def test_bad_kind():
    with pytest.raises(InputError, match="kind is 'gp'; expected 'ntk' or 'nngp'"):
        FullyConnected(2).limit(3).kernel(normal(2, 3), kind="gp")  # type: ignore[arg-type]

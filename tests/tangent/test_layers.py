"""Kinds of layers: what the registry needs of them, and that a new one is a class and an entry."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import get_gradient_edge

from oracles.features import gram
from oracles.zoo import ZOO, build, plain_jacobian
from whichmin.kernels.kernel import compute_kernel
from whichmin.tangent import contract
from whichmin.tangent.captured import capture
from whichmin.tangent.factors import factorize
from whichmin.tangent.layers import convolution, dense, grams, registry
from whichmin.tangent.layers.base import Factor, Layer, Part, Use
from whichmin.tangent.layers.bias import Bias
from whichmin.tangent.layers.convolution import Convolution
from whichmin.tangent.layers.dense import Dense
from whichmin.tangent.layers.grams import Grams
from whichmin.tangent.model import trainable


@pytest.fixture(scope="module")
def uses():
    """Every recognized use in the zoo."""
    found = []
    for name in ZOO:
        model, X = build(name, 2, 3)
        found += [(name, f) for fs in factorize(model, trainable(model), X).by_parameter.values() for f in fs]
    return found


@pytest.mark.parametrize("kind", registry.LAYERS)
def test_the_zoo_has_every_kind(kind, uses):
    assert any(type(f.use.layer) is kind for _, f in uses)


def test_slices_of_a_gradient_are_parts_of_the_whole(uses):
    for name, factor in uses:
        model, _ = build(name, 2, 3)
        shape = tuple(trainable(model)[factor.use.parameter].shape)
        layer, first = factor.use.layer, shape[0]
        whole = layer.gradient(factor, shape, 0, first)
        assert whole.shape == (2, 3, *shape), name
        for lo, hi in ((0, 1), (first // 2, first)):
            part = layer.gradient(factor, shape, lo, hi)
            torch.testing.assert_close(part, whole[:, :, lo:hi], rtol=1e-12, atol=1e-12)


def test_the_shorter_way_is_the_product_of_gradients(uses):
    """Where a kind has one, on its own, with the same and with other rows."""
    tried = set()
    for name, factor in uses:
        layer = factor.use.layer
        if not layer.has_gram(factor, factor):
            continue
        model, X = build(name, 2, 4, seed=1)
        parameters = trainable(model)
        shape = tuple(parameters[factor.use.parameter].shape)
        for other in factorize(model, parameters, X).by_parameter[factor.use.parameter]:
            P, Q = (f.use.layer.gradient(f, shape, 0, shape[0]).flatten(2).flatten(0, 1) for f in (factor, other))
            K = torch.ones(6, 8, dtype=torch.float64)
            layer.add_gram(K, factor, other, 0.5, Grams())
            torch.testing.assert_close(K, 1.0 + 0.5 * P @ Q.T, rtol=1e-10, atol=1e-10)
            tried.add(type(layer))
    assert tried == {Dense, Bias}


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("outputs", [1, 3])
def test_pairs_of_tokens(outputs, same, flipped, monkeypatch):
    """Some rows at once, with as many tokens as the other rows or more."""
    monkeypatch.setattr(dense, "SLOWER", 0)
    monkeypatch.setattr(dense, "AT_ONCE", 100)
    torch.manual_seed(0)
    left, right = tokens(5, 3, outputs, flipped), tokens(4, 2, outputs, flipped)
    right = left if same else right
    layer, shape = left.use.layer, (6, 4) if not flipped else (4, 6)
    assert layer.has_gram(left, right)
    P, Q = (layer.gradient(f, shape, 0, shape[0]).flatten(2).flatten(0, 1) for f in (left, right))
    K = torch.ones(len(P), len(Q), dtype=torch.float64)
    layer.add_gram(K, left, right, 0.5, Grams())
    torch.testing.assert_close(K, 1.0 + 0.5 * P @ Q.T, rtol=1e-12, atol=1e-12)


def tokens(n, T, outputs, flipped):
    x, g = torch.randn(n, T, 4, dtype=torch.float64), torch.randn(outputs, n, T, 6, dtype=torch.float64)
    edge = get_gradient_edge(torch.zeros(1, requires_grad=True) * 1)
    return Factor(Use("w", Dense(flipped), x, edge, tuple(g.shape[1:])), g)


def test_windows_multiplied_and_convolved(uses, monkeypatch):
    """The two ways to gradients of a convolution."""
    for name, factor in uses:
        if isinstance(factor.use.layer, Convolution):
            shape = tuple(trainable(build(name, 2, 3)[0])[factor.use.parameter].shape)
            made = []
            for wide in (0, 10**9):
                monkeypatch.setattr(convolution, "WIDE", wide)
                made.append(factor.use.layer.gradient(factor, shape, 0, shape[0]))
            torch.testing.assert_close(*made, rtol=1e-12, atol=1e-12)


class Bilinear(Layer):
    """Σ_ij W_oij x_i z_j, as a test would write it."""

    def __init__(self, other):
        self.other = other.detach()

    @classmethod
    def calls(cls):
        return {F.bilinear: cls.recognize}

    @classmethod
    def recognize(cls, x, z, weight, bias=None):
        parts = [Part(weight, cls(z), x)]
        return parts if bias is None else [*parts, Part(bias, Bias("last"))]

    def gradient(self, factor, shape, lo, hi):
        return torch.einsum("cno,ni,nj->cnoij", factor.gradient[..., lo:hi], factor.input, self.other)


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_new_kind_of_layer_is_a_class_and_an_entry(outputs, monkeypatch):
    model, X = build("custom", outputs, 4)
    assert set(compute_kernel(model, X).plan.fallback) == {"w", "bilinear.weight", "bilinear.bias"}
    monkeypatch.setattr(registry, "LAYERS", (*registry.LAYERS, Bilinear))
    computed = compute_kernel(model, X)
    assert computed.plan.fallback == ("w",)
    J = plain_jacobian(model, X)
    torch.testing.assert_close(computed.values, gram(J, J), rtol=1e-10, atol=1e-10)


class Calls(nn.Module):
    """One parameter in a call that looks like one that is known, and is not."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.w = nn.Parameter(torch.randn(3, 3, dtype=torch.float64))
        self.v = nn.Parameter(torch.randn(3, dtype=torch.float64))

    def forward(self, x):
        if self.kind == "scaled sum":
            x = torch.add(x, self.v, alpha=2.0)
        if self.kind == "weight from the left":
            x = (self.w @ x.T).T + self.v
        if self.kind == "weight of the rows":
            x = x + (self.w * self.v).sum(1)
        if self.kind == "transposed norm":
            x = F.layer_norm(x, (3, 3)[:1], self.w.t()[0], self.v)
        return (torch.tanh(x) @ self.w).sum(1, keepdim=True)


@pytest.mark.parametrize("kind", ["scaled sum", "weight from the left", "weight of the rows", "transposed norm"])
def test_calls_that_are_not_recognized_fall_back(kind):
    torch.manual_seed(0)
    model, X = Calls(kind), torch.randn(4, 3, dtype=torch.float64)
    captured = capture(model, trainable(model), X)
    assert captured.opaque or captured.woven
    J = plain_jacobian(model, X)
    torch.testing.assert_close(compute_kernel(model, X, method="layerwise").values, gram(J, J), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rows", [16, 37, 100])
def test_large_products_of_rows_with_themselves_are_made_in_blocks(monkeypatch, rows):
    """Whether the last block is whole or not, and where one block is all."""
    monkeypatch.setattr(grams, "LARGE_GRAM", 1)
    monkeypatch.setattr(grams, "LEAST_ROWS", 4)
    a = torch.randn(rows, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(Grams()(a, a), a @ a.T, rtol=1e-13, atol=1e-13)
    monkeypatch.setattr(contract, "STRIPE", 4)
    K = torch.ones(rows, rows, dtype=torch.float64)
    contract._add_product(K, a, a, 0.5)
    torch.testing.assert_close(K, 1 + 0.5 * a @ a.T, rtol=1e-13, atol=1e-13)

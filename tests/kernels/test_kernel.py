"""The kernel's methods against plain autograd, on every network of the zoo."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whichmin as wm
from oracles.zoo import ZOO, build, plain_jacobian
from whichmin.errors import DataError, InputError, MemoryPlanError, ModelError
from whichmin.kernels import kernel
from whichmin.kernels.kernel import compute_kernel
from whichmin.tangent import contract
from whichmin.tangent.layers.dense import Dense


def oracle(model, x1, x2, metric=None):
    J1, J2 = plain_jacobian(model, x1), plain_jacobian(model, x2)
    total = 0.0
    for name, a in J1.items():
        weight = 1.0 if metric is None else metric[name]
        total = total + torch.einsum("icp,jdp->ijcd", (a * weight).flatten(2), J2[name].flatten(2))
    return total


def dense(model, x1, x2, method, metric=None):
    if method == "operator":
        return wm.kernel_operator(model, x1, x2, metric=metric).to_dense()
    return wm.tangent_kernel(model, x1, x2, method=method, metric=metric)


@cache
def problem(name, outputs):
    """A network, two sets of inputs, and the kernels K(X, X) and K(X, Z); nobody may change them."""
    model, X = build(name, outputs, 5)
    _, Z = build(name, outputs, 4, seed=1)
    return model, X, Z, oracle(model, X, X), oracle(model, X, Z)


@pytest.mark.parametrize(
    ("method", "outputs"),
    [("layerwise", 1), *((method, 3) for method in ("layerwise", "jacobian", "operator", "auto"))],
)
@pytest.mark.parametrize("name", list(ZOO))
def test_methods_agree_with_plain_autograd(name, outputs, method):
    model, X, Z, within, across = problem(name, outputs)
    for x2, expected in ((None, within), (Z, across)):
        K = dense(model, X, x2, method)
        assert K.shape == expected.shape == (5, 5 if x2 is None else 4, outputs, outputs)
        torch.testing.assert_close(K, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize("method", ["layerwise", "jacobian", "operator"])
@pytest.mark.parametrize("name", list(ZOO))
def test_metric(name, method):
    model, X = build(name, 2, 4)
    metric = {}
    for i, (n, p) in enumerate((n, p) for n, p in model.named_parameters() if p.requires_grad):
        metric[n] = 0.5 + 0.1 * i if i % 2 else torch.rand(p.shape, dtype=torch.float64) + 0.1
    expected = oracle(model, X, X, metric)
    torch.testing.assert_close(dense(model, X, None, method, metric), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["mlp", "convnet", "attention", "reused-tokens"])
def test_slices_and_blocks_change_nothing(name, monkeypatch):
    model, X = build(name, 3, 6)
    expected = wm.tangent_kernel(model, X)
    monkeypatch.setattr(contract, "SLICE_BYTES", 2000)
    torch.testing.assert_close(wm.tangent_kernel(model, X), expected, rtol=1e-11, atol=1e-11)

    monkeypatch.setattr(contract, "STRIPE", 4)
    torch.testing.assert_close(wm.tangent_kernel(model, X), expected, rtol=1e-11, atol=1e-11)
    monkeypatch.setattr(kernel, "PASS_BYTES", 1)
    assert compute_kernel(model, X).plan.rows_per_pass == 1
    torch.testing.assert_close(wm.tangent_kernel(model, X), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(wm.tangent_kernel(model, X[:4], X), expected[:4], rtol=1e-10, atol=1e-10)

    original = kernel._plan

    def two_rows(*args):
        plan = original(*args)
        return replace(plan, rows_per_block=2)

    monkeypatch.setattr(kernel, "_plan", two_rows)
    for method in ("layerwise", "jacobian"):
        torch.testing.assert_close(wm.tangent_kernel(model, X, method=method), expected, rtol=1e-10, atol=1e-10)
        half = wm.tangent_kernel(model, X, X[:3], method=method)
        torch.testing.assert_close(half, expected[:, :3], rtol=1e-10, atol=1e-10)


def test_the_result_says_which_parameters_fell_back():
    model, X = build("custom", 1, 3)
    plan = compute_kernel(model, X).plan
    assert plan.method == "layerwise"
    assert set(plan.fallback) == {"w", "bilinear.weight", "bilinear.bias"}
    assert "bilinear.weight" in plan.reason
    assert compute_kernel(*build("tied", 1, 3)).plan.fallback == ()


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("same", [True, False])
def test_a_wrong_layerwise_kernel_is_noticed(same, outputs, monkeypatch):
    model, X = build("mlp", outputs, 5)
    Z = None if same else build("mlp", outputs, 4, seed=1)[1]
    expected = wm.tangent_kernel(model, X, Z, method="jacobian")
    real = Dense.add_gram
    monkeypatch.setattr(Dense, "add_gram", lambda self, K, u, v, weight, grams: real(self, K, u, v, 1.01, grams))
    torch.testing.assert_close(wm.tangent_kernel(model, X, Z, method="layerwise"), expected, rtol=1e-10, atol=1e-10)
    made = compute_kernel(model, X, Z)
    assert made.plan.method == "jacobian"
    assert "differ from plain autograd" in made.plan.reason
    torch.testing.assert_close(made.values, expected)


def test_permuting_rows_permutes_the_kernel():
    model, X = build("convnet", 2, 6)
    order = torch.randperm(6)
    K = wm.tangent_kernel(model, X)
    torch.testing.assert_close(wm.tangent_kernel(model, X[order]), K[order][:, order], rtol=1e-12, atol=1e-12)


def test_one_dimensional_outputs_count_as_one():
    inner, X = build("mlp", 1, 4)

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)[:, 0]

    torch.testing.assert_close(wm.tangent_kernel(Flat(), X), wm.tangent_kernel(inner, X))


class Mixing(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, self.kind = nn.Linear(3, 1), kind

    def forward(self, x):
        if self.kind == "rows":
            x = x - x.mean(0)
        if self.kind == "noise":
            x = F.dropout(x, 0.5, training=True)
        out = self.layer(x)
        return out.sum() if self.kind == "sum" else out


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), r"layer '1' \(BatchNorm1d\).*model.eval"),
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.1), nn.Linear(4, 1)), r"layer '1' \(Dropout\).*random"),
        (Mixing("rows"), "depends on the other rows"),
        (Mixing("noise"), "draws random numbers"),
        (Mixing("sum"), r"returned \(\) for \d inputs; expected \(\d, …\)"),
        (nn.Linear(3, 1).requires_grad_(False), "no trainable parameters"),
        (nn.Linear(2, 1), r"fails on inputs of shape \(\d, 3\)"),
        (nn.Linear(3, 1).double(), "float64"),
    ],
)
@pytest.mark.parametrize("method", ["auto", "layerwise", "jacobian", "operator"])
def test_models_without_a_kernel(model, message, method):
    with pytest.raises(ModelError, match=message):
        dense(model, torch.randn(5, 3), None, method)


def test_integer_inputs():
    with pytest.raises(ModelError, match=r"pass X\.float\(\)"):
        wm.tangent_kernel(wm.networks.MLP([3, 4, 1]), torch.randint(0, 9, (4, 3)))


def test_bad_arguments():
    model, X = wm.networks.MLP([3, 4, 1]), torch.randn(4, 3)
    with pytest.raises(InputError, match="expected one of auto, layerwise, jacobian"):
        wm.tangent_kernel(model, X, method="fast")
    for method in ("matrixfree", "operator"):
        with pytest.raises(InputError, match=r"write whichmin\.kernel_operator\(model, x1, x2\)"):
            wm.tangent_kernel(model, X, method=method)
    with pytest.raises(DataError, match="first in row 2"):
        wm.tangent_kernel(model, torch.cat([X[:2], X[:1] * float("nan")]))
    with pytest.raises(DataError, match="at least one row"):
        wm.tangent_kernel(model, X[:0])
    with pytest.raises(ModelError, match=r"missing.*layers\.1"):
        wm.tangent_kernel(model, X, metric={"layers.0.weight": 1.0})
    with pytest.raises(ModelError, match="positive and finite"):
        wm.tangent_kernel(model, X, metric={"layers.0.weight": 1.0, "layers.1.weight": -1.0})
    with pytest.raises(ModelError, match="has shape"):
        wm.tangent_kernel(model, X, metric={"layers.0.weight": torch.ones(7), "layers.1.weight": 1.0})


def test_a_plan_that_does_not_fit_says_what_would():
    model = wm.networks.MLP([3, 4, 1])
    with pytest.raises(MemoryPlanError, match=r"TiB.*free.*kernel_operator"):
        wm.tangent_kernel(model, torch.zeros(1, 3).expand(10_000_000, 3))


@pytest.mark.parametrize("outputs", [1, 3])
def test_as_many_rows_as_it_says_do_fit(outputs, monkeypatch):
    """At most n rows against n: n²·C² numbers, twice where they are laid out anew, in four fifths of what is free."""
    free = 3 * 2**30
    monkeypatch.setattr("whichmin.kernels.kernel.available_bytes", lambda device: free)
    monkeypatch.setattr("whichmin.tangent.memory.available_bytes", lambda device: free)
    with pytest.raises(MemoryPlanError) as caught:
        wm.tangent_kernel(wm.networks.MLP([3, 4, outputs]), torch.zeros(1, 3).expand(100_000, 3))
    n = int(str(caught.value).split("At most ")[1].split(" rows against")[0])
    each = 4 * outputs**2 * (1 if outputs == 1 else 2)
    assert n**2 * each <= 0.8 * free < (n + 1) ** 2 * each


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.zeros(6, 3, dtype=torch.int8), r"X\.long\(\)"),
        (torch.zeros(6, 3), r"Tokens are whole numbers: X\.long\(\)"),
        (torch.full((6, 3), 7), "fewer entries than the numbers ask for: X from 7 to 7"),
    ],
)
def test_tokens_that_an_embedding_does_not_take(tokens, message):
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(ModelError, match=message):
        wm.tangent_kernel(model, tokens)


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_layer_without_outputs():
    """As torch's own adaptive softmax makes of few classes."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 0), nn.Linear(0, 2)).double()
    X = torch.randn(5, 3, dtype=torch.float64)
    K = wm.tangent_kernel(model, X)
    torch.testing.assert_close(K, torch.eye(2, dtype=torch.float64).expand(5, 5, 2, 2))

"""Kernels of networks of every kind that was once got wrong, against gradients of single rows."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whichmin as wm
from oracles.odd_networks import KINDS
from oracles.zoo import plain_jacobian
from whichmin.errors import ModelError, OptimizerError
from whichmin.kernels import kernel
from whichmin.kernels.kernel import compute_kernel
from whichmin.kernels.linearize import Tangent

ROWS = [(5, 7), (6, 4), (1, 6)]


def jacobian(model, x):
    """(n, C, P); a model may write into its inputs."""
    return torch.cat([j.flatten(2) for j in plain_jacobian(model, x.clone()).values()], dim=2)


@cache
def jacobian_of(kind, n, seed=0):
    """That of n rows of a kind's network; nobody may change it."""
    return jacobian(KINDS[kind].model(), KINDS[kind].rows(n, seed=seed))


def gram(J1, J2):
    return torch.einsum("ncp,mdp->nmcd", J1.double(), J2.double())


@pytest.mark.parametrize("rows", ROWS, ids=str)
@pytest.mark.parametrize("kind", list(KINDS))
def test_kernels(kind, rows):
    model = KINDS[kind].model()
    x1, x2 = KINDS[kind].rows(rows[0]), KINDS[kind].rows(rows[1], seed=1)
    given = x1.clone(), x2.clone()
    tolerance = 1e-5 if kind == "outputs of single precision" else 1e-9
    J1, J2 = jacobian_of(kind, rows[0]), jacobian_of(kind, rows[1], seed=1)
    for b, J in ((x1, J1), (x2, J2)):
        computed = compute_kernel(model, x1, b)
        K = gram(J1, J)
        torch.testing.assert_close(computed.values.double(), K, rtol=0, atol=tolerance * float(K.abs().max()))
        if computed.plan.method == "jacobian":
            assert KINDS[kind].fallback == {n for n, _ in model.named_parameters()}
        else:
            assert set(computed.plan.fallback) <= KINDS[kind].fallback
    assert torch.equal(x1, given[0])
    assert torch.equal(x2, given[1])
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", list(KINDS))
def test_kernels_from_passes_over_few_rows(kind, monkeypatch):
    model, x = KINDS[kind].model(), KINDS[kind].rows(5)
    K = gram(jacobian_of(kind, 5), jacobian_of(kind, 5))
    original = kernel._plan
    monkeypatch.setattr(kernel, "_plan", lambda *args: replace(original(*args), rows_per_pass=2))
    tolerance = 1e-5 if kind == "outputs of single precision" else 1e-9
    torch.testing.assert_close(
        compute_kernel(model, x).values.double(), K, rtol=0, atol=tolerance * float(K.abs().max())
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_products_with_the_jacobian(kind):
    model, x = KINDS[kind].model(), KINDS[kind].rows(5)
    tangent, J = Tangent(model), jacobian_of(kind, 5)
    torch.manual_seed(5)
    v = {n: torch.randn_like(p) for n, p in model.named_parameters()}
    whole = torch.cat([v[n].reshape(-1) for n, _ in model.named_parameters()])
    tolerance = 1e-5 if kind == "outputs of single precision" else 1e-9
    torch.testing.assert_close(tangent.jvp(x, v).to(J), J @ whole, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", list(KINDS))
def test_training_is_predicted_on_the_linearized_network(kind):
    """J and Jᵀ along training: θ moved by the predicted coefficients gives the outputs of one linearization."""
    model, x = KINDS[kind].model(), KINDS[kind].rows(5)
    test = KINDS[kind].rows(4, seed=1)
    with torch.no_grad():
        C = model(x.clone()).shape[-1] if model(x.clone()).ndim == 2 else 1
        f0 = model(test.clone()).reshape(4, -1)
    torch.manual_seed(3)
    task = wm.Task(x, torch.randn(5, C).to(f0), test)
    K = wm.spectrum(wm.tangent_kernel(model, x))
    lr = 0.1 * K.max_lr
    prediction = wm.predict(model, task, lambda p: torch.optim.SGD(p, lr=lr), steps=3, relinearize="never")
    J, J_test = jacobian_of(kind, 5).double(), jacobian_of(kind, 4, seed=1).double()
    r = model(x.clone()).detach().double().reshape(-1) - task.y.double().reshape(-1)
    moved = torch.zeros(J.shape[-1], dtype=torch.float64)
    J, J_test = J.reshape(5 * C, -1), J_test.reshape(4 * C, -1)
    for _ in range(3):
        moved -= lr * 2 / (5 * C) * J.T @ (r + J @ moved)
    tolerance = 1e-5 if kind == "outputs of single precision" else 1e-9
    straight = f0.double().reshape(-1) + J_test @ moved
    torch.testing.assert_close(prediction.test.double().reshape(-1), straight, rtol=tolerance, atol=tolerance)


def test_a_scripted_module():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    scripted, x = torch.jit.script(plain), torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(wm.tangent_kernel(scripted, x), wm.tangent_kernel(plain, x), rtol=1e-10, atol=1e-12)
    task = wm.Task(x, torch.randn(5, 2, dtype=torch.float64), x[:2] + 1)
    runs = [wm.train(m, task, lambda p: torch.optim.SGD(p, lr=0.1), steps=5, until=None) for m in (scripted, plain)]
    torch.testing.assert_close(runs[0].test, runs[1].test)
    explained = wm.explain(runs[0])
    torch.testing.assert_close(explained.total, runs[0].test)


def test_masks_by_hooks():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    mask = (torch.rand(16, 4) < 0.5).double()
    model[0].weight.register_hook(lambda g: g * mask)
    x, test = torch.randn(6, 4, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
    torch.testing.assert_close(
        wm.tangent_kernel(model, test, x), gram(jacobian(model, test), jacobian(model, x)), rtol=1e-10, atol=1e-12
    )
    task = wm.Task(x, torch.randn(6, 1, dtype=torch.float64), test)
    recipe = wm.Recipe(lambda p: torch.optim.SGD(p, lr=0.05))
    run = wm.train(model, task, recipe, steps=30, until=None)
    assert torch.equal(run.final["0.weight"][mask == 0], model[0].weight[mask == 0])
    for way in ("path", 20):
        predicted = wm.predict(model, task, recipe, steps=30, relinearize=way)
        assert float((predicted.test - run.test).abs().max()) < 0.02 * float((run.test - model(test)).abs().max())


def test_other_hooks_are_refused():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    model[2].bias.register_hook(lambda g: 2 * g)
    with pytest.raises(ModelError, match=r"hook on parameter '2\.bias'"):
        wm.tangent_kernel(model, torch.randn(5, 4))


def test_memory_that_is_shared():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    tied = nn.Sequential(model[0], model[1], nn.Linear(4, 4).double(), model[3], model[4])
    tied[2].weight = model[0].weight
    with torch.no_grad():
        tied[2].bias.copy_(model[2].bias)
    model[2].weight.data = model[0].weight.data
    x = torch.randn(6, 4, dtype=torch.float64)
    torch.testing.assert_close(wm.tangent_kernel(model, x), wm.tangent_kernel(tied, x), rtol=1e-10, atol=1e-12)
    task = wm.Task(x, torch.randn(6, 1, dtype=torch.float64), x[:3] + 1)
    run = wm.train(model, task, lambda p: torch.optim.SGD(p, lr=0.05), steps=10, until=None)
    assert torch.equal(run.final["0.weight"], run.final["2.weight"])
    predicted = wm.predict(model, task, lambda p: torch.optim.SGD(p, lr=0.05), steps=10, relinearize=10)
    torch.testing.assert_close(predicted.test, run.test, rtol=1e-9, atol=1e-9)
    with pytest.raises(OptimizerError, match=r"Adam moves parameters that share memory.*2\.weight"):
        wm.predict(model, task, torch.optim.Adam, steps=3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2)).to(dtype)
    x = torch.randn(6, 4).to(dtype)
    K = wm.tangent_kernel(model, x)
    assert K.dtype == torch.float32
    single = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    single.load_state_dict({n: v.float() for n, v in model.state_dict().items()})
    torch.testing.assert_close(K, wm.tangent_kernel(single, x.float()), rtol=1e-5, atol=1e-5)
    task = wm.Task(x, torch.randn(6, 2).to(dtype), torch.randn(5, 4).to(dtype))
    recipe = wm.Recipe(lambda p: torch.optim.SGD(p, lr=0.1))
    run = wm.train(model, task, recipe, steps=40, until=None)
    predicted = wm.predict(model, task, recipe, steps=40)
    assert predicted.method == "trained"
    torch.testing.assert_close(predicted.test, run.test.float())
    forced = wm.predict(model, task, recipe, steps=40, relinearize="never")
    assert forced.error > 0.2 * torch.finfo(dtype).eps


def test_complex_parameters_are_refused():
    model = nn.Sequential(nn.Linear(4, 3))
    model.register_parameter("w", nn.Parameter(torch.randn(3, dtype=torch.complex64)))
    with pytest.raises(ModelError, match=r"parameter 'w' is torch\.complex64"):
        wm.tangent_kernel(model, torch.randn(5, 4))


def test_autocast_inside_forward():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.o = nn.Linear(4, 32), nn.Linear(32, 1)

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                h = self.a(x)
            return self.o(torch.tanh(h.float()))

    model, x = Mixed(), torch.randn(6, 4)
    K, plain = wm.tangent_kernel(model, x), gram(jacobian(model, x), jacobian(model, x))
    torch.testing.assert_close(K.double(), plain, rtol=0, atol=0.02 * float(plain.abs().max()))


def test_attention_of_pytorch_with_masks():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a = nn.MultiheadAttention(4, 2, batch_first=True)
            self.k = nn.MultiheadAttention(4, 2, kdim=3, vdim=3, batch_first=True)
            self.o = nn.Linear(4, 1)

        def forward(self, x):
            mask = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
            padding = x[..., 0] > 1.5
            h = self.a(x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False)[0]
            h = h + self.k(h, x[..., :3], x[..., 1:], attn_mask=mask.double() * -1.0)[0]
            return self.o(F.gelu(h).mean(1))

    model = Masked().double()
    x = torch.randn(6, 5, 4, dtype=torch.float64).clamp(max=1.4)
    computed = compute_kernel(model, x)
    K = gram(jacobian(model, x), jacobian(model, x))
    torch.testing.assert_close(computed.values, K, rtol=1e-9, atol=1e-9)
    assert computed.plan.fallback == ()

"""``Tangent``: products with J against J written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance, flat, jacobian, mlp_problem
from whichmin.errors import ModelError


class Unused(nn.Module):
    """A network with a layer that its outputs do not depend on, and one that is frozen."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.spare, self.inside, self.frozen = nn.Linear(2, 3).double(), inside, nn.Linear(4, 4).double()
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.inside(self.frozen(x))


@pytest.fixture(params=[1, 3])
def model(request) -> nn.Module:
    torch.manual_seed(3)
    return Unused(mlp_problem((4, 9), 6, request.param)[0])


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_products_are_those_of_the_jacobian(model, x):
    tangent, J = wm.Tangent(model), jacobian(model, x)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    assert list(tangent.parameters) == names
    assert tangent.size == J.shape[1] == sum(p.numel() for p in tangent.parameters.values())
    assert distance(tangent.f0(x), model(x).detach()) == 0
    direction = {n: torch.randn_like(p) for n, p in tangent.parameters.items()}
    assert distance(tangent.jvp(x, direction), J @ flat(direction, model)) < 1e-12
    cotangent = torch.randn_like(tangent.f0(x))
    assert distance(flat(tangent.vjp(x, cotangent), model), J.T @ cotangent.reshape(-1)) < 1e-12


def test_what_the_outputs_do_not_depend_on_has_no_gradient(model, x):
    gradients = wm.Tangent(model).vjp(x, torch.ones_like(model(x)))
    for name in ("spare.weight", "spare.bias"):
        assert gradients[name].shape == model.get_parameter(name).shape
        assert not gradients[name].any()
    assert gradients["inside.layers.0.weight"].any()


def test_the_point_of_linearization_stays(model, x):
    tangent, before = wm.Tangent(model), model(x).detach()
    for parameters in (model.parameters(), tangent.parameters.values()):
        for p in parameters:
            p.data.add_(1.0)
    assert torch.equal(tangent.f0(x), before)


def test_its_kernel(model, x):
    J, C = jacobian(model, x), model(x).shape[1]
    K = wm.Tangent(model).kernel(x, x[:2])
    assert K.shape == (5, 2, C, C)
    assert distance(K.permute(0, 2, 1, 3), J @ J[: 2 * C].T) < 1e-10


def test_trees_and_cotangents_that_do_not_fit(model, x):
    tangent = wm.Tangent(model)
    tree = tangent.parameters
    with pytest.raises(ModelError, match=r"the tangent names .*; expected"):
        tangent.jvp(x, {n: p for n, p in tree.items() if n != "spare.bias"})
    with pytest.raises(ModelError, match=r"tangent\['spare.bias'\] has shape \(4,\); expected \(3,\)"):
        tangent.jvp(x, tree | {"spare.bias": torch.zeros(4)})
    with pytest.raises(ModelError, match=r"the cotangent has shape \(5,\); expected \(5, \d\), like f\(x\)"):
        tangent.vjp(x, torch.zeros(5))


def _module_hook(model):
    model[2].register_full_backward_hook(lambda module, before, after: (3.0 * before[0],))


def _module_pre_hook(model):
    model[2].register_full_backward_pre_hook(lambda module, after: (0.1 * after[0],))


def _hook_on_activations(model):
    def slower(module, inputs, out):
        if out.requires_grad:
            out.register_hook(lambda g: 0.1 * g)

    model[1].register_forward_hook(slower)


def _hook_of_some_rows(model):
    def faster(module, inputs, out):
        rare = inputs[0][:, :1] > 0.8
        if out.requires_grad:
            out.register_hook(lambda g: torch.where(rare, 3.0 * g, g))

    model[0].register_forward_hook(faster)


@pytest.mark.parametrize("hook", [_module_hook, _module_pre_hook, _hook_on_activations, _hook_of_some_rows])
def test_forward_derivatives_do_not_overlook_hooks_on_gradients(hook):
    """J v and K v are those of ``backward``, by some parameters first, then by all."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    hook(model)
    x = torch.randn(8, 4, dtype=torch.float64)
    tangent, J = wm.Tangent(model), jacobian(model, x)
    names = [n for n, _ in model.named_parameters()]
    for known in (names[-2:], names):
        v = {n: torch.randn_like(p) if n in known else torch.zeros_like(p) for n, p in model.named_parameters()}
        flat = torch.cat([t.reshape(-1) for t in v.values()])
        torch.testing.assert_close(tangent.jvp(x, v).reshape(-1), J @ flat)
    u = torch.randn(16, dtype=torch.float64)
    torch.testing.assert_close(wm.kernel_operator(model, x) @ u, J @ (J.T @ u))

"""Private copies of models, and contexts of their own."""

import threading

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.errors import ModelError
from whichmin.tangent.context import own_context
from whichmin.tangent.copying import check_independent, merge_shared, private_copy


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))


def recipe(p):
    return torch.optim.SGD(p, lr=0.05)


def problem():
    torch.manual_seed(1)
    return wm.Task(torch.randn(6, 4), torch.randn(6, 4), torch.randn(3, 4))


def test_hooks_and_shared_memory_are_kept():
    model = network()
    model[2].weight.data = model[0].weight.data
    model[0].weight.register_hook(lambda g: g * 0)
    made = private_copy(model)
    assert made[0].weight.data_ptr() == made[2].weight.data_ptr() != model[0].weight.data_ptr()
    made(torch.ones(1, 4)).sum().backward()
    assert float(made[0].weight.grad.abs().max()) == 0
    assert float(made[2].weight.grad.abs().max()) > 0
    assert model[0].weight.grad is None


def test_what_shares_all_of_its_memory_becomes_one():
    model = network()
    model[2].weight.data = model[0].weight.data
    assert merge_shared(model) == ("2.weight",)
    assert model[0].weight is model[2].weight
    assert merge_shared(network()) == ()


def test_memory_that_overlaps_is_refused():
    model = network()
    model[2].bias.data = model[0].weight.data.view(-1)[:4]
    with pytest.raises(ModelError, match=r"'0\.weight' and '2\.bias' share memory"):
        merge_shared(model)


def test_parts_of_one_memory_that_do_not_overlap_stay_apart():
    model, memory = network(), torch.randn(20)
    model[0].bias.data, model[2].bias.data = memory[:4], memory[4:8]
    assert merge_shared(model) == ()


def test_activations_that_are_kept_are_let_go():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 2)

        def forward(self, x):
            self.h = self.a(x)
            return self.h

    model = Keeps()
    model(torch.ones(2, 4))
    assert not private_copy(model).h.requires_grad
    assert model.h.requires_grad
    with pytest.warns(FutureWarning):
        old = torch.nn.utils.weight_norm(nn.Linear(4, 2))
    old(torch.ones(2, 4))
    assert torch.equal(private_copy(old)(torch.ones(2, 4)), old(torch.ones(2, 4)))


def test_what_cannot_be_copied_is_named():
    model = network()
    model[0].lock = threading.Lock()
    with pytest.raises(ModelError, match=r"cannot be copied.*'0\.lock', a lock"):
        private_copy(model)


@pytest.mark.parametrize("verb", ["predict", "train"])
def test_a_patched_layer_that_points_at_the_original_is_refused(verb):
    model = network()
    old = model[2].forward
    model[2].forward = lambda h: 2 * old(h)
    with pytest.raises(ModelError, match=r"still uses parameter '2\.weight' of the original through 2\.forward"):
        getattr(wm, verb)(model, problem(), recipe, steps=3)


def test_a_hook_that_points_at_the_original_is_refused():
    model = network()
    model[1].register_forward_hook(lambda module, args, out: out + model[0].bias)
    with pytest.raises(ModelError, match=r"'0\.bias' of the original through a hook of 1"):
        check_independent(private_copy(model), model, torch.ones(2, 4))


def test_compiled_modules():
    model = network()
    compiled = torch.compile(network(), backend="eager")
    torch.testing.assert_close(wm.tangent_kernel(compiled, problem().X), wm.tangent_kernel(model, problem().X))
    runs = [wm.train(m, problem(), recipe, steps=5, until=None) for m in (model, compiled)]
    torch.testing.assert_close(runs[0].test, runs[1].test)
    predicted = wm.predict(compiled, problem(), recipe, steps=5)
    compiled.load_state_dict(predicted.parameters())


CONTEXTS = {
    "no grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}
VERBS = {
    "kernel": lambda m, t: wm.tangent_kernel(m, t.X),
    "operator": lambda m, t: wm.kernel_operator(m, t.X) @ t.y,
    "tangent": lambda m, t: wm.Tangent(m).vjp(t.X, t.y)["0.weight"],
    "predict": lambda m, t: wm.predict(m, t, recipe, steps=20).test,
    "train": lambda m, t: wm.train(m, t, recipe, steps=20, until=None).test,
    "explain": lambda m, t: wm.explain(m, t, recipe, steps=20, until=None).total,
}


@pytest.mark.parametrize("verb", list(VERBS))
@pytest.mark.parametrize("context", list(CONTEXTS))
def test_the_callers_context_is_not_felt(context, verb):
    expected = VERBS[verb](network(), problem())
    with CONTEXTS[context]():
        model, task = network(), problem()
        torch.manual_seed(7)
        found = VERBS[verb](model, task)
        after = torch.rand(())
    assert torch.equal(found.clone(), expected)
    assert all(p.grad is None for p in model.parameters())
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(())), "nor is its random state changed"


def test_the_context_comes_back():
    with torch.no_grad():
        with own_context():
            assert torch.is_grad_enabled()
            torch.rand(3)
        assert not torch.is_grad_enabled()


def test_randomness_that_shows_seldom_is_found():
    class Depth(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 1)

        def forward(self, x):
            return self.a(x) if torch.rand(()) < 1 - 1e-6 else 2 * self.a(x)

    with pytest.raises(ModelError, match="draws random numbers"):
        wm.tangent_kernel(Depth(), torch.randn(5, 4))

"""What must hold whatever the numbers are."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import BEST, Dense, distance, mlp_problem, problem, sgd

METHODS = pytest.mark.parametrize("relinearize", ["never", 6])


@METHODS
@pytest.mark.parametrize("outputs", [1, 3])
def test_no_steps_leave_the_network_as_it_is(relinearize, outputs):
    model, task = problem("over", outputs)
    prediction = wm.predict(model, task, sgd(0.1), steps=0, relinearize=relinearize)
    assert prediction.steps == 0
    assert distance(prediction.train, model(task.X).detach()) < 1e-14
    assert distance(prediction.test, model(task.X_test).detach()) < 1e-14
    assert all(torch.equal(v, prediction.parameters()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(("relinearize", "steps"), [("never", math.inf), ("auto", None)])
def test_the_limit_interpolates(relinearize, steps):
    model, task = problem("over", 3)
    prediction = wm.predict(model, task, sgd(0.02), steps=steps, relinearize=relinearize)
    assert prediction.steps == math.inf
    assert prediction.method == ("linearized" if relinearize == "never" else "relinearized")
    assert distance(prediction.train, task.y) < (1e-10 if relinearize == "never" else 1e-4)


class Restarted(nn.Module):
    """The linearized network as a network: f₀ + J(θ − θ₀), at any θ."""

    def __init__(self, tangent: wm.Tangent, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.tangent, self.names = tangent, list(tangent.parameters)
        self.values = nn.ParameterList([nn.Parameter(state[n].clone()) for n in self.names])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        origin = self.tangent.parameters
        rows = []
        for i in range(len(x)):
            out = self.tangent.f0(x[i : i + 1])
            columns = []
            for c in range(out.shape[1]):
                unit = torch.zeros_like(out)
                unit[0, c] = 1.0
                J = self.tangent.vjp(x[i : i + 1], unit)
                columns.append(
                    sum((J[n] * (v - origin[n])).sum() for n, v in zip(self.names, self.values, strict=True))
                )
            rows.append(out[0] + torch.stack(columns))
        return torch.stack(rows)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_linearized_network_restarts_midway(outputs):
    model, task = problem("over", outputs)
    first = wm.predict(model, task, sgd(0.1), steps=30, relinearize="never")
    midway = Restarted(wm.Tangent(model), first.parameters())
    assert distance(midway(task.X_test).detach(), first.test) < 1e-12
    for steps in (70, math.inf):
        second = wm.predict(midway, task, sgd(0.1), steps=steps, relinearize="never")
        whole = wm.predict(model, task, sgd(0.1), steps=30 + steps, relinearize="never")
        assert distance(second.train, whole.train) < 1e-10
        assert distance(second.test, whole.test) < 1e-10


def test_a_path_restarts_midway_from_the_predicted_model():
    model, task = mlp_problem((4, 30), 10)
    run = wm.train(model, task, sgd(0.05), until=None, steps=600)
    first = wm.predict(model, task, sgd(0.05), steps=200, relinearize=50)
    second = wm.predict(first.model(), task, sgd(0.05), steps=400, relinearize=50)
    whole = wm.predict(model, task, sgd(0.05), steps=600, relinearize=100)
    assert distance(second.test, run.test) < 2 * distance(whole.test, run.test) + 1e-3
    assert distance(second.test, whole.test) < 5e-3


@METHODS
def test_the_order_of_the_training_rows_does_not_matter(relinearize):
    model, task = problem("over", 3)
    order = torch.randperm(task.n)
    assert not torch.equal(order, torch.arange(task.n))
    shuffled = wm.Task(task.X[order], task.y[order], task.X_test)
    a = wm.predict(model, task, sgd(0.1), steps=50, relinearize=relinearize)
    b = wm.predict(model, shuffled, sgd(0.1), steps=50, relinearize=relinearize)
    assert distance(a.test, b.test) < 1e-11
    assert distance(a.train[order], b.train) < 1e-11
    for name, term in a.terms.items():
        assert distance(term, b.terms[name]) < 1e-10


@METHODS
def test_the_order_of_the_test_rows_permutes_the_outputs(relinearize):
    model, task = problem("over", 3)
    order = torch.randperm(task.n_test)
    shuffled = wm.Task(task.X, task.y, task.X_test[order])
    a = wm.predict(model, task, sgd(0.1), steps=50, relinearize=relinearize)
    b = wm.predict(model, shuffled, sgd(0.1), steps=50, relinearize=relinearize)
    assert distance(a.test[order], b.test) < 1e-12


@pytest.mark.parametrize("layers", [2, 3])
def test_the_scale_of_the_layers_moves_the_initialization_term_only(layers):
    sizes = (4,) + (40,) * (layers - 1)
    terms = []
    for alpha in (1.0, 0.5, 2.0):
        model, task = mlp_problem(sizes, 8, activation="relu", bias=False, scale=alpha)
        terms.append(wm.predict(model, task, BEST, relinearize="never").terms)
    for alpha, scaled in zip((0.5, 2.0), terms[1:], strict=True):
        assert distance(scaled["interpolant"], terms[0]["interpolant"]) < 1e-9
        assert distance(scaled["initialization"], alpha**layers * terms[0]["initialization"]) < 1e-9
    assert float(terms[0]["initialization"].abs().max()) > 0.05


@METHODS
@pytest.mark.parametrize("kind", ["over", "under"])
@pytest.mark.parametrize("steps", [1, 50, math.inf])
def test_the_terms_add_up(relinearize, kind, steps):
    if kind == "under" and relinearize != "never" and steps == math.inf:
        steps = 5000
    model, task = problem(kind, 3)
    prediction = wm.predict(model, task, sgd(0.05), steps=steps, relinearize=relinearize)
    names = ["interpolant", "initialization", "unconverged"]
    assert list(prediction.terms) == (names if relinearize == "never" else [*names, "curvature", "drift"])
    total = sum(prediction.terms.values())
    assert total.shape == prediction.test.shape
    scale = max(1.0, *(float(t.abs().max()) for t in prediction.terms.values()))
    assert distance(total, prediction.test) < 1e-12 * scale


def test_the_terms_are_what_they_say():
    model, task = problem("over", 3)
    dense = Dense.of(model, task)
    K, K_test = dense.J @ dense.J.T, dense.J_test @ dense.J.T
    prediction = wm.predict(model, task, sgd(0.1), steps=30, relinearize=5)
    terms = prediction.terms
    interpolant = K_test @ torch.linalg.solve(K, dense.y)
    initialization = dense.f0_test - K_test @ torch.linalg.solve(K, dense.f0)
    assert distance(terms["interpolant"], interpolant) < 1e-10
    assert distance(terms["initialization"], initialization) < 1e-10
    linear = dense.outputs(dense.descend(0.1, 30))[1]
    assert distance(terms["unconverged"], linear - interpolant - initialization) < 1e-10
    moved = torch.cat([prediction.parameters()[n].reshape(-1) for n, _ in model.named_parameters()]) - dense.theta
    straight = dense.f0_test + dense.J_test @ moved
    assert distance(terms["drift"], straight - linear) < 1e-10
    assert distance(terms["curvature"], prediction.test.reshape(-1) - straight) < 1e-10
    assert float(terms["curvature"].abs().max()) > 1e-3


def test_training_cannot_see_the_initialization_term():
    model, task = problem("over", 3)
    at_training = wm.Task(task.X, task.y, task.X)
    terms = wm.predict(model, at_training, BEST, relinearize="never").terms
    assert float(terms["initialization"].abs().max()) < 1e-10
    assert distance(terms["interpolant"], task.y) < 1e-10
    assert float(terms["unconverged"].abs().max()) < 1e-10


@pytest.mark.parametrize("relinearize", ["never", 6, "auto"])
def test_the_model_is_not_changed(relinearize):
    model, task = problem("over")
    model.train()
    model(task.X).sum().backward()
    before = copy.deepcopy(model.state_dict())
    grads = [p.grad.clone() for p in model.parameters()]
    inputs = task.X.clone()
    wm.predict(model, task, sgd(0.1), steps=[1, 20], relinearize=relinearize)
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(torch.equal(g, p.grad) for g, p in zip(grads, model.parameters(), strict=True))
    assert all(not p._backward_hooks for p in model.parameters())
    assert torch.equal(inputs, task.X)


@pytest.mark.parametrize("passes", [3, 5, 8])
def test_the_model_is_not_changed_by_a_prediction_that_is_interrupted(passes):
    class Interrupted(nn.Module):
        count = 0  # of all copies

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            Interrupted.count += 1
            if Interrupted.count == passes:
                raise KeyboardInterrupt
            return self.inner(x)

    inner, task = problem("over")
    before = copy.deepcopy(inner.state_dict())
    with pytest.raises(KeyboardInterrupt):
        wm.predict(Interrupted(inner), task, sgd(0.1), steps=20, relinearize=6)
    assert all(torch.equal(before[k], v) for k, v in inner.state_dict().items())


def test_a_prediction_does_not_change_with_the_model_afterwards():
    model, task = problem("over")
    prediction = wm.predict(model, task, sgd(0.1), steps=20, relinearize=6)
    expected = prediction.model()(task.X_test)
    model.eval()
    model.activation = torch.sin
    for p in model.parameters():
        p.data.zero_()
    assert prediction.model().training
    assert torch.equal(prediction.model()(task.X_test), expected)


@pytest.mark.parametrize("relinearize", ["never", 6, "auto"])
def test_two_calls_agree_to_the_bit(relinearize):
    model, task = problem("over", 3)
    a, b = (wm.predict(model, task, sgd(0.1), steps=40, relinearize=relinearize) for _ in range(2))
    assert torch.equal(a.test, b.test)
    assert a.error == b.error
    assert a.intervals == b.intervals


def test_buffers_and_eval_mode_are_kept():
    torch.manual_seed(0)
    model = (
        nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1)).double().eval()
    )
    model[1].running_mean.normal_()
    task = problem("over")[1]
    prediction = wm.predict(model, task, sgd(0.05), steps=20, relinearize=4)
    found = prediction.model()
    assert not found.training
    assert torch.equal(found[1].running_mean, model[1].running_mean)
    assert set(prediction.parameters()) == set(model.state_dict())
    run = wm.train(model, task, sgd(0.05), until=None, steps=20)
    exact = wm.predict(model, task, sgd(0.05), steps=20, relinearize=10**7)
    assert distance(exact.test, run.test) < 1e-9

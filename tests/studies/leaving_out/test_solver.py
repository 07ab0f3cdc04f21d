"""Training on the rest from blocks of all rows, against theories that are made of the rest alone."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

import whichmin as wm
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.errors import InputError
from whichmin.recipe.recipe import Recipe
from whichmin.studies.leaving_out.solver import Asked, Solver

SGD = torch.optim.SGD
GROUPS = [(3,), (0, 7), (1, 2, 5, 8, 11), (10,)]


def problem(outputs=1, loss=None, n=14):
    g = torch.Generator().manual_seed(1)
    X, X_test = (torch.randn(k, 5, generator=g, dtype=torch.float64) for k in (n, 6))
    y = torch.randn(n, outputs, generator=g, dtype=torch.float64) if loss is None else torch.arange(n) % 2
    task = wm.Task(X, y, X_test, **({} if loss is None else {"loss": loss}))
    return wm.networks.MLP([5, 24, task.outputs], seed=0, activation="tanh", dtype=torch.float64), task


def solver(model, task, recipe, until=None, steps=None, relinearize="never", redrawn=False):
    return Solver(model, task, recipe, Asked(until, steps, relinearize, 1e-2, redrawn))


class Rest:
    """The linearized network of the rest, by itself: K, K(x', X) and f₀ of the task without the group."""

    def __init__(self, model, task, group):
        self.task = task.without(group)
        self.C, self.n = task.outputs, self.task.n
        K = wm.tangent_kernel(model, self.task.X)
        cross = wm.tangent_kernel(model, task.X_test, self.task.X)
        self.K = K.transpose(1, 2).reshape(self.n * self.C, -1).numpy()
        self.cross = cross.transpose(1, 2).reshape(task.n_test * self.C, -1).numpy()
        with torch.no_grad():
            self.f0, self.f0_test = model(self.task.X).reshape(-1).numpy(), model(task.X_test).reshape(-1).numpy()

    def gradient(self, f, rows=None):
        """∂L/∂f of the mean over these rows, in all outputs."""
        rows = torch.arange(self.n) if rows is None else rows
        outputs = torch.from_numpy(f.reshape(self.n, self.C)).requires_grad_()
        if len(rows):
            self.task.loss(outputs[rows], self.task.y[rows]).backward()
        return np.zeros(self.n * self.C) if outputs.grad is None else outputs.grad.reshape(-1).numpy()

    def run(self, steps, lr, momentum=0.0, batches=None):
        """So many steps of SGD on the linearized outputs."""
        c, v = np.zeros(self.n * self.C), np.zeros(self.n * self.C)
        for k in range(steps):
            v = momentum * v + self.gradient(self.f0 + self.K @ c, None if batches is None else batches[k])
            c = c - lr * v
        return self.f0_test + self.cross @ c


def close(found, expected, rtol=1e-10):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_limit_is_that_of_solving_again_on_the_rest(outputs):
    model, task = problem(outputs)
    made = solver(model, task, Recipe(partial(SGD, lr="best")))
    assert made.has_inverse
    for group, found in zip(GROUPS, made.converged(GROUPS), strict=True):
        rest = Rest(model, task, group)
        c = np.linalg.solve(rest.K, rest.task.y.reshape(-1).numpy() - rest.f0)
        close(found.test, rest.f0_test + rest.cross @ c, 1e-8)
        close(made.linearized(group).test, rest.f0_test + rest.cross @ c, 1e-8)


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.8}])
@pytest.mark.parametrize("outputs", [1, 2])
def test_finite_times_are_those_of_the_rests_own_recursion(settings, outputs):
    model, task = problem(outputs)
    made = solver(model, task, Recipe(partial(SGD, lr=0.05, **settings)), steps=40)
    assert not made.has_inverse
    for group in GROUPS:
        close(made.linearized(group).test, Rest(model, task, group).run(40, 0.05, **settings))


def test_any_loss_is_followed_on_the_rest():
    model, task = problem(loss=torch.nn.CrossEntropyLoss())
    made = solver(model, task, Recipe(partial(SGD, lr=0.2)), steps=30)
    for group in GROUPS:
        close(made.linearized(group).test, Rest(model, task, group).run(30, 0.2))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_batches_are_those_of_all_rows_with_the_left_out_ones_taken_out(batch_size):
    model, task = problem()
    recipe = Recipe(partial(SGD, lr=0.02, momentum=0.5), batch_size, seed=3)
    made = solver(model, task, recipe, steps=30)
    for group in GROUPS:
        order = loaded(task.n, batch_size, 3, 30)
        numbers = [i for i in range(task.n) if i not in group]
        batches = [torch.tensor([numbers.index(i) for i in b if i not in group], dtype=torch.int64) for b in order]
        assert any(len(b) < len(whole) for b, whole in zip(batches, order, strict=True))
        expected = Rest(model, task, group).run(30, 0.02, 0.5, batches)
        close(made.linearized(group).test, expected)


def test_redrawn_batches_are_those_of_the_rest():
    model, task = problem()
    made = solver(model, task, Recipe(partial(SGD, lr=0.02), 4, seed=3), steps=30, redrawn=True)
    for group in GROUPS:
        batches = [torch.tensor(b) for b in loaded(task.n - len(group), 4, 3, 30)]
        close(made.linearized(group).test, Rest(model, task, group).run(30, 0.02, batches=batches))


def loaded(n, batch_size, seed, count):
    """The rows of the first batches of a shuffling DataLoader."""
    loader = torch.utils.data.DataLoader(
        range(n), batch_size, shuffle=True, generator=torch.Generator().manual_seed(seed), collate_fn=list
    )
    rows = []
    while len(rows) < count:
        rows += list(loader)
    return rows[:count]


@pytest.mark.parametrize("until", [None, 0.5])
def test_a_path_of_single_steps_is_training(until):
    model, task = problem()
    sgd = partial(SGD, lr=0.05)
    steps = 12 if until is None else None
    made = solver(model, task, Recipe(sgd), until=until, steps=steps, relinearize="path")
    for group in GROUPS[:3]:
        run = wm.train(model, task.without(group), sgd, until=until, steps=12 if until is None else 400)
        assert run.converged == (until is not None)
        ends = [float(k) for k in range(1, run.steps + 1)]
        found = made.path(group, ends)
        assert found.steps == run.steps
        close(found.test, run.test.reshape(-1).numpy(), 1e-9)


def test_the_order_of_groups_does_not_matter():
    model, task = problem()
    made = solver(model, task, Recipe(partial(SGD, lr=0.05)), steps=40, relinearize="path")
    ends = made.full_path(4).ends
    first = [made.path(group, ends).test for group in GROUPS]
    again = [made.path(group, ends).test for group in reversed(GROUPS)]
    for one, other in zip(first, reversed(again), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


def test_real_training_of_the_rest_is_train():
    model, task = problem()
    recipe = Recipe(partial(SGD, lr=0.05), 3, seed=2)
    made = solver(model, task, recipe, steps=25, relinearize="auto")
    for group in GROUPS:
        run = wm.train(model, task.without(group), recipe.without(group, task.n), until=None, steps=25)
        for is_chaotic in (False, True):
            close(made.trained(group, is_chaotic).test.reshape(-1), run.test.reshape(-1).numpy(), 1e-12)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_other_optimizers_are_predicted_on_the_rest(batch_size):
    model, task = problem()
    recipe = Recipe(partial(torch.optim.Adam, lr=1e-2), batch_size)
    made = solver(model, task, recipe, steps=20, relinearize="never")
    for group in GROUPS[:2]:
        rest, left = task.without(group), recipe.without(group, task.n)
        expected = wm.predict(model, rest, left, steps=20, relinearize="never")
        found = made.by_itself(group)
        close(found.test[-1], expected.test.reshape(-1).numpy(), 1e-9)
        assert found.error == pytest.approx(expected.error, rel=1e-6)


def test_a_rest_that_is_underdetermined_where_all_rows_were_not_is_refused():
    g = torch.Generator().manual_seed(0)
    X, y = torch.randn(8, 3, generator=g, dtype=torch.float64), torch.randn(8, generator=g, dtype=torch.float64)
    model = torch.nn.Linear(3, 1, bias=False).double()
    made = solver(model, wm.Task(X, y, X[:2]), Recipe(partial(SGD, lr="best")))
    made.check_rank(0, (0, 1, 2, 3, 4))
    with pytest.raises(InputError, match="without group 5 the problem is underdetermined where it was not: 2 training"):
        made.check_rank(5, (0, 1, 2, 3, 4, 5))
    wide, task = problem()
    solver(wide, task, Recipe(partial(SGD, lr="best"))).check_rank(0, (0, 1, 2, 3))


def test_no_limit_by_an_inverse_where_the_kernel_is_singular_or_weights_decay():
    model, task = problem()
    decaying = partial(SGD, lr=0.05, weight_decay=1e-2)
    assert not solver(model, task, Recipe(decaying)).has_inverse
    doubled = task.only(torch.tensor([0, 0, 1, 2]))
    made = solver(model, doubled, Recipe(partial(SGD, lr="best")))
    assert not made.has_inverse
    found, rest = made.linearized((2,)), Rest(model, doubled, (2,))
    c = np.linalg.pinv(rest.K, rcond=1e-12) @ (rest.task.y.reshape(-1).numpy() - rest.f0)
    close(found.test, rest.f0_test + rest.cross @ c, 1e-8)
    assert math.isinf(found.steps)


def test_cached_layers_are_those_of_the_rest():
    model, task = problem()
    made = solver(model, task, Recipe(partial(SGD, lr=0.05)), steps=9, relinearize="path")
    for group in GROUPS:
        network = made.without(group).network
        assert "layers.0.weight" in network._cached
        rest = MovingNetwork(model, task.without(group))
        of_rest, _ = rest.start()
        for _ in range(2):
            torch.testing.assert_close(network.features().gram(), of_rest.gram(), rtol=0, atol=1e-13)
            torch.testing.assert_close(network.outputs(network.X), rest.outputs(rest.X), rtol=0, atol=1e-13)
            c = torch.linspace(-1, 1, len(of_rest.outputs), dtype=torch.float64)
            network.shift(network.features().pull(c), 0.3)
            rest.shift(of_rest.pull(c), 0.3)
            of_rest = rest.features()

"""``train`` with mini-batches and schedulers against a plain loop over a DataLoader, bit for bit."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

import whichmin as wm
from oracles.linear_rules import distance, mlp_problem, problem, sgd
from whichmin.errors import InputError, TrainingError
from whichmin.optimizers import HigherMomentum, Nesterov

FACTORIES = {
    "sgd": sgd(0.1),
    "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": partial(torch.optim.Adam, lr=1e-2),
    "nesterov": partial(Nesterov, lr=0.05),
    "higher": partial(HigherMomentum, lr=0.05, betas=(0.5, 0.2)),
}


def loop(model, task, factory, batch_size, seed, steps, scheduler=None):
    """What a user writes; the network after so many steps, and the mean square error at the start of each epoch."""
    network = copy.deepcopy(model)
    optimizer, criterion = factory(network.parameters()), nn.MSELoss()
    scheduled = None if scheduler is None else scheduler(optimizer)
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(TensorDataset(task.X, task.y), batch_size=batch_size, shuffle=True, generator=generator)
    done, errors = 0, []
    while True:
        with torch.no_grad():
            errors.append(criterion(network(task.X), task.y).item())
        for X, y in loader:
            if done == steps:
                return network, errors
            optimizer.zero_grad()
            criterion(network(X), y).backward()
            optimizer.step()
            if scheduled is not None:
                scheduled.step()
            done += 1


def same(run, network):
    return all(torch.equal(v, run.final[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
@pytest.mark.parametrize(("batch_size", "seed"), [(2, 0), (4, 3), (5, 1), (1, 2)])
@pytest.mark.parametrize("outputs", [1, 3])
def test_it_is_the_plain_loop(factory, batch_size, seed, outputs):
    model, task = problem("over", outputs)
    run = wm.train(model, task, factory, until=None, steps=25, batch_size=batch_size, seed=seed)
    plain, errors = loop(model, task, factory, batch_size, seed, 25)
    assert same(run, plain)
    epoch = math.ceil(task.n / batch_size)
    assert run.loss_steps.tolist() == sorted({*range(0, 26, epoch), 25})
    assert run.loss_steps.dtype == torch.int64
    assert run.losses[: len(errors)].tolist() == errors
    assert float(run.losses[-1]) == pytest.approx(float((run.train - task.y).square().mean()), rel=1e-12)
    assert (run.steps, run.batch_size, run.seed) == (25, batch_size, seed)
    assert torch.equal(run.test, plain(task.X_test).detach())


@pytest.mark.parametrize("batch_size", [None, 4])
@pytest.mark.parametrize(
    "scheduler",
    [
        partial(StepLR, step_size=7, gamma=0.5),
        partial(CosineAnnealingLR, T_max=20),
        partial(LinearLR, start_factor=0.1, total_iters=5),
    ],
    ids=["step", "cosine", "warm-up"],
)
def test_a_scheduler_is_stepped_after_every_step(scheduler, batch_size):
    model, task = problem("over")
    run = wm.train(model, task, sgd(0.2), until=None, steps=25, batch_size=batch_size, seed=4, scheduler=scheduler)
    if batch_size is None:
        plain = copy.deepcopy(model)
        optimizer = sgd(0.2)(plain.parameters())
        scheduled = scheduler(optimizer)
        for _ in range(25):
            optimizer.zero_grad()
            nn.MSELoss()(plain(task.X), task.y).backward()
            optimizer.step()
            scheduled.step()
    else:
        plain, _ = loop(model, task, sgd(0.2), batch_size, 4, 25, scheduler)
    assert same(run, plain)
    assert not same(wm.train(model, task, sgd(0.2), until=None, steps=25, batch_size=batch_size, seed=4), plain)
    assert run.learning_rate == 0.2
    assert run._recipe.scheduler is scheduler


@pytest.mark.parametrize("batch_size", [6, 7, 100])
def test_all_rows_in_a_batch_is_full_batch(batch_size):
    model, task = problem("over", 3)
    full = wm.train(model, task, FACTORIES["momentum"], until=None, steps=20)
    run = wm.train(model, task, FACTORIES["momentum"], until=None, steps=20, batch_size=batch_size, seed=5)
    assert all(torch.equal(v, run.final[k]) for k, v in full.final.items())
    assert torch.equal(run.losses, full.losses)
    assert run.batch_size is None
    assert run.loss_steps.tolist() == list(range(21))
    plain, _ = loop(model, task, FACTORIES["momentum"], batch_size, 5, 20)
    assert distance(run.test, plain(task.X_test).detach()) < 1e-12


def test_seeds():
    model, task = problem("over")
    a, b, c = (wm.train(model, task, sgd(0.1), until=None, steps=7, batch_size=2, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.test, b.test)
    assert not torch.equal(a.test, c.test)


def test_until_is_looked_at_once_an_epoch():
    model, task = problem("over")
    epoch = 3
    whole = wm.train(model, task, sgd(0.1), until=None, steps=20 * epoch, batch_size=2)
    until = float(whole.losses[12]) * 1.0001
    assert float(whole.losses[:12].min()) > until
    run = wm.train(model, task, sgd(0.1), until=until, batch_size=2)
    assert run.converged
    assert run.steps == 12 * epoch
    assert torch.equal(run.losses, whole.losses[:13])
    assert run.reason == f"the training MSE fell below {until:g} after 36 steps."


def test_integer_inputs_are_batched():
    class Looked(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.out = nn.Embedding(9, 4), nn.Linear(8, 1)

        def forward(self, x):
            return self.out(self.table(x).flatten(1))

    torch.manual_seed(0)
    model = Looked()
    task = wm.Task(torch.randint(0, 9, (7, 2)), torch.randn(7))
    run = wm.train(model, task, sgd(0.1), until=None, steps=10, batch_size=3)
    plain, _ = loop(model, task, sgd(0.1), 3, 0, 10)
    assert same(run, plain)


class Passes:
    """Counted together by a network and its copies."""

    def __init__(self):
        self.made = 0

    def __deepcopy__(self, memo):
        return self


class Interrupted(nn.Module):
    """A network in whose k-th pass with gradients the user presses Ctrl-C."""

    def __init__(self, inner, k):
        super().__init__()
        self.inner, self.k, self.passes = inner, k, Passes()

    def forward(self, x):
        if torch.is_grad_enabled():
            self.passes.made += 1
            if self.passes.made == self.k:
                raise KeyboardInterrupt
        return self.inner(x)


def test_an_interrupt_keeps_what_there_is():
    model, task = problem("over")
    passes = wm.train(model, task, sgd(0.1), until=None, steps=0, batch_size=2)
    assert passes.loss_steps.tolist() == [0]
    whole = wm.train(model, task, sgd(0.1), until=None, steps=7, batch_size=2)
    counted = Interrupted(model, -1)
    wm.train(counted, task, sgd(0.1), until=None, steps=0, batch_size=2)
    run = wm.train(Interrupted(model, counted.passes.made + 8), task, sgd(0.1), steps=50, batch_size=2)
    assert run.interrupted
    assert "interrupted after 7 steps" in run.reason
    assert run.steps == 7
    assert run.loss_steps.tolist() == [0, 3, 6, 7]
    assert torch.equal(run.losses, whole.losses)
    assert torch.equal(run.test, whole.test)


@pytest.mark.parametrize("batch_size", [None, 2])
def test_saved_and_loaded(tmp_path, batch_size):
    model, task = problem("over")
    factory = partial(torch.optim.Adam, lr=1e-2)
    run = wm.train(model, task, factory, steps=8, batch_size=batch_size, seed=3)
    run.save(tmp_path / "run")
    loaded = wm.Run.load(tmp_path / "run")
    assert (loaded.batch_size, loaded.seed) == (batch_size, 3)
    assert torch.equal(loaded.loss_steps, run.loss_steps)
    assert loaded.loss_steps.dtype == torch.int64
    assert loaded.metric.keys() == run.metric.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(v, run.metric[k]) for k, v in loaded.metric.items())
    plain = wm.train(model, task, sgd(0.1), steps=2)
    assert plain.metric is None
    plain.save(tmp_path / "plain")
    assert wm.Run.load(tmp_path / "plain").metric is None


class Breaking(torch.optim.SGD):
    """SGD that spoils the last parameter after some steps."""

    def __init__(self, params, lr, at, value=math.nan, which=-1):
        super().__init__(params, lr)
        self.at, self.value, self.which, self.count = at, value, which, 0

    def step(self, closure=None):
        super().step(closure)
        self.count += 1
        if self.count == self.at:
            self.param_groups[0]["params"][self.which].data.reshape(-1)[0] = self.value


@pytest.mark.parametrize("batch_size", [None, 2])
def test_parameters_that_are_no_longer_finite(batch_size):
    model, task = problem("over")
    with pytest.raises(TrainingError, match=r"training loss is no longer finite.*holds NaN.*Lower the lear") as caught:
        wm.train(model, task, partial(Breaking, lr=0.01, at=260), until=None, steps=400, batch_size=batch_size)
    error = caught.value
    assert 100 <= error.step <= 260
    again = wm.train(model, task, sgd(0.01), until=None, steps=error.step, batch_size=batch_size)
    assert all(torch.equal(v, error.state[k]) for k, v in again.final.items())


@pytest.mark.parametrize("settings", [{"steps": 7, "until": None}, {"until": 0.05}, {"steps": 300}])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_parameter_whose_infinity_does_not_show_in_the_loss(settings, batch_size):
    """tanh(∞) = 1: the loss stays finite."""
    model, task = mlp_problem((4, 12), 6)
    names = [name for name, _ in model.named_parameters()]
    bias = names.index("layers.0.bias")
    factory = partial(Breaking, lr=0.05, at=5, value=math.inf, which=bias)
    with pytest.raises(TrainingError, match=r"parameter 'layers.0.bias' is no longer finite after \d+ steps") as caught:
        wm.train(model, task, factory, batch_size=batch_size, **settings)
    assert all(bool(v.isfinite().all()) for v in caught.value.state.values())
    assert caught.value.step == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; expected a whole number of rows"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": 2, "seed": 0.5}, "seed is 0.5; expected an integer"),
        ({"seed": None}, "seed is None; expected an integer"),
        ({"steps": math.inf}, "steps is inf; expected a whole number of steps"),
    ],
)
def test_arguments(arguments, message):
    model, task = problem("over")
    with pytest.raises(InputError, match=message):
        wm.train(model, task, sgd(0.1), **arguments)

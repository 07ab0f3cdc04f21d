"""A recorder given what wraps the model or the optimizer records what is wrapped."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance
from whichmin.decomposition.recorded import explain_recorder
from whichmin.training.unwrap import unwrapped_model, unwrapped_optimizer, without_autocast


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 1))


def make_task():
    draw = torch.Generator().manual_seed(0)
    X, X_test = (torch.randn(n, 4, generator=draw) for n in (12, 5))
    return wm.Task(X, X[:, :1] * X[:, 1:2], X_test)


class Wrapper(torch.optim.Optimizer):
    """As accelerate's: an optimizer that hands everything to another one."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def __getattr__(self, name):
        return getattr(self.__dict__["optimizer"], name)

    def step(self, closure=None):
        self.optimizer.step(closure)


def loop(model, optimizer, task, backward=torch.Tensor.backward):
    torch.manual_seed(3)
    for _ in range(6):
        optimizer.zero_grad()
        backward(nn.functional.mse_loss(model(task.X), task.y))
        optimizer.step()


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_what_wraps_the_model_and_the_optimizer_is_taken_off(wrap):
    task, model, other = make_task(), network(), network()
    optimizer = Wrapper(Wrapper(torch.optim.Adam(model.parameters(), lr=1e-2)))
    wrapped = wrap(model)
    with wm.Recorder(wrapped, optimizer, task) as recorder:
        loop(wrapped, optimizer, task)
    with wm.Recorder(other, torch.optim.Adam(other.parameters(), lr=1e-2), task) as expected:
        loop(other, torch.optim.Adam(other.parameters(), lr=1e-2), task)
    assert recorder.steps == 6
    assert "Adam" in repr(recorder)
    assert recorder.run().optimizer == "Adam"
    assert list(recorder.final) == list(expected.final)
    assert distance(explain_recorder(recorder).total, model.eval()(task.X_test).detach()) < 1e-6


def test_only_wrappers_are_taken_off():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module, self.bias = nn.Linear(4, 1), nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return self.module(x) + self.bias

    own = Own()
    assert unwrapped_model(own) is own
    assert unwrapped_model(torch.compile(nn.DataParallel(own), backend="eager")) is own
    adam = torch.optim.Adam(own.parameters())
    assert unwrapped_optimizer(adam) is adam
    assert unwrapped_optimizer(Wrapper(adam)) is adam
    assert unwrapped_optimizer("adam") == "adam"
    assert unwrapped_model("own") == "own"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate(precision):
    accelerate = pytest.importorskip("accelerate")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision=precision)
    task, plain = make_task(), network()
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-2)
    untouched = copy.deepcopy(plain)
    model, prepared = accelerator.prepare(plain, optimizer)
    with wm.Recorder(model, prepared, task) as recorder:
        loop(model, prepared, task, accelerator.backward)
    assert recorder.steps == 6
    untouched.load_state_dict(recorder.final)
    outputs = untouched.eval()(task.X_test).detach()
    assert torch.equal(recorder.snapshots[-1].test, outputs), "in the parameters' own precision"
    assert distance(explain_recorder(recorder).total, outputs) < 1e-6
    if precision == "bf16":
        assert "forward" in vars(model), "the loop's own model keeps its wrapper"


def test_another_forward_is_kept():
    model = nn.Linear(2, 1)
    model._original_forward = model.forward
    model.forward = lambda x: 2 * nn.Linear.forward(model, x)
    assert "forward" not in vars(without_autocast(copy.copy(model)))
    model._original_forward = lambda x: x
    assert "forward" in vars(without_autocast(copy.copy(model)))

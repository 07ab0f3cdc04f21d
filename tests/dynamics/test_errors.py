"""What cannot be predicted, and what the message says."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whichmin as wm
from oracles.linear_rules import BEST, Dense, distance, problem, sgd
from whichmin.errors import (
    DivergenceError,
    InputError,
    MemoryPlanError,
    ModelError,
    OptimizerError,
    SingularKernelError,
)
from whichmin.tangent import memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "steps is -1; expected a non-negative number"),
        ({"steps": math.nan}, "steps is nan"),
        ({"steps": [3, 2]}, r"steps is \[3, 2\].*ascending"),
        ({"steps": [2, 2]}, "ascending"),
        ({"steps": []}, r"steps is \[\]"),
        ({"steps": [-1, 2]}, "non-negative"),
        ({"steps": 1.5}, r"steps is 1.5; gradient descent makes whole steps.*flow=True"),
        ({"steps": [1, 2.5]}, "whole steps"),
        ({"steps": "many"}, "steps is 'many'"),
        ({"steps": [2, None]}, "steps is "),
        ({"until": 0}, "until is 0; expected a positive"),
        ({"until": -1e-3}, "until is -0.001"),
        ({"until": math.inf}, "until is inf"),
        ({"until": math.nan}, "until is nan"),
        ({"until": 1e-3, "steps": [1, 2]}, "both a sequence of steps and until"),
        ({"tol": 0}, "tol is 0; expected a positive"),
        ({"tol": -1}, "tol is -1"),
        ({"tol": math.nan}, "tol is nan"),
        ({"relinearize": "sometimes"}, "relinearize is 'sometimes'.*auto.*never.*number of intervals"),
        ({"relinearize": 0}, "relinearize is 0"),
        ({"relinearize": -3}, "relinearize is -3"),
        ({"relinearize": 2.5}, "relinearize is 2.5"),
        ({"relinearize": True}, "relinearize is True"),
        ({"relinearize": None}, "relinearize is None"),
    ],
)
def test_arguments(arguments, message):
    model, task = problem("over")
    with pytest.raises(InputError, match=message):
        wm.predict(model, task, BEST, **arguments)


def test_steps_of_an_array_are_a_sequence():
    model, task = problem("over")
    a = wm.predict(model, task, BEST, steps=np.array([0, 5]))
    assert distance(a.test, wm.predict(model, task, BEST, steps=[0, 5]).test) == 0


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_rate_beyond_the_limit(outputs):
    model, task = problem("over", outputs)
    dense = Dense.of(model, task)
    limit = 2 / (dense.gamma * float(torch.linalg.matrix_norm(dense.J, 2)) ** 2)
    for factor in (1.0001, 10.0):
        with pytest.raises(DivergenceError, match="diverges") as caught:
            wm.predict(model, task, sgd(factor * limit), steps=5, relinearize="auto" if factor > 4 else "path")
        assert caught.value.limit == pytest.approx(limit, rel=1e-12)
        assert f"is {limit:.6g} " in str(caught.value)
        assert isinstance(caught.value, OptimizerError)
    below = wm.predict(model, task, sgd(0.9999 * limit), relinearize="never")
    assert distance(below.train, task.y) < 1e-10


def with_layer(layer):
    return nn.Sequential(nn.Linear(4, 5), layer, nn.Linear(5, 1)).double()


class Odd(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer, self.kind = nn.Linear(4, 1).double(), kind

    def forward(self, x):
        if self.kind == "rows":
            x = x - x.mean(0)
        if self.kind == "noise":
            x = F.dropout(x, 0.5, training=True)
        out = self.layer(x)
        return out.sum() if self.kind == "sum" else out / 0 if self.kind == "infinite" else out


MODELS = [
    (with_layer(nn.BatchNorm1d(5)), r"layer '1' \(BatchNorm1d\).*model.eval"),
    (with_layer(nn.Dropout(0.1)), r"layer '1' \(Dropout\).*random.*model.eval"),
    (Odd("rows"), "depends on the other rows"),
    (Odd("noise"), "draws random numbers"),
    (Odd("sum"), r"returned \(\) for \d inputs"),
    (Odd("infinite"), "not finite"),
    (Odd("none").requires_grad_(False), "no trainable parameters"),
    (nn.Flatten(), "no trainable parameters"),
    (nn.Linear(3, 1).double(), r"fails on inputs of shape \(\d, 4\)"),
    (nn.Linear(4, 1), "parameters are torch.float32"),
    (nn.Linear(4, 2).double(), "model has 2 outputs per row; expected 1"),
]


@pytest.mark.parametrize(("model", "message"), MODELS, ids=lambda v: v[:24] if isinstance(v, str) else None)
@pytest.mark.parametrize("verb", [wm.predict, wm.train, wm.explain])
def test_models(model, message, verb):
    task = problem("over")[1]
    settings = {} if verb is wm.predict else {"steps": 3}
    with pytest.raises(ModelError, match=message):
        verb(model, task, sgd(0.01), **settings)


def test_what_is_no_module():
    task = problem("over")[1]
    for verb in (wm.predict, wm.train):
        with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module"):
            verb(torch.sin, task, sgd(0.01))
    with pytest.raises(InputError, match=r"explain a model with its task and optimizer, explain\(model, task, optimi"):
        wm.explain(torch.sin, task, sgd(0.01))


@pytest.mark.parametrize("verb", [wm.predict, wm.train, wm.explain])
def test_integer_inputs(verb):
    task = wm.Task(torch.randint(0, 9, (5, 4)), torch.randn(5), torch.randint(0, 9, (3, 4)))
    with pytest.raises(ModelError, match=r"pass X.float\(\)"):
        verb(wm.networks.MLP([4, 5, 1]), task, BEST)
    with pytest.raises(ModelError, match=r"pass X.float\(\)"):
        verb(wm.networks.MLP([4, 5, 1]), task, sgd(0.1))


@pytest.mark.parametrize("arguments", [{}, {"until": 1e-5}, {"relinearize": 5}, {"steps": [1, math.inf]}])
def test_identical_inputs_with_different_labels(arguments):
    model, task = problem("over")
    X, y = task.X.clone(), task.y.clone()
    X[4] = X[1]
    told = re.escape(f"rows 1 and 4 of X are identical and their targets differ ([{y[1].item()}] and [{y[4].item()}])")
    with pytest.raises(SingularKernelError, match=told):
        wm.predict(model, wm.Task(X, y), BEST, **arguments)
    # A number of steps can be made, and with equal labels all is well.
    assert wm.predict(model, wm.Task(X, y), sgd(0.01), steps=10, relinearize="never").steps == 10
    y[4] = y[1]
    found = wm.predict(model, wm.Task(X, y, X), BEST, relinearize="never")
    assert distance(found.test, y) < 1e-10
    assert any("the kernel has rank 5 of 6" in note for note in found.notes)


def test_identical_inputs_are_no_error_for_an_underparameterized_network():
    model, task = problem("under")
    X = task.X.clone()
    X[4] = X[1]
    dense = Dense.of(model, wm.Task(X, task.y, task.X_test))
    found = wm.predict(model, wm.Task(X, task.y, task.X_test), BEST, relinearize="never")
    assert distance(found.test, dense.outputs(dense.limit())[1]) < 1e-10


def test_a_plan_that_does_not_fit(monkeypatch):
    model = wm.networks.MLP([4, 5, 1])
    n = 200_000
    task = wm.Task(torch.zeros(1, 4).expand(n, 4), torch.zeros(1).expand(n))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**30)
    message = r"the kernel of 200000·1 training outputs.*needs \d+\.\d GiB and 1\.0 GiB are free on cpu.*fewer training"
    with pytest.raises(MemoryPlanError, match=message):
        wm.predict(model, task, BEST)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**50)
    assert wm.predict(model, wm.Task(torch.randn(9, 4), torch.randn(9)), BEST).steps == math.inf


def test_a_network_that_its_parameters_do_not_move():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return x[:, :1] + 0 * self.w

    with pytest.raises(InputError, match="kernel is zero"):
        wm.predict(Dead(), wm.Task(torch.randn(4, 2), torch.randn(4)), BEST)


def test_every_bad_input_is_a_value_error():
    from whichmin import errors

    for name, cls in vars(errors).items():
        if isinstance(cls, type) and issubclass(cls, errors.WhichminError) and name not in ("WhichminError",):
            assert issubclass(cls, ValueError) == (name != "TrainingError")

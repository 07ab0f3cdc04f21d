"""Every optimizer there is, and what it does to a linearized network, written out.

An optimizer is one line of ``CASES``; what ``torch.optim`` gains shows up by itself, with a learning rate of 1e-3.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from oracles.linear_rules import distance, mlp_problem
from oracles.zoo import plain_jacobian
from whichmin.optimizers import HigherMomentum, Nesterov, Preconditioned
from whichmin.recipe.batches import batch_order

#: Those that evaluate the loss themselves, or take sparse gradients only.
REFUSED = {"LBFGS", "SparseAdam"}

SETTINGS: dict[str, list[dict]] = {
    "SGD": [
        {"lr": 0.05},
        {"lr": 0.05, "momentum": 0.9},
        {"lr": 0.05, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05},
        {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
        {"lr": 0.05, "weight_decay": 0.1},
    ],
    "Adam": [{"lr": 1e-2}, {"lr": 1e-2, "amsgrad": True, "weight_decay": 0.1}],
    "AdamW": [{"lr": 1e-2, "weight_decay": 0.3}],
    "Adagrad": [{"lr": 5e-2}, {"lr": 5e-2, "lr_decay": 0.1, "weight_decay": 0.1}],
    "RMSprop": [{"lr": 1e-3}, {"lr": 1e-3, "centered": True, "momentum": 0.9}],
    "Adadelta": [{"lr": 1.0}],
    "Adamax": [{"lr": 1e-2}],
    "NAdam": [{"lr": 1e-2}],
    "RAdam": [{"lr": 1e-2}],
    "Rprop": [{"lr": 1e-3}],
    "ASGD": [{"lr": 0.05}],
    "Adafactor": [{"lr": 1e-2}],
    "Muon": [{"lr": 1e-2}],
}


@dataclass(frozen=True)
class Case:
    name: str
    factory: Callable
    matrices_only: bool = False


def _torch_cases() -> list[Case]:
    found = []
    for name, cls in sorted(vars(torch.optim).items()):
        if not (inspect.isclass(cls) and issubclass(cls, torch.optim.Optimizer)):
            continue
        if cls is torch.optim.Optimizer or name in REFUSED:
            continue
        for i, settings in enumerate(SETTINGS.get(name, [{"lr": 1e-3}])):
            found.append(Case(f"{name}{i or ''}", partial(cls, **settings), name == "Muon"))
    return found


def _lion(params):
    return pytest.importorskip("lion_pytorch").Lion(params, lr=1e-3, weight_decay=0.1)


def _shampoo(params):
    return pytest.importorskip("pytorch_optimizer").Shampoo(params, lr=1e-2, matrix_eps=1e-3)


def _groups(params):
    return torch.optim.SGD([{"params": params[:1], "lr": 0.1}, {"params": params[1:]}], lr=0.02, momentum=0.9)


def _metric(parameter: Tensor) -> Tensor:
    return 0.5 + parameter.detach().abs()


CASES = [
    *_torch_cases(),
    Case("Nesterov", partial(Nesterov, lr=0.05)),
    Case("Nesterov1", partial(Nesterov, lr=0.05, r=5.0, weight_decay=0.05)),
    Case("HigherMomentum", partial(HigherMomentum, lr=0.05, betas=(0.5, 0.2))),
    Case("HigherMomentum1", partial(HigherMomentum, lr=0.05, betas=(0.5, -0.2), weight_decay=0.1)),
    Case("Preconditioned", partial(Preconditioned, lr=0.05, metric=_metric)),
    Case("groups", _groups),
    Case("Lion", _lion),
    Case("Shampoo", _shampoo),
]
EVERY = pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            c,
            id=c.name,
            marks=[
                pytest.mark.skipif(c.name == name and importlib.util.find_spec(package) is None, reason=package)
                for name, package in (("Lion", "lion_pytorch"), ("Shampoo", "pytorch_optimizer"))
            ],
        )
        for c in CASES
    ],
)

COURSES: dict[str, dict] = {
    "full": {},
    "batches": {"batch_size": 4, "seed": 3},
    "scheduled": {"scheduler": partial(StepLR, step_size=4, gamma=0.3)},
    "both": {"batch_size": 4, "seed": 1, "scheduler": partial(StepLR, step_size=3, gamma=0.5)},
}


def network_for(case: Case, outputs: int, seed: int = 0) -> tuple[nn.Module, wm.Task]:
    return mlp_problem((4, 9), 6, outputs, seed=seed, bias=not case.matrices_only, bias_std=1.0)


@dataclass(frozen=True)
class Linear:
    """A linearized network with the Jacobian of each parameter in its own shape, float64."""

    model: nn.Module
    task: wm.Task
    J: dict[str, Tensor]
    J_test: dict[str, Tensor]
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss

    @classmethod
    def of_case(cls, case: Case, outputs: int) -> Linear:
        """That of :func:`network_for`."""
        return cls(*network_for(case, outputs), *_jacobians(case.matrices_only, outputs))

    @classmethod
    def of(cls, model: nn.Module, task: wm.Task, loss: Callable[[Tensor, Tensor], Tensor] | None = None) -> Linear:
        features = plain_jacobian(model, task.X), plain_jacobian(model, task.X_test)
        return cls(model, task, *features, loss or nn.functional.mse_loss)

    def outputs(self, values: dict[str, Tensor], test: bool = False) -> Tensor:
        J, X = (self.J_test, self.task.X_test) if test else (self.J, self.task.X)
        start = dict(self.model.named_parameters())
        with torch.no_grad():
            total = self.model(X).reshape(len(X), -1).clone()
            for name, value in values.items():
                total += ((value - start[name]) * J[name]).flatten(2).sum(2)
        return total

    def train(self, case: Case, steps: int, course: dict) -> dict[str, Tensor]:
        """The parameters after so many steps of the optimizer itself."""
        values = {n: nn.Parameter(p.detach().clone()) for n, p in self.model.named_parameters() if p.requires_grad}
        optimizer = case.factory(list(values.values()))
        scheduler = course["scheduler"](optimizer) if "scheduler" in course else None
        order = batch_order(self.task.n, course.get("batch_size"), course.get("seed", 0))
        for _ in range(steps):
            rows = next(order)
            f = self.outputs({n: v.detach() for n, v in values.items()})[rows].requires_grad_()
            (seed,) = torch.autograd.grad(self.loss(f, self.task.y[rows]), f)
            for name, value in values.items():
                value.grad = torch.einsum("nc,nc...->...", seed, self.J[name][rows]).contiguous()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
        return {n: v.detach() for n, v in values.items()}


@cache
def _jacobians(matrices_only: bool, outputs: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Of the network of a case; nobody may change them."""
    model, task = network_for(Case("", torch.optim.SGD, matrices_only), outputs)
    return plain_jacobian(model, task.X), plain_jacobian(model, task.X_test)


def assert_agrees(linear: Linear, case: Case, course: dict, steps: int) -> wm.Prediction:
    """The linearized prediction of the case against the optimizer run on the written-out Jacobian."""
    found = wm.predict(linear.model, linear.task, case.factory, steps=steps, relinearize="never", **course)
    values = linear.train(case, steps, course)
    assert found.method == "linearized"
    assert found.steps == steps
    train, test = linear.outputs(values), linear.outputs(values, test=True)
    assert distance(train, linear.outputs({})) > 1e-4
    assert distance(found.train, train) < 1e-10
    assert distance(found.test, test) < 1e-10
    for name, value in values.items():
        assert distance(found.parameters()[name], value) < 1e-10, name
    assert distance(torch.stack(list(found.terms.values())).sum(0), found.test) < 1e-11
    assert float(found.curve.losses[-1]) == pytest.approx(float(linear.loss(train, linear.task.y)), rel=1e-8)
    return found

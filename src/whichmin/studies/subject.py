"""What a question is about, so that equal descriptions have equal answers: data, network, recipe, settings.

What cannot be told apart, such as an optimizer class of the user's own, whose code may have changed, is unknown, and
its answers are not kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.inputs import AnyInputs, named_tensors, tensors_of
from whichmin.jobs.store import Question, versions
from whichmin.recipe.code import code_of_network
from whichmin.recipe.describe import Unknown, digest
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.copying import moved_copy, private_copy
from whichmin.tangent.model import evaluate, trainable
from whichmin.task import Task

#: Rows of each set of inputs at which a network is evaluated beside its own parameters.
PROBED_ROWS = 16


@dataclass(frozen=True)
class Subject:
    """The data and the network of a question, described once for all recipes.

    Attributes:
        values: what tells data and network from others.
        parameters: the network's trainable parameters, by name.
    """

    values: dict[str, Any]
    parameters: dict[str, nn.Parameter]

    @classmethod
    def of(cls, model: nn.Module, task: Task) -> Subject | Unknown:
        """The data by their values, the network by its parameters, buffers, code, and what it computes."""
        data = described_data(task)
        state = {name: digest([t]) for name, t in model.state_dict().items() if isinstance(t, Tensor)}
        try:
            computed = signature(model, task)
        except ModelError as error:
            return Unknown(f"the network cannot be evaluated: {str(error).rstrip('.')}")
        network = {"printed": repr(model), "state": state, "computes": computed, "code": code_of_network(model)}
        network |= {"device": str(task.X.device)}
        return cls({"data": data, "network": network}, trainable(model))

    def asked(self, kind: str, recipe: Recipe, settings: Mapping[str, Any]) -> Question | Unknown:
        """The question with a recipe and all other arguments that the numbers depend on, as plain values.

        Raises:
            OptimizerError: a factory of the recipe fails.
        """
        described = recipe.describe(self.parameters)
        if isinstance(described, Unknown):
            return described
        values = {"kind": kind, "versions": versions(), "recipe": described, "settings": dict(settings)}
        return Question(json.loads(json.dumps(self.values | values)))


def fingerprint(task: Task) -> str:
    """A hash of data and loss."""
    return hashlib.sha256(json.dumps(described_data(task), sort_keys=True).encode()).hexdigest()[:16]


def described_data(task: Task) -> dict[str, Any]:
    """Data and loss, by their values."""
    data: dict[str, Any] = {
        name: None if X is None else _of_inputs(X) for name, X in (("X", task.X), ("X_test", task.X_test))
    }
    data |= {name: None if t is None else digest([t]) for name, t in (("y", task.y), ("y_test", task.y_test))}
    return data | {"loss": _loss(task)}


def _of_inputs(X: AnyInputs) -> str:
    """A hash of all tensors and their names; which output is taken shows in what the network computes."""
    names = list(named_tensors(X, ""))
    return digest(tensors_of(X), *(names if len(names) > 1 else ()))


def _loss(task: Task) -> list[Any]:
    """What the loss is called, and what it does to a few outputs."""
    outputs = torch.randn(task.n, task.outputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r = outputs.reshape(-1).numpy() - task.objective.origin
    value, gradient = task.objective.value_and_gradient(r)
    return [
        repr(task.loss),
        f"{value:.9g}",
        digest([torch.from_numpy(gradient).float()]),
        list(map(str, task.classes or ())),
    ]


def signature(model: nn.Module, task: Task) -> str:
    """A hash of what the network computes: outputs and gradients, where it stands and at parameters beside its own.

    Where it stands it is looked at on all of the data; beside, at a few rows, which tells apart networks of equal
    parameters whose code differs also where an output layer is zero at first. It is made on one thread, so that it does
    not depend on their number.

    Cost: about a training step on all rows, on one thread.

    Raises:
        ModelError: the network cannot be evaluated.
    """
    everything = [X for X in (task.X, task.X_test) if X is not None]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        here = _computed(private_copy(model), everything)
        beside = _computed(moved_copy(model), [X[:PROBED_ROWS] for X in everything])
    finally:
        torch.set_num_threads(before)
    return digest([], here, beside)


def _computed(network: nn.Module, inputs: Sequence[AnyInputs]) -> str:
    """A hash of outputs at some inputs, and of the gradient of a combination of the first ones."""
    trained = trainable(network)
    with torch.enable_grad():
        outputs = [evaluate(network, X) for X in inputs]
        value = (torch.linspace(1, 2, outputs[0].numel()).to(outputs[0]) * outputs[0].reshape(-1)).sum()
    gradients: tuple[Tensor | None, ...] = ()
    if value.requires_grad:
        gradients = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    moving = {name: g for name, g in zip(trained, gradients, strict=False) if g is not None}
    return digest([*outputs, *moving.values()], *moving)


def not_kept(unknown: Unknown) -> str:
    """The remark that an answer was neither kept nor read, and why."""
    return f"finished runs are not kept, because {unknown.reason}."

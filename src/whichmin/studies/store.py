"""Finished answers on disk: a folder each, named by the hash of all that its numbers depend on.

An answer is read back only for a question that is the same in every part: version, data, network, recipe, settings.
What cannot be told apart, such as an optimizer class of the user's own, whose code may have changed, has no place here.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whichmin._version import __version__
from whichmin.errors import ModelError, OutputError, ResultError
from whichmin.inputs import AnyInputs, named_tensors, tensors_of
from whichmin.recipe.describe import Unknown, digest
from whichmin.recipe.recipe import Recipe
from whichmin.storage import load_folder, located, save_folder
from whichmin.tangent.copying import moved_copy
from whichmin.tangent.model import evaluate, trainable
from whichmin.task import Task

T = TypeVar("T")

#: Rows of each set of inputs at which a network is evaluated to tell it from others.
PROBED_ROWS = 16


@dataclass(frozen=True)
class Question:
    """What an answer depends on, resolved to plain values."""

    values: dict[str, Any]

    @property
    def key(self) -> str:
        """Its hash."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:16]


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
        """The data by their values, the network by its parameters, buffers and what it computes."""
        data: dict[str, Any] = {
            name: None if X is None else _of_inputs(X) for name, X in (("X", task.X), ("X_test", task.X_test))
        }
        data |= {name: None if t is None else digest([t]) for name, t in (("y", task.y), ("y_test", task.y_test))}
        data["loss"] = _loss(task)
        state = {name: digest([t]) for name, t in model.state_dict().items() if isinstance(t, Tensor)}
        try:
            computed = signature(model, task)
        except ModelError as error:
            return Unknown(f"the network cannot be evaluated: {str(error).rstrip('.')}")
        network = {"printed": repr(model), "state": state, "computes": computed, "device": str(task.X.device)}
        return cls({"data": data, "network": network}, trainable(model))

    def asked(self, kind: str, recipe: Recipe, settings: Mapping[str, Any]) -> Question | Unknown:
        """The question with a recipe and all other arguments that the numbers depend on, as plain values.

        Raises:
            OptimizerError: a factory of the recipe fails.
        """
        described = recipe.describe(self.parameters)
        if isinstance(described, Unknown):
            return described
        versions = {"whichmin": __version__, "torch": torch.__version__}
        values = {"kind": kind, "versions": versions, "recipe": described, "settings": dict(settings)}
        return Question(json.loads(json.dumps(self.values | values)))


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
    """A hash of what the network computes: outputs and gradients at a few inputs, at parameters beside its own.

    It tells apart networks of equal parameters whose code differs, also where an output layer is zero at first. It is
    made on one thread, so that it does not depend on their number.

    Raises:
        ModelError: the network cannot be evaluated.
    """
    network = moved_copy(model)
    inputs = [X[:PROBED_ROWS] for X in (task.X, task.X_test) if X is not None]
    trained = trainable(network)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.enable_grad():
            outputs = [evaluate(network, X) for X in inputs]
            value = (torch.linspace(1, 2, outputs[0].numel()).to(outputs[0]) * outputs[0].reshape(-1)).sum()
        gradients: tuple[Tensor | None, ...] = ()
        if value.requires_grad:
            gradients = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    finally:
        torch.set_num_threads(before)
    moving = {name: g for name, g in zip(trained, gradients, strict=False) if g is not None}
    return digest([*outputs, *moving.values()], *moving)


@dataclass(frozen=True)
class Store:
    """A folder of finished answers."""

    folder: Path

    @classmethod
    def open(cls, out: str | os.PathLike[str]) -> Store:
        """The folder ``runs`` within ``out``, made where it is not there.

        Raises:
            OutputError: files cannot be written there.
        """
        runs = Path(out) / "runs"
        try:
            runs.mkdir(parents=True, exist_ok=True)
            for folder in (runs.parent, runs):
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise OutputError(f"cannot write to {out}: {error.strerror}. Choose a folder you may write to.") from error
        return cls(runs)

    def place(self, question: Question) -> Path:
        """The folder of its answer."""
        return self.folder / f"{question.values['kind']}-{question.key}"

    def read(self, question: Question, make: Callable[[Path, dict[str, Any], dict[str, Tensor]], T]) -> T | None:
        """The answer that ``make`` makes of a folder, its configuration and arrays; None where none can be read."""
        place = located(self.place(question))
        try:
            config, arrays, _ = load_folder(place, question.values["kind"])
            return make(place, config, arrays) if config["question"] == question.values else None
        except (ResultError, OSError, KeyError, TypeError, ValueError):
            return None

    def write(
        self,
        question: Question,
        about: Mapping[str, Any],
        arrays: Mapping[str, Tensor],
        parts: Mapping[str, Callable[[Path], object]] | None = None,
    ) -> None:
        """Keep an answer: there whole or not at all.

        Args:
            question: what it answers.
            about: further plain values, for :meth:`read` and for a reader of the folder.
            arrays: tensors by name.
            parts: results within, each written by a function of its path.

        Raises:
            OutputError: it cannot be written.
        """
        config = dict(about) | {"kind": question.values["kind"], "question": question.values}
        save_folder(self.place(question), config, arrays, parts=parts)


def not_kept(unknown: Unknown) -> str:
    """The remark that an answer was neither kept nor read, and why."""
    return f"finished runs are not kept, because {unknown.reason}."

"""What figures measure: jobs that are done once each and kept in a store, and the functions that they call."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from whichmin.data.load import load
from whichmin.dynamics.paths.clock import untimed
from whichmin.dynamics.predict import predict
from whichmin.errors import WhichminError
from whichmin.jobs.store import Question, Store, versions
from whichmin.networks import MLP
from whichmin.recipe.recipe import Recipe
from whichmin.studies.experiment.build import build_optimizer
from whichmin.studies.experiment.optimizers import named_optimizers
from whichmin.studies.subject import fingerprint
from whichmin.studies.sweeping.run import Measured
from whichmin.tangent.context import own_context
from whichmin.task import Task
from whichmin.training.train import train

if TYPE_CHECKING:
    from torch import Tensor

#: A network with more than this part of the training loss of the best constant outputs has not fitted its data.
FITTED = 0.5


@dataclass(frozen=True)
class Measurement:
    """One measurement, as a job.

    Attributes:
        what: the function that makes it, "package.module:name".
        settings: its keyword arguments, plain values as JSON.
        data: a fingerprint of its data; empty where it makes its own.
    """

    what: str
    settings: str
    data: str = ""
    failures = (WhichminError,)

    @classmethod
    def of(cls, function: Callable[..., Measured], fingerprint: str = "", /, **settings: Any) -> Measurement:
        """A measurement by a function of a module."""
        return cls(f"{function.__module__}:{function.__name__}", json.dumps(settings, sort_keys=True), fingerprint)

    @property
    def arguments(self) -> dict[str, Any]:
        """The settings."""
        return json.loads(self.settings)

    @property
    def question(self) -> Question:
        """The settings with versions and the fingerprint of the data."""
        values = {"what": self.what, "settings": self.arguments, "data": self.data}
        return Question({"kind": "measured", "versions": versions()} | values)

    @own_context()
    def compute(self) -> Measured:
        """Call the function."""
        module, _, name = self.what.partition(":")
        with untimed():
            return getattr(importlib.import_module(module), name)(**self.arguments)

    def keep(self, store: Store, question: Question, answer: Measured) -> None:
        """A folder with numbers and arrays."""
        store.write(question, {"numbers": answer.numbers}, answer.arrays)

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> Measured:
        """What :meth:`keep` wrote."""
        return Measured(config["numbers"], arrays)


@lru_cache(maxsize=8)
def task_of(data: str, n_train: int, n_test: int, dtype: str = "float32", loss: str = "MSELoss") -> Task:
    """Classes 0 and 1 as targets −1 and +1, pixels scaled to [0, 1]."""
    kind = getattr(torch, dtype)
    return load(data, classes=(0, 1), n_train=n_train, n_test=n_test, dtype=kind, flat=True, loss=getattr(nn, loss)())


@lru_cache(maxsize=8)
def fingerprint_of(data: str, n_train: int, n_test: int) -> str:
    """A hash of these data."""
    return fingerprint(task_of(data, n_train, n_test))


def network_of(task: Task, width: int, depth: int, scale: float, seed: int, bias: bool = False, **rest: Any) -> MLP:
    """A ReLU network in the NTK parametrization, as the papers have them."""
    return MLP((task.X[0].numel(), *[width] * depth, task.outputs), scale=scale, seed=seed, bias=bias, **rest)


def minimizer(
    *,
    kind: str,
    data: str,
    n_train: int,
    n_test: int,
    width: int,
    depth: int,
    scale: float,
    seed: int,
    optimizer: str,
    until: float | None,
    steps: int | None = None,
    batch_size: int | None = None,
    order: int = 0,
    relinearize: str = "never",
    loss: str = "MSELoss",
    device: str = "cpu",
) -> Measured:
    """Where a network ends: predicted from one linearization (or more, ``relinearize``), or trained.

    Numbers: ``test_loss``, ``accuracy``, ``steps``, ``learning_rate``, ``seconds``, ``train_loss``, ``fitted``, whether
    that is below half of what constant outputs leave; of predictions ``interpolator``, the test error of the
    interpolator, and ``initialization``, the root mean square of the initialization term. Arrays: ``test``,
    ``curve_steps``, ``curve_losses``.
    """
    task = task_of(data, n_train, n_test, loss=loss).to(device)
    model = network_of(task, width, depth, scale, seed).to(device)
    (named,) = named_optimizers(optimizer, None)
    recipe = Recipe(build_optimizer(named), batch_size, order)
    if kind == "trained":
        found = trained_measured(train(model, task, recipe, until=until, steps=steps, row_span=True), task)
    else:
        prediction = predict(model, task, recipe, until=until, steps=steps, relinearize=relinearize)  # type: ignore[arg-type]
        found = predicted_measured(prediction, task)
    return replace(found, numbers=found.numbers | {"fitted": _is_fitted(found.numbers["train_loss"], task)})


def _is_fitted(loss: float, task: Task) -> bool:
    """Whether a training loss is below :data:`FITTED` times that of the best constant outputs."""
    y = task.y
    if y.is_floating_point():
        constant = y.double().mean(0)
    else:
        constant = torch.bincount(y.flatten(), minlength=task.outputs).double().clamp(min=0.5).log()
    return loss < FITTED * task.loss.value(constant.expand(len(y), -1), y)


def trained_measured(run: Any, task: Task) -> Measured:
    """What a training came to.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    if run.interrupted:
        raise KeyboardInterrupt
    numbers = {"train_loss": float(run.losses[-1]), "steps": float(run.steps)}
    return _tested(run, task, numbers, {"curve_steps": run.loss_steps, "curve_losses": run.losses})


def predicted_measured(prediction: Any, task: Task) -> Measured:
    """What a prediction came to."""
    terms = prediction.terms
    numbers = {"train_loss": task.loss.value(prediction.train, task.y), "steps": float(prediction.steps)}
    if "interpolant" in terms:
        numbers["interpolator"] = task.test_loss(terms["interpolant"].double())
        numbers["initialization"] = float(terms["initialization"].double().square().mean().sqrt())
    curve = prediction.curve
    return _tested(prediction, task, numbers, {"curve_steps": curve.steps, "curve_losses": curve.losses})


def _tested(found: Any, task: Task, numbers: Mapping[str, Any], arrays: dict[str, Tensor]) -> Measured:
    told = {
        "learning_rate": found.learning_rate,
        "seconds": found.seconds,
        "test_loss": task.test_loss(found.test.double()),
    }
    told |= {"accuracy": task.accuracy(found.test)}
    return Measured(dict(numbers) | told, arrays | {"test": found.test.double().reshape(-1).cpu()})


def gradient_descent(lr: float, momentum: float = 0.0) -> partial[torch.optim.Optimizer]:
    """A factory of ``torch.optim.SGD``."""
    return partial(torch.optim.SGD, lr=lr, momentum=momentum)

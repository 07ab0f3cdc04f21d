"""The data of a grid's cells: loaded once, and told apart by what they hold."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from whichmin.errors import DataError
from whichmin.recipe.code import code_of_network
from whichmin.recipe.describe import describe_steps, digest
from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.subject import fingerprint, signature
from whichmin.task import Task

#: What the data depend on; of the network only whether it takes images.
DATA_KEYS = (
    *("data", "classes", "n_train", "n_test", "data_seed", "loss", "target", "test", "standardize"),
    *("network", "dtype", "device"),
)
#: Sets of data that a process keeps.
KEPT = 4


def data_of(experiment: Experiment) -> Experiment:
    """The same data with all else as it is by default: equal for experiments of the same data."""
    return Experiment(**{name: getattr(experiment, name) for name in DATA_KEYS})


class Fingerprints:
    """What the data and the code of cells are, each looked at once."""

    def __init__(self) -> None:
        self._data: dict[Experiment, str] = {}
        self._code: dict[Any, dict[str, Any]] = {}

    def data(self, experiment: Experiment) -> str:
        """A hash of the task.

        Raises:
            DataError: see :func:`whichmin.data.load`.
        """
        key = data_of(experiment)
        if key not in self._data:
            self._data[key] = fingerprint(build_task(key))
        return self._data[key]

    def code(self, experiment: Experiment) -> dict[str, Any]:
        """What code of the caller's there is, by its text and by what it does; empty where there is none.

        Raises:
            ConfigError: a network that cannot be had.
            ModelError: one that cannot be evaluated.
        """
        (named,) = experiment.optimizer
        paths = [path for path in (experiment.model, named.name) if path is not None and ":" in path]
        key = (*paths, named, data_of(experiment))
        if key not in self._code:
            told: dict[str, Any] = {path: _text_of(path) for path in paths}
            if experiment.model is not None:
                task = build_task(experiment)
                network = build_network(experiment, task, 0)
                classes = [f"{name}: {code}" for name, code in sorted(code_of_network(network).items())]
                told |= {"computes": signature(network, task), "classes": digest([], *classes)}
            if ":" in named.name:
                settled = named if not isinstance(named.lr, str) else replace(named, lr=1e-3)
                told["steps"] = describe_steps(build_optimizer(settled), [torch.ones(3, 2)])
            self._code[key] = told
        return self._code[key]


@lru_cache(maxsize=KEPT)
def known_task(data: Experiment, expected: str) -> Task:
    """The task of that fingerprint; kept, so that runs of the same data in one process load them once.

    Args:
        data: as :func:`data_of` gives it.
        expected: the fingerprint.

    Raises:
        DataError: the data are others here.
    """
    task = build_task(data)
    if fingerprint(task) != expected:
        raise DataError(
            f"{data.data} holds other data here than where the sweep was started: it changed meanwhile, or is another "
            "file on this machine."
        )
    return task


def _text_of(path: str) -> str:
    """A hash of the file of a module, or its name where it has none."""
    from whichmin.studies.experiment.build import current_folder_first

    module = path.split(":")[0]
    with current_folder_first():
        found = importlib.util.find_spec(module)
    origin = None if found is None else found.origin
    if origin is None or not Path(origin).is_file():
        return module
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest()[:16]

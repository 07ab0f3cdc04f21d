"""Finished answers on disk: a folder each, named by the hash of all that its numbers depend on."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from whichmin._version import __version__
from whichmin.errors import OutputError, ResultError
from whichmin.recipe.describe import Unknown, digest
from whichmin.recipe.recipe import Recipe
from whichmin.storage import load_folder, save_folder
from whichmin.studies.initializations import fingerprint
from whichmin.tangent.examine import trainable
from whichmin.task import Task


@dataclass(frozen=True, eq=False)
class Answer:
    """Where one choice takes one initialization, as predicted or as trained.

    Attributes:
        test: test outputs, (n_test, C).
        error: the prediction's estimated error; 0 for a trained network.
        steps: how many steps.
        seconds: what it took.
        notes: remarks.
    """

    test: Tensor
    error: float
    steps: float
    seconds: float
    notes: tuple[str, ...] = ()


def prepare(out: str | os.PathLike[str]) -> Path:
    """Make the folder ``runs`` within ``out`` and see whether files can be written there.

    Raises:
        OutputError: they cannot.
    """
    runs = Path(out) / "runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs):
            pass
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}. Choose a folder you may write to.") from error
    return runs


def place(
    runs: Path, kind: str, name: str, recipe: Recipe, seed: int, model: nn.Module, task: Task, how: Any
) -> Path | None:
    """The folder of one answer.

    Args:
        runs: the folder of all.
        kind: "predicted" or "trained".
        name: of the choice.
        recipe: see :meth:`whichmin.Recipe.describe` for what of it counts.
        seed: of the initialization.
        model: the network as drawn.
        task: the data.
        how: further arguments that the numbers depend on, as plain values.
    """
    described = recipe.describe(trainable(model))
    if isinstance(described, Unknown):
        return None
    tensors = [t for t in (task.X, task.y, task.X_test) if t is not None]
    said = json.dumps([__version__, kind, name, described, seed, how], sort_keys=True)
    return runs / f"{kind}-{digest(tensors, said, fingerprint(model))[:16]}"


def keep(path: Path, answer: Answer, about: dict[str, Any]) -> None:
    """Write an answer: there whole or not at all."""
    numbers = {"error": answer.error, "steps": answer.steps, "seconds": answer.seconds, "notes": list(answer.notes)}
    save_folder(path, {"kind": "answer"} | about | numbers, {"test": answer.test})


def kept(path: Path) -> Answer | None:
    """An answer that is there, or None where there is none or where it cannot be read back."""
    try:
        config, arrays, _ = load_folder(path, "answer")
        return Answer(arrays["test"], config["error"], config["steps"], config["seconds"], tuple(config["notes"]))
    except (ResultError, KeyError):
        return None

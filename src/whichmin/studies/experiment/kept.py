"""Finished seeds on disk: a folder per seed, named by the hash of all that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from whichmin._version import __version__
from whichmin.decomposition.explanation import Explanation
from whichmin.dynamics.prediction import Prediction
from whichmin.errors import OutputError, ResultError
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry
from whichmin.task import Task


def prepare(out: Path) -> Path:
    """Make the folder ``runs`` within ``out`` and see whether files can be written there.

    Raises:
        OutputError: they cannot.
    """
    runs = out / "runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for folder in (out, runs):
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}. Choose a folder you may write to.") from error
    return runs


def fingerprint(experiment: Experiment, task: Task, model: nn.Module, seed: int) -> str:
    """The hash of the resolved configuration, the data themselves, the network as drawn, the seed and the version."""
    config = experiment.to_dict()
    del config["seeds"]
    digest = hashlib.sha256(json.dumps([__version__, config, seed, repr(model)], sort_keys=True).encode())
    tensors = {"X": task.X, "y": task.y, "X_test": task.X_test, "y_test": task.y_test} | model.state_dict()
    for name, tensor in tensors.items():
        if isinstance(tensor, Tensor):
            values = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:16]


def save_entry(entry: Entry, path: Path, config: dict[str, Any]) -> None:
    """Write a finished seed: there whole or not at all.

    Args:
        entry: with both predictions and the explanation.
        path: the folder, replaced if it is there.
        config: what was asked, for a reader of the folder.

    Raises:
        OutputError: the folder cannot be written.
    """
    assert entry.linearized is not None
    assert entry.relinearized is not None
    assert entry.explanation is not None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise OutputError(f"cannot write to {path.parent}: {error.strerror}.") from error
    try:
        entry.linearized.save(temporary / "linearized")
        entry.relinearized.save(temporary / "relinearized")
        entry.explanation.save(temporary / "explanation")
        (temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        temporary.chmod(0o755)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_entry(path: Path, label: str, optimizer: str | None = None, member: str | None = None) -> Entry | None:
    """A finished seed, or None where there is none or where it cannot be read back."""
    if not path.is_dir():
        return None
    try:
        explanation = Explanation.load(path / "explanation")
        linearized, relinearized = Prediction.load(path / "linearized"), Prediction.load(path / "relinearized")
    except (ResultError, OSError, KeyError, TypeError, ValueError):
        return None
    return Entry(
        label,
        linearized=linearized,
        relinearized=relinearized,
        run=explanation.run,
        explanation=explanation,
        optimizer=optimizer,
        member=member,
    )

"""Files: folders of ``config.json``, ``arrays.safetensors`` and ``metrics.jsonl``, and texts, whole or absent.

A folder is written under a temporary name beside its place and renamed. The one that it replaces is kept under another
name until the new one is in place, and is read from there where a process was killed between the two renames.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whichmin._version import __version__
from whichmin.errors import OutputError, ResultError

#: Seconds after which a temporary folder counts as left behind by a killed process and is removed by the next save.
ABANDONED = 24 * 3600.0


def save_folder(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    arrays: Mapping[str, Tensor],
    metrics: Iterable[Mapping[str, Any]] = (),
    parts: Mapping[str, Callable[[Path], object]] | None = None,
) -> Path:
    """Write a result folder, replacing one that whichmin wrote there before.

    Args:
        path: where to.
        config: plain values; ``kind`` says what the result is. ``versions`` and ``date`` (UTC) are added.
        arrays: tensors by name.
        metrics: rows of plain values.
        parts: folders within, by name, each written by a function of its path before the whole is moved into place.

    Raises:
        OutputError: the place cannot be written to, or holds something that is not a result of whichmin.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = Path(path)
    if target.exists() and not (target.is_dir() and ((target / "config.json").exists() or not any(target.iterdir()))):
        raise OutputError(f"{target} exists and is not a result of whichmin: choose another place or move it away.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        temporary = temporary_name(target)
        temporary.mkdir()
    except OSError as error:
        raise OutputError(
            f"cannot write to {target.parent}: {error.strerror}. Choose a folder you may write to."
        ) from error
    try:
        made = {"versions": versions(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        (temporary / "config.json").write_text(to_json(made | dict(config), indent=2, sort_keys=True) + "\n")
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in arrays.items()}, temporary / "arrays.safetensors"
        )
        shutil.copymode(temporary / "config.json", temporary / "arrays.safetensors")  # which its library makes private
        (temporary / "metrics.jsonl").write_text("".join(to_json(m) + "\n" for m in metrics))
        for name, write in (parts or {}).items():
            write(temporary / name)
        _replace(temporary, target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}. Choose a folder you may write to.") from error
    except SafetensorError as error:  # how a full disk shows while arrays are written
        raise OutputError(f"cannot write {target}: {error}. Make room, or choose another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def load_folder(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Any], dict[str, Tensor], list[dict[str, Any]]]:
    """Read a result folder back: its configuration, arrays and metrics.

    Raises:
        ResultError: there is no result there, a file of it is missing or damaged, or it is of another kind.
    """
    from safetensors.torch import load_file

    source = located(path)
    if not (source / "config.json").is_file():
        raise ResultError(f"{source} holds no result of whichmin (no config.json): pass the folder that save() wrote.")
    try:
        config = from_json((source / "config.json").read_text())
        arrays = load_file(source / "arrays.safetensors")
        metrics = [from_json(line) for line in (source / "metrics.jsonl").read_text().splitlines()]
    except Exception as error:
        raise ResultError(f"{source} is damaged ({type(error).__name__}: {error}): save the result again.") from error
    if config.get("kind") != kind:
        raise ResultError(f"{source} holds a {config.get('kind')!r}; expected a {kind!r}: load it with its own class.")
    return config, arrays, metrics


def versions() -> dict[str, str]:
    """Of what results depend on, by name."""
    packages = {"whichmin": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
    return packages | {"python": platform.python_version()}


def to_json(value: Any, **options: Any) -> str:
    """A tree of plain values as JSON; numbers that JSON does not have stand as ``{"float": "inf"}``.

    Args:
        value: mappings, lists and tuples of texts, numbers, truth values and None.
        **options: for ``json.dumps``.
    """
    return json.dumps(_with_finite_numbers(value), allow_nan=False, **options)


def from_json(text: str) -> Any:
    """The values that :func:`to_json` was given; tuples are lists."""
    return json.loads(text, object_hook=lambda found: float(found["float"]) if list(found) == ["float"] else found)


def _with_finite_numbers(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(float(value))}
    if isinstance(value, Mapping):
        return {key: _with_finite_numbers(inside) for key, inside in value.items()}
    return [_with_finite_numbers(inside) for inside in value] if isinstance(value, list | tuple) else value


def located(path: str | os.PathLike[str]) -> Path:
    """Where the files of a result folder are: there, or under the name that it has while it is being replaced."""
    target = Path(path)
    previous = _previous(target)
    return previous if not target.exists() and previous.exists() else target


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file as UTF-8, whole or not at all.

    Args:
        path: the file; folders above it are made, a file of that name is replaced.
        text: its content.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder: pass the name of the file to write, such as {path / 'report.html'}.")
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}. Choose a place you may write to.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """A name beside a place that nothing has: what is made under it has the modes that the process's umask leaves."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _replace(temporary: Path, target: Path) -> None:
    """Put a finished folder in place; at every moment the old one or the new one can be read."""
    previous = _previous(target)
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
    temporary.rename(target)
    shutil.rmtree(previous, ignore_errors=True)


def _remove_abandoned(target: Path) -> None:
    """Remove temporary folders of this place that killed processes left behind."""
    for folder in target.parent.glob(f".{target.name}-*"):
        if folder.is_dir() and time.time() - folder.stat().st_mtime > ABANDONED:
            shutil.rmtree(folder, ignore_errors=True)

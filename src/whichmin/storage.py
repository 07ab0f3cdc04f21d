"""Results on disk: a folder of ``config.json``, ``arrays.safetensors`` and ``metrics.jsonl``, whole or absent.

A folder is written under a temporary name beside its place and renamed, so that a killed run leaves nothing
half-written; the one that it replaces is kept under another name until the new one is in place.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from whichmin.errors import OutputError, ResultError


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
        config: plain values; ``kind`` says what the result is.
        arrays: tensors by name.
        metrics: rows of plain values.
        parts: folders within, by name, each written by a function of its path before the whole is moved into place.

    Raises:
        OutputError: the place cannot be written to, or holds something that is not a result of whichmin.
    """
    from safetensors.torch import save_file

    target = Path(path)
    if target.exists() and not (target.is_dir() and ((target / "config.json").exists() or not any(target.iterdir()))):
        raise OutputError(f"{target} exists and is not a result of whichmin: choose another place or move it away.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise OutputError(
            f"cannot write to {target.parent}: {error.strerror}. Choose a folder you may write to."
        ) from error
    try:
        (temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in arrays.items()}, temporary / "arrays.safetensors"
        )
        (temporary / "metrics.jsonl").write_text("".join(json.dumps(m) + "\n" for m in metrics))
        for name, write in (parts or {}).items():
            write(temporary / name)
        temporary.chmod(0o755)
        _replace(temporary, target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}. Choose a folder you may write to.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _replace(temporary: Path, target: Path) -> None:
    previous = _previous(target)
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
    temporary.rename(target)
    shutil.rmtree(previous, ignore_errors=True)


def load_folder(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Any], dict[str, Tensor], list[dict[str, Any]]]:
    """Read a result folder back: its configuration, arrays and metrics.

    Raises:
        ResultError: there is no result there, a file of it is missing or damaged, or it is of another kind.
    """
    from safetensors.torch import load_file

    source = Path(path)
    if not source.exists() and _previous(source).exists():  # a run was killed just as it replaced this result
        source = _previous(source)
    if not (source / "config.json").is_file():
        raise ResultError(f"{source} holds no result of whichmin (no config.json): pass the folder that save() wrote.")
    try:
        config = json.loads((source / "config.json").read_text())
        arrays = load_file(source / "arrays.safetensors")
        metrics = [json.loads(line) for line in (source / "metrics.jsonl").read_text().splitlines()]
    except Exception as error:
        raise ResultError(f"{source} is damaged ({type(error).__name__}: {error}): save the result again.") from error
    if config.get("kind") != kind:
        raise ResultError(f"{source} holds a {config.get('kind')!r}; expected a {kind!r}: load it with its own class.")
    return config, arrays, metrics

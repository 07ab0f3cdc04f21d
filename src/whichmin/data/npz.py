"""``.npz`` files, numpy's archive of named arrays."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from whichmin.data.pool import Examples, Pool
from whichmin.errors import DataError


def npz_pool(path: Path, source: str) -> Pool:
    """The examples of an ``.npz`` file with the arrays X and y, and perhaps X_test and y_test.

    Args:
        path: the file. Integer y of shape (n,) are class labels; any other y are numeric targets.
        source: what messages call it.

    Returns:
        The pool; without X_test it is without a test part of its own.

    Raises:
        DataError: an unreadable file, a missing array, one of the wrong type, or lengths that differ.
    """
    arrays, found = _arrays(path)
    missing = [name for name in ("X", "y") if name not in arrays]
    missing += ["X_test"] if "y_test" in arrays and "X_test" not in arrays else []
    if missing:
        raise DataError(f"{path} lacks {' and '.join(missing)}; it holds {found}. Write np.savez(path, X=…, y=…).")
    tensors = {name: _tensor(array, name, path) for name, array in arrays.items()}
    train = _examples(tensors["X"], tensors["y"], "X", "y", path)
    if "X_test" not in tensors:
        return Pool(source, train)
    return Pool(source, train, _examples(tensors["X_test"], tensors.get("y_test"), "X_test", "y_test", path))


def _arrays(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays that are asked for, and the names of all that are there."""
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path} holds a single array; expected an .npz file, np.savez(path, X=…, y=…).")
        with archive:
            arrays = {name: archive[name] for name in archive.files if name in ("X", "y", "X_test", "y_test")}
            return arrays, ", ".join(archive.files) or "nothing"
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"cannot read {path} as an .npz file: {error}. Write it with np.savez(path, X=…, y=…)."
        ) from error


def _tensor(array: np.ndarray, name: str, path: Path) -> Tensor:
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise DataError(f"{name} in {path} is {array.dtype} of shape {array.shape}; expected rows of numbers.")
    array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array.astype(np.int64) if array.dtype.kind in "ub" and array.dtype != np.uint8 else array)


def _examples(X: Tensor, y: Tensor | None, x_name: str, y_name: str, path: Path) -> Examples:
    if y is not None and len(X) != len(y):
        raise DataError(
            f"{x_name} in {path} has {len(X)} rows and {y_name} {len(y)}: one target per input is expected."
        )
    if y is not None and y.ndim == 1 and not y.is_floating_point():
        y = y.long()
    elif y is not None and not y.is_floating_point():
        y = y.double()
    return Examples(X, y)

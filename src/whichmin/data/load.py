"""A task from the name of a data set or from files."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whichmin.data.catalogue import CATALOGUE, FOLDER, by_hand, data_folder, find
from whichmin.data.cifar import cifar_pool
from whichmin.data.digits import digits_pool
from whichmin.data.idx import find_images, idx_pool
from whichmin.data.images import image_pool, is_image_folder
from whichmin.data.npz import npz_pool
from whichmin.data.pool import Examples, Pool
from whichmin.data.select import choose
from whichmin.data.table import table_task
from whichmin.devices import default_device_aside
from whichmin.errors import DataError
from whichmin.formats import OPENML, is_table
from whichmin.losses import Loss, loss_of
from whichmin.losses.elementwise import BinaryCrossEntropy
from whichmin.task import Task

#: How many examples are drawn to train on, and to test on, unless told.
COUNT = 100

#: Data sets that have a name.
NAMES = ("digits", *CATALOGUE)

#: The endings of files that people have and that are not read, each with what pandas reads it by.
_OTHERS: dict[str, str | None] = {
    ".tsv": "read_table",
    ".txt": "read_csv",
    ".feather": "read_feather",
    ".json": "read_json",
    ".xlsx": "read_excel",
    ".xls": "read_excel",
} | dict.fromkeys((".npy", ".pt", ".pth", ".pkl", ".mat", ".h5", ".hdf5", ".arff", ".png", ".jpg", ".zip", ".tar"))


@default_device_aside()
def load(
    name_or_path: str | os.PathLike[str],
    *,
    classes: Sequence[int | str] | None = None,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
    target: str | None = None,
    test: float = 0.3,
    standardize: bool = True,
    flat: bool | None = None,
    dtype: torch.dtype = torch.float32,
    loss: Any = None,
) -> Task:
    """A task from a data set: a seeded draw of examples, as balanced over the classes as possible.

    Two classes become the targets −1 (the first of ``classes``) and +1, shape (N, 1); C > 2 classes become one-hot
    rows minus 1/C, shape (N, C), so that every row sums to 0; for ``torch.nn.CrossEntropyLoss`` and functions class
    numbers, for ``BCEWithLogitsLoss`` 0 and 1. Pixels are scaled to [0, 1]. The draw is one seeded order
    per data set: training examples from its front and test examples from its back, disjoint always.

    Args:
        name_or_path: "digits" (scikit-learn's, 8×8), "mnist", "fashion-mnist" or "cifar-10" (folders within the one
            that the environment variable WHICHMIN_DATA names, or within ``whichmin`` in the user's cache folder;
            :func:`whichmin.data.fetch` puts them there), "openml:61", the table of number 61 of openml.org; or a path:
            a folder or a file of IDX images, a folder or a file of CIFAR-10's binary version, a folder of images for
            each class, an ``.npz`` file with X, y and perhaps X_test, y_test, or a table with named columns, ``.csv``
            or ``.parquet``. Tables become tasks by :meth:`whichmin.Task.from_frame`.
        classes: labels, or names where the data set has them, of the classes to tell apart; None means all of them.
        n_train: how many training examples, N; None for 100, and of a table for all that are not tested on.
        n_test: how many test examples; 0 for a task without a test set; None for 100, and of a table for the share
            ``test``. Without a test part of its own a data set is split into two disjoint parts.
        seed: of the draw.
        target: of a table, the column of targets; None for the one that OpenML names.
        test: of a table, the share of its rows to test on.
        standardize: of a table, whether columns of numbers get mean 0 and standard deviation 1.
        flat: whether images are flattened; by default digits and IDX images are ((N, 64), (N, 784)), and CIFAR-10's
            are not ((N, 3, 32, 32)). False keeps (N, channels, height, width).
        dtype: of inputs and targets.
        loss: as for :class:`whichmin.Task`.

    Returns:
        The task. In an ``.npz`` file integer y are classes and other y are kept as they are; uint8 X are pixels.

    Raises:
        DataError: an unknown name, a missing or damaged file, a class that is not there, or fewer examples than asked
            for; the message says how many there are.
    """
    if (n_train is not None and n_train < 1) or (n_test is not None and n_test < 0):
        raise DataError(f"n_train is {n_train} and n_test {n_test}; expected n_train ≥ 1 and n_test ≥ 0.")
    name = os.fspath(name_or_path)
    if is_table(name):
        name = name if name.lower().startswith(OPENML) else os.fspath(Path(name).expanduser())
        if not (name.lower().startswith(OPENML) or Path(name).exists()):
            raise DataError(_unknown(os.fspath(name_or_path)))
        return table_task(name, target, classes, test, standardize, seed, n_train, n_test, loss).to(dtype)
    if target is not None:
        raise DataError(f"target is {target!r}, a column of a table, and {name} is none: leave it out.")
    n_train, n_test = (COUNT if n is None else n for n in (n_train, n_test))
    pool = _pool(name_or_path)
    drawn, tested, labels = choose(pool, classes, n_train, n_test, seed)
    flat = pool.flat if flat is None else flat
    loss = loss_of(loss)
    X, y = _inputs(drawn, pool, flat, dtype), _targets(drawn, labels, dtype, loss)
    assert y is not None, "every reader supplies training targets"
    classes = labels if labels and not y.is_floating_point() else None
    prepared = {"data": name, "seed": seed} | _prepared(pool, drawn, labels, y, flat)
    if n_test == 0:
        return Task(X, y, loss=loss, classes=classes, prepared=prepared)
    X_test, y_test = _inputs(tested, pool, flat, dtype), _targets(tested, labels, dtype, loss)
    return Task(X, y, X_test, y_test, loss, classes, prepared=prepared)


def _pool(name_or_path: str | os.PathLike[str]) -> Pool:
    name = os.fspath(name_or_path)
    if name == "digits":
        return digits_pool()
    path = _folder_of(name) if name in CATALOGUE else Path(name).expanduser()
    if not path.exists():
        raise DataError(_unknown(name))
    if path.suffix == ".npz":
        return npz_pool(path, name)
    if path.suffix.lower() in _OTHERS:
        raise DataError(_not_read(path))
    if path.is_file():
        return cifar_pool(path, name) if path.suffix == ".bin" else idx_pool(path, name)
    if any(path.glob("*_batch*.bin")):
        return cifar_pool(path, name)
    if find_images(path, "train") or find_images(path, "t10k"):
        return idx_pool(path, name)
    if is_image_folder(path):
        return image_pool(path, name)
    raise DataError(
        f"{path} is a folder without data that whichmin reads: expected IDX files (train-images-idx3-ubyte, "
        "t10k-images-idx3-ubyte and their labels, plain or .gz), CIFAR-10's (data_batch_*.bin, test_batch.bin), or a "
        "folder of images for each class."
    )


def _not_read(path: Path) -> str:
    """What to write for a file of a kind that is not read."""
    read = _OTHERS[path.suffix.lower()]
    if read is None:
        target = str(path.with_suffix(".npz"))
        how = f"an .npz file in Python: np.savez({target!r}, X=…, y=…), a row of X and an entry of y for each example"
    else:
        target = str(path.with_suffix(".csv"))
        how = f"a table in Python: import pandas as pd; pd.{read}({str(path)!r}).to_csv({target!r}, index=False)"
    return (
        f"{path} is a {path.suffix} file, which whichmin does not read; expected a table, .csv or .parquet, an .npz "
        f"file with X and y, or IDX or CIFAR-10 files. Make {how}."
    )


def _folder_of(name: str) -> Path:
    known, root = CATALOGUE[name], data_folder()
    folder = find(known, root)
    if folder is None:
        unset = f"{root} (the environment variable {FOLDER} is not set)"
        where = f"{FOLDER}={root}" if os.environ.get(FOLDER) else unset
        hand = by_hand(known, root / known.folders[0])
        raise DataError(f"{name!r} is not in {where}: fetch it, whichmin data fetch {name}, or {hand}.")
    return folder


def _unknown(name: str) -> str:
    if os.sep in name or Path(name).suffix or name.startswith(("~", ".")):
        return f"there is no file or folder {name}."
    close = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"there is no data set {name!r}, nor a file or folder of that name; known are {', '.join(NAMES)}.{hint}"


def _inputs(part: Examples, pool: Pool, flat: bool, dtype: torch.dtype) -> Tensor:
    X = part.X.to(dtype) / pool.white if part.X.dtype == torch.uint8 else part.X.to(dtype)
    return X.flatten(1) if flat else X


def _prepared(pool: Pool, drawn: Examples, labels: tuple[int, ...], y: Tensor, flat: bool) -> dict[str, Any]:
    """What was done to the inputs and to the classes, as plain values."""
    assert drawn.y is not None, "every reader supplies training targets"
    divided = pool.white if drawn.X.dtype == torch.uint8 else 1.0
    rows = {str(label): (drawn.y == label).nonzero() for label in labels}
    targets = {label: y[int(found[0, 0])].tolist() for label, found in rows.items() if len(found)}
    own_test = "of its own" if pool.test is not None else "drawn from the same examples"
    return {"inputs divided by": divided, "flattened": flat, "targets of classes": targets, "test set": own_test}


def _targets(part: Examples, labels: tuple[int, ...], dtype: torch.dtype, loss: Loss) -> Tensor | None:
    if part.y is None or not labels:
        return None if part.y is None else part.y.to(dtype)
    hot = part.y[:, None] == torch.tensor(labels)
    if loss.takes_classes:
        return hot.to(torch.int8).argmax(1)
    if isinstance(loss, BinaryCrossEntropy):
        return hot[:, 1:].to(dtype) if len(labels) == 2 else hot.to(dtype)
    if len(labels) == 2:
        return hot[:, 1:].to(dtype) * 2 - 1
    return hot.to(dtype) - 1 / len(labels)
